"""How fast, and how much faster than plain decoding would have been in the same conversation."""

from __future__ import annotations

from dataclasses import dataclass, field

from mtpcli.decode.metrics import SpeculationStats, Timings

# Plain rounds in a row. The first of them is not counted: llama.cpp builds its graph anew.
_BURST = 5
# Contexts grow and machines get busy, so the plain speed is measured again after so many answers.
_EVERY = 8


@dataclass
class PlainSpeed:
    """Measures plain decoding by leaving out the drafts of a few rounds now and then.

    The text does not change by it, only the time: a handful of rounds of every eighth answer.

    Attributes:
        tokens, seconds: of the plain rounds that count, since the last measurement began.
    """

    tokens: int = 0
    seconds: float = 0.0
    _answers: int = 0
    _left: int = 0
    _warm: bool = False

    def begin_answer(self) -> None:
        """An answer begins: perhaps it is the one to measure in."""
        if self._answers % _EVERY == 0:
            self._left = _BURST
            self.tokens, self.seconds = 0, 0.0
        self._answers += 1
        self._warm = False

    @property
    def wants_plain(self) -> bool:
        """Whether the next round should be a plain one."""
        return self._left > 0

    def add(self, tokens: int, seconds: float, *, plain: bool) -> None:
        """Count a round; whoever decided that it was plain, it tells the plain speed."""
        if plain and self._warm:
            self.tokens += tokens
            self.seconds += seconds
        self._warm = plain
        if plain and self._left:
            self._left -= 1

    @property
    def tokens_per_second(self) -> float | None:
        """None as long as nothing was measured."""
        return self.tokens / self.seconds if self.seconds else None


@dataclass(frozen=True)
class Report:
    """What one answer cost.

    Attributes:
        prompt: tokens of the prompt.
        reused: how many of them had KV cells from earlier turns.
        again: tokens of the conversation so far that were decoded again before it, because the
            template renders the history otherwise than it was written.
        tokens: tokens of the answer.
        seconds: time to decode them, after the first.
        plain: tokens per second of plain decoding in this conversation, if measured.
        finish: why it ended: `stop`, `length`, `context` or `interrupted`.
        kept: whether it is part of the conversation.
        seed: the seed that gave it.
    """

    prompt: int
    reused: int
    again: int
    tokens: int
    spent: Timings
    stats: SpeculationStats
    plain: float | None
    finish: str
    kept: bool
    seed: int

    @property
    def decoded(self) -> int:
        """Tokens of the prompt that were decoded for this answer."""
        return self.prompt - self.reused

    @property
    def tokens_per_second(self) -> float | None:
        """Speed of decoding; the first token belongs to the prompt."""
        return (self.tokens - 1) / self.spent.decode if self.tokens > 1 else None

    @property
    def speedup(self) -> float | None:
        """Speed as a multiple of the plain one."""
        speed = self.tokens_per_second
        return speed / self.plain if speed and self.plain else None

    @property
    def depth(self) -> float | None:
        """Tokens per draft on average; None if nothing was drafted."""
        drafts = self.stats.rounds - self.stats.plain_rounds
        return self.stats.drafted / drafts if drafts else None

    def line(self, n_ctx: int) -> str:
        """The figures in one line."""
        parts = [f"{self.tokens} token{'s' if self.tokens != 1 else ''}"]
        if self.tokens_per_second:
            parts.append(f"{self.tokens_per_second:.1f} tokens/s")
        if self.depth is None:
            parts.append("plain decoding")
        else:
            if self.speedup:
                parts.append(f"{self.speedup:.2f}x plain")
            parts.append(f"accepted {self.stats.accepted}/{self.stats.drafted}")
            parts.append(f"depth {self.depth:.1f}")
        parts.append(f"context {self.prompt + self.tokens}/{n_ctx}")
        return " · ".join(parts)


@dataclass
class Totals:
    """All answers of a conversation together."""

    reports: list[Report] = field(default_factory=list)

    def lines(self, n_ctx: int) -> list[str]:
        """A table of the answers with prompt-token counts, and the figures of the last one."""
        if not self.reports:
            return ["nothing was answered yet"]
        head = ("answer", "prompt", "kept", "decoded", "again", "tokens", "tokens/s", "accepted")
        rows = [head, *(self._row(index, report) for index, report in enumerate(self.reports, 1))]
        lines = ["  ".join(f"{cell:>8}" for cell in row) for row in rows]
        kept = sum(report.reused for report in self.reports)
        prompt = sum(report.prompt for report in self.reports)
        again = sum(report.again for report in self.reports)
        lines.append(
            f"prompt tokens: {prompt}, of which {kept} were kept from earlier turns and "
            f"{prompt - kept} decoded; {again} decoded again between the turns"
        )
        lines.append(f"last answer: {self.reports[-1].line(n_ctx)}")
        plain = self.reports[-1].plain
        if plain:
            lines.append(f"plain decoding in this conversation: {plain:.1f} tokens/s")
        return lines

    @staticmethod
    def _row(index: int, report: Report) -> tuple[str, ...]:
        speed, accepted = report.tokens_per_second, report.stats.acceptance
        return (
            str(index),
            str(report.prompt),
            str(report.reused),
            str(report.decoded),
            str(report.again),
            str(report.tokens),
            f"{speed:.1f}" if speed else "-",
            f"{accepted:.0%}" if accepted is not None else "-",
        )
