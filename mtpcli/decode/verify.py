"""Which drafted tokens stand: pure functions of the draft and of what the target says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


def accept(draft: Sequence[int], choose: Callable[[int], int]) -> list[int]:
    """The target's own tokens along a draft, up to and including the first that differs.

    The result is what plain decoding would have given, whatever was drafted: row i of a verify is
    conditioned on draft[:i], which by then equals the target's own tokens.

    Args:
        draft: k drafted tokens.
        choose: the target's token after the first i drafted ones, for i in 0..k. It is called in
            order, and not beyond the first difference.

    Returns:
        1 to k + 1 tokens: all but the last were drafted and accepted.
    """
    tokens: list[int] = []
    for drafted in draft:
        tokens.append(choose(len(tokens)))
        if tokens[-1] != drafted:
            return tokens
    tokens.append(choose(len(tokens)))
    return tokens


def reject(
    draft: Sequence[int],
    proposed: Callable[[int], Probabilities | None],
    wanted: Callable[[int], Probabilities],
    uniform: Callable[[int], float],
    pick: Callable[[int, Probabilities], int],
) -> list[int]:
    """Tokens distributed as the target's own, along a draft that was sampled independently.

    A drafted token x is kept with probability min(1, p(x) / q(x)); the first that is not is
    replaced by one from the normalised positive part of p - q. Sources: Leviathan, Kalman and
    Matias, "Fast inference from transformers via speculative decoding" (2023); Chen et al.,
    "Accelerating large language model decoding with speculative sampling" (2023).

    Args:
        draft: k drafted tokens.
        proposed: q of the i-th drafted token; None where it was certain.
        wanted: the target's p after the first i drafted ones, for i in 0..k, asked in order.
        uniform: a number in (0, 1) for place i, independent of all else.
        pick: draws from unnormalised weights for place i, independent of the draft.

    Returns:
        1 to k + 1 tokens: all but the last were drafted and accepted.
    """
    tokens: list[int] = []
    for place, token in enumerate(draft):
        p, q = wanted(place), proposed(place)
        share = p.of(token) / (q.of(token) if q else 1.0)
        if uniform(place) >= share:
            rest = p.less(q if q else Probabilities.certain(token))
            # p and q are equal up to rounding: what is left of p is as good as p.
            tokens.append(pick(place, rest if rest.values.any() else p))
            return tokens
        tokens.append(token)
    tokens.append(pick(len(draft), wanted(len(draft))))
    return tokens


@dataclass(frozen=True)
class Probabilities:
    """A sparse distribution.

    Attributes:
        ids: int64 `[n]`, each once.
        values: float64 `[n]`, not negative.
    """

    ids: npt.NDArray[np.int64]
    values: npt.NDArray[np.float64]

    @staticmethod
    def certain(token: int) -> Probabilities:
        """All of it on one token."""
        return Probabilities(np.array([token]), np.ones(1))

    def of(self, token: int) -> float:
        """Probability of a token; 0 if it is not among the ids."""
        return float(self.values[self.ids == token].sum())

    def less(self, other: Probabilities) -> Probabilities:
        """The positive part of the difference, not normalised."""
        same = self.ids[:, None] == other.ids[None, :]
        return Probabilities(self.ids, np.maximum(0.0, self.values - same @ other.values))
