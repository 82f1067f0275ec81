"""What rounds cost on this machine, for this file, and how often drafts are right in general."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mtpcli.decode.acceptance import Usual

# Of the logarithms of times, standard deviations: about as much as shares of the times.
_PACE = 0.3  # of the machine's pace, against when the times were kept
_KEPT = 0.07  # of a size's own time, as it was kept from an earlier run
_NEW = 0.2  # of a size's that was never timed, guessed from those around it
_DRIFT = 0.0005  # of a size's own time, from one decode to the next
_JITTER, _LEAST_JITTER = 0.1, 0.02  # of a decode's: at first, and at least
_LEARN = 0.02  # weight of a new surprise in the jitter
_SLOW = 2.5  # by more of them no time counts as slower: the decode was interrupted
_FOUR = 4  # kernels take so many rows at once, and fewer are not always cheaper


@dataclass
class Curve:
    """Seconds by number of rows, where they are known."""

    seconds: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._rows: list[int] = []  # in the order of the covariances
        self._covariances = np.zeros((0, 0))  # of the logarithms of the times, float64 [n, n]
        self._jitter = _JITTER**2
        self._last = 0  # rows of the last decode

    def add(self, rows: int, seconds: float, doubt: float = 0.0) -> None:
        """Take a new time into the estimates.

        Most of what makes a decode slower or faster than the one before, a longer context or a
        busy machine, does so to all numbers of rows: the pace walks at random, as far in one decode
        as one decode's jitter, and each size's time is a share of it (a Kalman filter of the
        logarithms; Kalman 1960). What is the pace's and what a size's own shows when sizes change.

        Args:
            doubt: seconds that it may be off, where it was not measured by itself.
        """
        if seconds <= 0:
            return  # shorter than the clock can tell
        if not self._rows:
            self._rows = list(self.seconds)
            self._covariances = _PACE**2 + _KEPT**2 * np.eye(len(self._rows))
        if rows not in self._rows:
            self._guess(rows, seconds)
        covariances, at = self._covariances, self._rows.index(rows)
        covariances += self._jitter
        covariances.flat[:: len(self._rows) + 1] += _DRIFT**2
        variance = float(covariances[at, at]) + self._jitter + (doubt / seconds) ** 2
        most = _SLOW * math.sqrt(variance)
        surprise = min(most, math.log(seconds / self.seconds[rows]))
        gains = covariances[at] / variance
        covariances -= gains[:, None] * covariances[at]
        if rows == self._last:  # else it may be the sizes' times that are wrong
            self._jitter *= 1 + _LEARN * (surprise**2 / variance - 1)
            self._jitter = max(self._jitter, _LEAST_JITTER**2)
        self._last = rows
        for count, factor in zip(self._rows, np.exp(surprise * gains).tolist(), strict=True):
            self.seconds[count] *= factor

    def _guess(self, rows: int, seconds: float) -> None:
        """Begin with a size as with the nearest one, and in doubt how far it differs."""
        self.seconds[rows] = self.at(rows) or seconds
        grown = np.full((len(self._rows) + 1,) * 2, _PACE**2)
        if self._rows:
            near = min(range(len(self._rows)), key=lambda at: abs(self._rows[at] - rows))
            grown[:-1, :-1] = self._covariances
            grown[-1] = grown[:, -1] = [*self._covariances[near], self._covariances[near, near]]
        grown[-1, -1] += _NEW**2
        self._covariances = grown
        self._rows.append(rows)

    def doubt(self, rows: int, other: int) -> float:
        """How far one size's time as a share of another's may be off: a standard deviation.

        0 where not both were timed.
        """
        if rows not in self._rows or other not in self._rows:
            return 0.0
        one, two, covariances = self._rows.index(rows), self._rows.index(other), self._covariances
        variance = covariances[one, one] + covariances[two, two] - 2 * covariances[one, two]
        return math.sqrt(max(0.0, float(variance)))

    def at(self, rows: int) -> float:
        """Expected seconds of so many rows, 0 if nothing is known at all."""
        return self.over([rows])[0]

    def over(self, rows: Sequence[int]) -> list[float]:
        """Expected seconds of each of these numbers of rows.

        Beyond what is known, rows cost no less than in proportion to the nearest. Between, they
        cost more than on a straight line, as those that are known do between multiples of four.
        """
        known = sorted(self.seconds)
        told = all(count in self.seconds for count in rows)
        above = 1.0 if told else self._above_the_line(known)
        return [
            self.seconds[count] if count in self.seconds else self._between(known, count, above)
            for count in rows
        ]

    def _above_the_line(self, known: list[int]) -> float:
        """How many times as much as on a line between those that kernels are made for, at most."""
        made_for = [rows for rows in known if rows % _FOUR == 0 or rows == known[0]]
        others = [rows for rows in known if rows not in made_for and rows < made_for[-1]]
        return max([1.0, *(self.seconds[rows] / self._between(made_for, rows) for rows in others)])

    def _between(self, known: list[int], rows: int, above: float = 1.0) -> float:
        at = bisect_left(known, rows)
        if at == len(known):
            return self.seconds[known[-1]] * rows / known[-1] if known else 0.0
        high = self.seconds[known[at]]
        if at == 0:
            return high
        low = self.seconds[known[at - 1]]
        line = low + (high - low) * (rows - known[at - 1]) / (known[at] - known[at - 1])
        return above * line


@dataclass
class Costs:
    """What rounds cost, in seconds, and how often drafts are right; kept from run to run.

    Attributes:
        verify: a target decode, by rows.
        draft: a draft step, sampling included, by rows.
        switch: what a verify costs more when its rows are not as many as the last time.
        rest: a round's time outside of drafting and verifying.
        draft_threads: with how many a draft step is fastest; 0 is as many as the target has.
        usual: what drafts are worth in general, by their source; what is proposed without a
            drafter must earn its trust.
    """

    verify: Curve = field(default_factory=Curve)
    draft: Curve = field(default_factory=Curve)
    switch: float = 0.0
    rest: float = 0.0
    draft_threads: int = 0
    usual: dict[str, Usual] = field(default_factory=dict)
