"""What rounds cost on this machine, for this file, and how often drafts are right in general."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from mtpcli.decode.acceptance import Usual

OUTLIER = 3.0
"""A decode that takes so many times as long as expected was interrupted: no more counts."""

# Weights of a new time: for all numbers of rows, for its own, and if its own was not timed yet.
# While rows are the same from round to round, a change of their time is the machine's, not theirs.
_TOGETHER, _ALONE, _FIRST = 0.2, 0.01, 0.2
_FAR = -0.25  # a change that a machine's mood alone does not make from one decode to the next
_FOUR = 4  # kernels take so many rows at once, and fewer are not always cheaper


@dataclass
class Curve:
    """Seconds by number of rows, where they are known."""

    seconds: dict[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._timed: set[int] = set()  # rows that were timed since these times were known
        self._pace = 1.0  # how many times as long as known the last decode took

    def add(self, rows: int, seconds: float) -> None:
        """Take a new time into the means.

        Most of what makes a decode slower or faster than it was, a longer context or a busy
        machine, does so to all.
        """
        if seconds <= 0:
            return  # shorter than the clock can tell
        known = self.seconds.get(rows)
        if known is None:
            known = self.seconds[rows] = self.at(rows) or seconds
        change = min(seconds / known, OUTLIER) - 1
        own = _nearer(change, (1 + change) / self._pace - 1)
        if not self._timed:
            together, alone = 1.0 if change < 0 else _TOGETHER, 0.0
        elif rows not in self._timed and own < _FAR:
            # So much faster was no mood of the machine: the time that was known is spoilt.
            together, alone = 0.0, 1.0
        else:
            together, alone = _TOGETHER, _ALONE if rows in self._timed else _FIRST
        self._timed.add(rows)
        self.scale(1 + together * change)
        self.seconds[rows] *= 1 + alone * own
        self._pace = min(seconds / self.seconds[rows], OUTLIER)

    def scale(self, factor: float) -> None:
        """Multiply all times."""
        for rows in self.seconds:
            self.seconds[rows] *= factor

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


def _nearer(one: float, other: float) -> float:
    """The one that is nearer to 0, or 0 between them."""
    return min(one, other, key=abs) if one * other > 0 else 0.0


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
