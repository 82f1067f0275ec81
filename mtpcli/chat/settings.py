"""What can be set between turns: names, limits, and what a value means."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

from mtpcli.config import SAMPLING_RANGES, SamplingConfig
from mtpcli.errors import UsageError

MAX_SEED = 2**64 - 1
MAX_COUNT = 2**31


@dataclass(frozen=True)
class Knob:
    """A number of `SamplingConfig`.

    Attributes:
        name: as the user writes it.
        field: of `SamplingConfig`.
        low, high: limits, both allowed.
        whole: no fractions.
        always: show it even where it has its default.
    """

    name: str
    field: str
    low: float
    high: float
    whole: bool = False
    always: bool = False

    def allows(self, value: Any) -> bool:
        """Whether a value is a number within the limits."""
        kinds = (int,) if self.whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not math.isfinite(value):
            return False
        return self.low <= value <= self.high

    def parse(self, text: str) -> float:
        """The number in a text.

        Raises:
            UsageError: it is none, or beyond the limits.
        """
        try:
            value: float = int(text) if self.whole else float(text)
        except ValueError:
            value = math.nan
        if not self.allows(value):
            raise UsageError(f"{self.name} is {self._range()}")
        return value

    def _range(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.low:.10g} to {self.high:.10g}"


_ALWAYS = {"temperature", "top-p"}
_REALS = [
    Knob(name, field, low, high, always=name in _ALWAYS)
    for field, (name, low, high) in SAMPLING_RANGES.items()
]
_TOP_K = Knob("top-k", "top_k", 0, MAX_COUNT, whole=True, always=True)
KNOBS = {knob.name: knob for knob in (_REALS[0], _TOP_K, *_REALS[1:])}


@dataclass
class Settings:
    """What the user can change between turns.

    Attributes:
        sampling: its seed counts for nothing.
        seed: the seed of every answer; None for another one each time.
        thinking: let the model think before it answers.
        max_tokens: limit of an answer, or None.
    """

    sampling: SamplingConfig
    seed: int | None = None
    thinking: bool = False
    max_tokens: int | None = None

    def set(self, name: str, text: str) -> None:
        """Set what has this name.

        Raises:
            UsageError: there is no such setting, or it cannot have this value.
        """
        if name == "seed":
            self.seed = None if text == "random" else parse_count(name, text, 0, MAX_SEED)
        elif name == "max-tokens":
            self.max_tokens = None if text == "none" else parse_count(name, text, 1, MAX_COUNT)
        elif name in KNOBS:
            knob = KNOBS[name]
            change: dict[str, Any] = {knob.field: knob.parse(text)}
            self.sampling = replace(self.sampling, **change)
        else:
            raise UsageError(f"nothing is called {name}: /set knows {', '.join(NAMES)}")

    def line(self) -> str:
        """All of them in one line, without what is off."""
        default, parts = SamplingConfig(), []
        for knob in KNOBS.values():
            value = getattr(self.sampling, knob.field)
            if knob.always or value != getattr(default, knob.field):
                parts.append(f"{knob.name} {value:g}")
        parts.append(f"seed {self.seed_text()}")
        parts.append(f"max-tokens {self.max_tokens or 'none'}")
        return " · ".join(parts)

    def seed_text(self) -> str:
        """The fixed seed, or `random`."""
        return "random" if self.seed is None else str(self.seed)


NAMES = (*KNOBS, "seed", "max-tokens")


def parse_count(name: str, text: str, low: int, high: int) -> int:
    """A whole number within limits.

    Raises:
        UsageError: it is none.
    """
    digits = text.isascii() and text.isdigit() and len(text) <= 20
    if not digits or not low <= int(text) <= high:
        raise UsageError(f"{name} is a whole number from {low} to {high}")
    return int(text)
