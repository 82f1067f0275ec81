"""What the engine asks of a drafter, and the little it shows it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from mtpcli.config import SamplingConfig
from mtpcli.decode.constraint import Constraint
from mtpcli.decode.sampling import Distribution
from mtpcli.decode.sharpness import Sharpness


@dataclass(slots=True)
class DraftRequest:
    """One sequence that wants a draft.

    Attributes:
        seq: its number in the contexts.
        position: where its last token will stand; the target has not decoded that token yet.
        token: its last token.
        hidden: float32 `[n_embd]`, the target's hidden state that produced that token.
        depth: how many tokens to draft, at least 1.
        sampling: how to sample the draft.
        constraint: what may follow the last token. It is the sequence's own: a draft that goes by
            it works on a clone. One that does not is right too, and accepted less often.
        recent: the last tokens, where penalties look at them.
        sharpness: how far to trust the drafter, where its drafts get the target's noise.
    """

    seq: int
    position: int
    token: int
    hidden: npt.NDArray[np.float32]
    depth: int
    sampling: SamplingConfig
    constraint: Constraint | None = None
    recent: Sequence[int] = ()
    sharpness: Sharpness | None = None


@dataclass(slots=True)
class Draft:
    """Proposed tokens.

    Attributes:
        tokens: in their order.
        confidences: how sure the drafter was of each: its own probability, 0 to 1.
        source: name of the drafter.
        kept: what each was drawn from, if it was drawn.
        rivals: what would have been drafted in their places with more or less sharpness.
    """

    tokens: list[int] = field(default_factory=list)
    confidences: list[float] = field(default_factory=list)
    source: str = ""
    kept: list[Distribution | None] = field(default_factory=list)
    rivals: list[Sequence[int] | None] = field(default_factory=list)

    def cut(self, length: int) -> Draft:
        """The first so many of them."""
        if length >= len(self.tokens):
            return self
        return Draft(
            self.tokens[:length],
            self.confidences[:length],
            self.source,
            self.kept[:length],
            self.rivals[:length],
        )


GoOn = Callable[[Sequence[float]], bool]
"""Whether to draft another token after some with these confidences."""


class Drafter(Protocol):
    """Proposes tokens. Whatever it proposes, the text stays the target's own.

    Attributes:
        name: shown in statistics.
        decode_seconds: time spent in llama.cpp's decodes so far, and in heads that take the place
            of a part of them.
    """

    name: str
    decode_seconds: float

    def draft(self, requests: Sequence[DraftRequest], go_on: GoOn) -> list[Draft]:
        """A draft per request, of at most `depth` tokens; may be shorter, or empty."""
        ...

    def set_threads(self, threads: int) -> None:
        """Draft with so many threads from now on; 0 is as many as the target has."""
        ...

    def close(self) -> None:
        """Free what it owns; twice is harmless."""
        ...
