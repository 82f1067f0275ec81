"""Standard output is the answer, standard error is everything else; text from models is data."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mtpcli.decode.health import DrafterHealth
from mtpcli.decode.metrics import SpeculationStats, Timings
from mtpcli.prompt.thinking import Channel, Pieces
from mtpcli.sanitize import visible

if TYPE_CHECKING:
    from rich.console import Console

_DIM, _PLAIN = "\x1b[2m", "\x1b[0m"


def note(message: str) -> None:
    """One line for the person, on standard error."""
    print(f"mtpcli: {visible(message)}", file=sys.stderr, flush=True)


def warn(health: DrafterHealth) -> None:
    """What was found out about the drafter since the last call."""
    for notice in health.news():
        note(f"warning: {notice}")


def wants_colour(stream: Any) -> bool:
    """Colour only on a terminal, and not against the user's will (https://no-color.org)."""
    return bool(stream.isatty()) and not os.environ.get("NO_COLOR")


@contextmanager
def console() -> Iterator[Console]:
    """Prints tables on standard output.

    In a pipe a line is a line, however long, and ends with its last word.
    """
    from rich.console import Console

    if sys.stdout.isatty():
        yield Console(force_terminal=True, no_color=not wants_colour(sys.stdout), highlight=False)
        return
    paper = io.StringIO()
    yield Console(file=paper, force_terminal=False, width=10_000, highlight=False)
    for line in paper.getvalue().splitlines():
        print(line.rstrip())


def print_json(value: Any) -> None:
    """One JSON object on one line of standard output."""
    # ASCII would do, but people read this too; a lone surrogate cannot be written as UTF-8.
    text = json.dumps(value, ensure_ascii=False)
    sys.stdout.write(text.encode("utf-8", "replace").decode() + "\n")
    sys.stdout.flush()


class AnswerWriter:
    """Shows a generation as it comes: the answer on standard output, thoughts on standard error.

    On a terminal control characters are shown instead of obeyed. In a pipe the text is passed on
    as it is.
    """

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._dim = wants_colour(sys.stderr)
        self._last = ""

    def write(self, pieces: Pieces) -> None:
        """Show pieces at once."""
        for channel, text in pieces:
            if channel is Channel.THOUGHT:
                shown = visible(text)
                sys.stderr.write(f"{_DIM}{shown}{_PLAIN}" if self._dim else shown)
                sys.stderr.flush()
            else:
                sys.stdout.write(visible(text) if self._terminal else text)
                self._last = text[-1]
        sys.stdout.flush()

    def end(self) -> None:
        """Finish the last line."""
        if self._last != "\n":
            sys.stdout.write("\n")
        self._last = "\n"
        sys.stdout.flush()


def speculation(
    stats: SpeculationStats, drafter: str | None, failure: str | None
) -> dict[str, Any]:
    """The `speculation` object of JSON output; `failure` is why the drafter was given up."""
    return {
        "drafter": drafter,
        "failure": failure,
        "rounds": stats.rounds,
        "drafted": stats.drafted,
        "accepted": stats.accepted,
        "acceptance_by_position": [round(share, 4) for share in stats.acceptance_by_position],
        "tokens_per_round": _rounded(stats.tokens_per_round),
        "plain_rounds": stats.plain_rounds,
    }


def timings(load_seconds: float, spent: Timings, tokens: int) -> dict[str, Any]:
    """The `timings` object of JSON output; milliseconds, and tokens per second of decoding."""
    return {
        "load_ms": _rounded(load_seconds * 1e3),
        "prompt_ms": _rounded(spent.prompt * 1e3),
        "decode_ms": _rounded(spent.decode * 1e3),
        "tokens_per_second": _rounded(tokens_per_second(tokens, spent)),
    }


def tokens_per_second(tokens: int, spent: Timings) -> float | None:
    """Speed of decoding; the first token belongs to the prompt."""
    return (tokens - 1) / spent.decode if tokens > 1 and spent.decode else None


def stats_line(stats: SpeculationStats, spent: Timings, tokens: int, drafter: str | None) -> str:
    """What happened, in one line."""
    speed = tokens_per_second(tokens, spent)
    parts = [f"{tokens} tokens", f"{speed:.1f} tokens/s" if speed else "no decode"]
    if drafter is None:
        parts.append("plain decoding")
    elif stats.drafted:
        by_position = " ".join(f"{share:.2f}" for share in stats.acceptance_by_position)
        parts.append(f"{drafter}: {stats.accepted} of {stats.drafted} drafted tokens accepted")
        parts.append(f"by position {by_position}")
        parts.append(f"{stats.tokens_per_round:.2f} tokens per round")
    else:
        parts.append(f"{drafter}: nothing drafted")
    return " · ".join(parts)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
