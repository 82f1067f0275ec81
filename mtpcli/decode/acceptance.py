"""How often drafted tokens are right: on this text, and in general."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field

from mtpcli.config import MAX_DRAFT_DEPTH

# A first guess, for drafts nobody has seen verified. What is usual counts for as much as some
# observations of the text at hand.
_FIRST_GUESS, _GUESS_WEIGHT, _USUAL_WEIGHT = 0.75, 1.0, 4.0
# What is kept per observation. Text changes its nature within some 100 rounds; what a drafter's
# confidence means changes slowly, and a noisy estimate of it would cut good drafts.
_KEEP_POSITION, _KEEP_CONFIDENCE, _KEEP_USUAL = 0.99, 0.995, 0.999
# Accepted tokens in a row, as unlikely as this, mean that the text has changed: half is forgotten.
_SURPRISE, _SURPRISED = 0.05, 0.5
_CONFIDENCE_EDGES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0)
_BELOW = (0.0, *_CONFIDENCE_EDGES[:-1])
_CONFIDENCES = [(low + high) / 2 for low, high in zip(_BELOW, _CONFIDENCE_EDGES, strict=True)]
_CERTAIN = 0.999  # no share is nearer to 0 or 1 than this when it is compared with another


@dataclass
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
        self._expected = deepcopy(self.usual)
        self._luck = 1.0  # how likely it was that no draft was wrong since the last that was
        self._at = [Rate() for _ in range(MAX_DRAFT_DEPTH)]
        self._sure = [Rate() for _ in _CONFIDENCES]
        self._by_position: list[float] | None = None

    def observe(self, confidences: Sequence[float], accepted: int) -> None:
        """Count a draft. What comes after the first wrong token says nothing."""
        if not confidences:
            return
        self._luck *= math.prod(self.by_position()[:accepted])
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
        self._by_position = None

    def by_position(self) -> list[float]:
        """Chance of each position, given that those before it are right.

        One that was rarely seen is expected to be better or worse than usual as far as the one
        before it is, and to be usual as far as the one before it was.
        """
        if self._by_position is not None:
            return self._by_position
        values: list[float] = []
        usual, lift = _FIRST_GUESS, 0.0
        for general, rate in zip(self._expected.at, self._at, strict=True):
            usual = general.value(usual, _GUESS_WEIGHT)
            value = rate.value(_lifted(usual, lift), _USUAL_WEIGHT)
            lift = _log_odds(value) - _log_odds(usual)
            values.append(value)
        self._by_position = values
        return values

    def survivals(self, confidences: Sequence[float]) -> list[float]:
        """Chances that the first 0, 1, ... all of these tokens are accepted."""
        chances = [1.0]
        for confidence in confidences:
            at = _bin(confidence)
            usual = self._expected.sure[at].value(_CONFIDENCES[at], _GUESS_WEIGHT)
            chances.append(chances[-1] * self._sure[at].value(usual, _USUAL_WEIGHT))
        return chances


def _bin(confidence: float) -> int:
    return min(bisect_left(_CONFIDENCE_EDGES, confidence), len(_CONFIDENCE_EDGES) - 1)


def _log_odds(share: float) -> float:
    share = min(max(share, 1 - _CERTAIN), _CERTAIN)
    return math.log(share / (1 - share))


def _lifted(share: float, lift: float) -> float:
    return 1 / (1 + math.exp(-_log_odds(share) - lift))
