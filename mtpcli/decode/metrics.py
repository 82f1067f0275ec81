"""What happened in the rounds of a generation: counts and times, added up as they come."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class SpeculationStats:
    """Drafts and acceptances of one sequence.

    Attributes:
        rounds: target decodes after the prompt, plain ones included.
        plain_rounds: rounds without a draft.
        drafted, accepted: tokens.
        tokens: tokens kept in the rounds, the target's own included.
        drafted_at, accepted_at: counts by position in the draft, the first position first.
        by_source: drafted and accepted tokens, by the name of who proposed them.
    """

    rounds: int = 0
    plain_rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    tokens: int = 0
    drafted_at: list[int] = field(default_factory=list)
    accepted_at: list[int] = field(default_factory=list)
    by_source: dict[str, list[int]] = field(default_factory=dict)

    def add(self, drafted: int, accepted: int, kept: int, source: str = "") -> None:
        """Count one round: `kept` tokens stayed, `accepted` of the `drafted` ones among them."""
        if drafted:
            by_source = self.by_source.setdefault(source, [0, 0])
            by_source[0] += drafted
            by_source[1] += accepted
        self.rounds += 1
        self.plain_rounds += drafted == 0
        self.drafted += drafted
        self.accepted += accepted
        self.tokens += kept
        for counts, depth in ((self.drafted_at, drafted), (self.accepted_at, accepted)):
            counts.extend([0] * (drafted - len(counts)))
            for position in range(depth):
                counts[position] += 1

    def merge(self, other: SpeculationStats) -> None:
        """Add another sequence's counts to these."""
        for name in ("rounds", "plain_rounds", "drafted", "accepted", "tokens"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for mine, theirs in (
            (self.drafted_at, other.drafted_at),
            (self.accepted_at, other.accepted_at),
        ):
            mine.extend([0] * (len(theirs) - len(mine)))
            for position, count in enumerate(theirs):
                mine[position] += count
        for source, (drafted, accepted) in other.by_source.items():
            counts = self.by_source.setdefault(source, [0, 0])
            counts[0] += drafted
            counts[1] += accepted

    @property
    def acceptance(self) -> float | None:
        """Share of the drafted tokens that were accepted; None if nothing was drafted."""
        return self.accepted / self.drafted if self.drafted else None

    @property
    def acceptance_by_position(self) -> list[float]:
        """Share of the drafts of at least that length whose token there was accepted.

        A token is accepted only with all before it, so the shares fall from left to right.
        """
        return [
            accepted / drafted
            for accepted, drafted in zip(self.accepted_at, self.drafted_at, strict=True)
        ]

    @property
    def tokens_per_round(self) -> float | None:
        """Tokens that one target decode gave on average."""
        return self.tokens / self.rounds if self.rounds else None


@dataclass
class Timings:
    """Seconds by phase; `decode` is the whole of the rounds and contains `draft` and `verify`.

    Attributes:
        prompt: decoding prompts.
        decode: all rounds, from the first draft to the last commit.
        draft: drafter's decodes in llama.cpp, and its ordered head where it has one.
        verify: target's decodes in llama.cpp.
    """

    prompt: float = 0.0
    decode: float = 0.0
    draft: float = 0.0
    verify: float = 0.0

    def merge(self, other: Timings) -> None:
        """Add another generation's times to these."""
        for name in ("prompt", "decode", "draft", "verify"):
            setattr(self, name, getattr(self, name) + getattr(other, name))

    @property
    def rest(self) -> float:
        """Time of the rounds outside of llama.cpp's decodes."""
        return self.decode - self.draft - self.verify
