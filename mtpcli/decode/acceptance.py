"""How often drafted tokens are right: on this text, and in general."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

from mtpcli.config import MAX_DRAFT_DEPTH

# A first guess, for drafts nobody has seen verified. What is usual counts for as much as some
# observations of the text at hand.
_FIRST_GUESS, _GUESS_WEIGHT, _USUAL_WEIGHT = 0.8, 1.0, 4.0
# For a position beyond the first, the one before it tells more than what is usual.
_NEIGHBOUR_WEIGHT = 16.0
# What is kept per observation. Text changes its nature within some 100 rounds; what a drafter's
# confidence means changes slowly, and a noisy estimate of it would cut good drafts.
_KEEP_POSITION, _KEEP_CONFIDENCE, _KEEP_USUAL = 0.99, 0.995, 0.999
# Accepted tokens in a row, as unlikely as this, mean that the text has changed: half is forgotten.
_SURPRISE, _SURPRISED = 0.05, 0.5
_CONFIDENCE_EDGES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_BELOW = (0.0, *_CONFIDENCE_EDGES[:-1])
_CONFIDENCES = [(low + high) / 2 for low, high in zip(_BELOW, _CONFIDENCE_EDGES, strict=True)]
_SEEN = 2.0  # observations, older ones faded, from which on a position is known
_CERTAIN = 0.999  # no share is nearer to 0 or 1 than this when it is compared with another


@dataclass(slots=True)
class Rate:
    """A share that is counted, with older counts fading."""

    hits: float = 0.0
    count: float = 0.0

    def add(self, hit: bool, keep: float = 1.0) -> None:
        """Count once more, and let what was counted before fade."""
        self.hits = keep * self.hits + hit
        self.count = keep * self.count + 1

    def value(self, expected: float, weight: float) -> float:
        """The share, where an expectation counts for as much as some observations."""
        return (self.hits + weight * expected) / (self.count + weight)


@dataclass
class Usual:
    """How often a drafter is right in general: over much text, kept from run to run.

    Attributes:
        at: by position of the token in the draft, given that those before it were right.
        sure: by how sure the drafter was of a token, in bins.
    """

    at: list[Rate] = field(default_factory=lambda: [Rate() for _ in range(MAX_DRAFT_DEPTH)])
    sure: list[Rate] = field(default_factory=lambda: [Rate() for _ in _CONFIDENCES])

    @staticmethod
    def doubtful() -> Usual:
        """Of a source that must earn its trust."""
        return Usual(sure=[Rate(0.5, 1.5) for _ in _CONFIDENCES])


class Acceptance:
    """How often drafted tokens are right in the text at hand.

    Attributes:
        usual: what is expected of text that has not been seen yet. It learns too, slowly, for the
            next time: what is seen here must not count twice.
    """

    def __init__(self, usual: Usual | None = None) -> None:
        self.usual = usual or Usual()
        self._luck = 1.0  # how likely it was that no draft was wrong since the last that was
        self._at = [Rate() for _ in range(MAX_DRAFT_DEPTH)]
        self._sure = [Rate() for _ in _CONFIDENCES]
        # What is expected, by position and by confidence, as it was before this text began.
        self._usual_at: list[float] = []
        expected = _FIRST_GUESS
        for rate in self.usual.at:
            expected = rate.value(expected, _GUESS_WEIGHT)
            self._usual_at.append(expected)
        self._usual_sure = [
            rate.value(confidence, _GUESS_WEIGHT)
            for rate, confidence in zip(self.usual.sure, _CONFIDENCES, strict=True)
        ]
        self._by_position: list[float] = []
        self._stale = True  # more was seen since
        self._by_confidence: list[float] | None = None

    def observe(self, confidences: Sequence[float], accepted: int) -> None:
        """Count a draft. What comes after the first wrong token says nothing."""
        if not confidences:
            return
        expected = self._by_position or self.by_position()
        self._luck *= math.prod(expected[:accepted])
        keep = _KEEP_POSITION
        if self._luck < _SURPRISE:
            keep = _SURPRISED
        if self._luck < _SURPRISE or accepted < len(confidences):
            self._luck = 1.0
        for rate in self._at:
            # Those not seen this time fade too: a bad start must not bar a position for ever.
            rate.hits *= keep
            rate.count *= keep
        for position, confidence in enumerate(confidences[: accepted + 1]):
            hit, at = position < accepted, _bin(confidence)
            self._at[position].add(hit)
            self._sure[at].add(hit, _KEEP_CONFIDENCE)
            self.usual.at[position].add(hit, _KEEP_USUAL)
            self.usual.sure[at].add(hit, _KEEP_USUAL)
        self._by_confidence = None
        self._stale = True

    def by_position(self) -> list[float]:
        """Chance of each position, given that those before it are right.

        One that was rarely seen is expected to be better or worse than usual as far as the one
        before it is, and to be usual as far as the one before it was.
        """
        if not self._stale:
            return self._by_position
        values: list[float] = []
        lift = 1.0
        for usual, rate in zip(self._usual_at, self._at, strict=True):
            value = _lifted(usual, lift) if lift != 1 else usual
            if rate.count:
                value = rate.value(value, _NEIGHBOUR_WEIGHT if values else _USUAL_WEIGHT)
                lift = _odds(value) / _odds(usual)
            values.append(value)
        self._by_position, self._stale = values, False
        return values

    def hopes(self) -> list[float]:
        """The same, but what has hardly been seen is as good as the position before it."""
        values: list[float] = []
        for chance, rate in zip(self.by_position(), self._at, strict=True):
            known = rate.count >= _SEEN or not values
            values.append(chance if known else max(chance, values[-1]))
        return values

    def survivals(self, confidences: Sequence[float]) -> list[float]:
        """Chances that the first 0, 1, ... all of these tokens are accepted."""
        if self._by_confidence is None:
            self._by_confidence = self._what_confidence_means()
        by_confidence, chance, chances = self._by_confidence, 1.0, [1.0]
        for confidence in confidences:
            chance *= by_confidence[_bin(confidence)]
            chances.append(chance)
        return chances

    def _what_confidence_means(self) -> list[float]:
        """Chance of a token by how sure the drafter was of it.

        Where drafts are right more often than usual, they are expected to be so at all confidences.
        """
        count = sum([rate.count for rate in self._sure])
        if not count:
            return self._usual_sure
        pairs = list(zip(self._sure, self._usual_sure, strict=True))
        expected = sum([rate.count * usual for rate, usual in pairs]) / count
        right = Rate(sum([rate.hits for rate in self._sure]), count).value(expected, _USUAL_WEIGHT)
        lift = _odds(right) / _odds(expected)
        return [rate.value(_lifted(usual, lift), _USUAL_WEIGHT) for rate, usual in pairs]


def _bin(confidence: float) -> int:
    return min(bisect_left(_CONFIDENCE_EDGES, confidence), len(_CONFIDENCE_EDGES) - 1)


def _odds(share: float) -> float:
    share = min(max(share, 1 - _CERTAIN), _CERTAIN)
    return share / (1 - share)


def _lifted(share: float, lift: float) -> float:
    """The share whose odds are so many times as high."""
    odds = lift * _odds(share)
    return odds / (1 + odds)
