"""How far to trust what a drafter prefers, where sampled text is drafted with the target's noise.

The target takes the token with the largest log-probability plus noise. Of a drafter that is less
sure than its target, the preferences count for more than it says; of one that is as sure, for as
much. Which it is depends on the text, and every token that the target chooses tells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FACTORS = np.array((1.0, 1.5, 2.5))
"""That the drafter's log-probabilities may be multiplied by."""

_KEEP = 0.85  # of what was counted, per token about which the factors disagree


class Sharpness:
    """The factor that would have drafted best lately.

    Attributes:
        best: its place in `FACTORS`.
    """

    def __init__(self) -> None:
        self.best = 0
        self._right = [0.0] * len(FACTORS)

    def observe(self, rivals: Sequence[int], token: int) -> None:
        """What each of the factors would have drafted where the target chose a token."""
        self._right = [
            _KEEP * right + (rival == token)
            for right, rival in zip(self._right, rivals, strict=True)
        ]
        most = max(self._right)
        if self._right[self.best] < most:
            self.best = self._right.index(most)
