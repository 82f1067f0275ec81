"""What a text must look like, asked token by token: the engine knows grammars by this alone."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt


class Constraint(Protocol):
    """Where a text stands in a grammar. It belongs to one text; others start from a clone.

    An end token is allowed exactly where the grammar allows the end. After it everything is
    allowed, because nothing of that is kept: a draft may run on past the end.
    """

    def allowed(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        """Which of the tokens `[n]` may come next, as bools `[n]`."""
        ...

    def accept(self, token: int) -> None:
        """Go on behind a token, which must be one that is allowed."""
        ...

    def clone(self) -> Constraint:
        """A state of its own at the same place; whoever asks for it closes it."""
        ...

    def close(self) -> None:
        """Free what it owns; twice is harmless."""
        ...
