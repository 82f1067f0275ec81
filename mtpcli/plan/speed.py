"""Tokens per second from what decodes cost: plain, and by how many drafts are right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mtpcli.config import MAX_DRAFT_DEPTH
from mtpcli.decode.depth import token_rates
from mtpcli.decode.round_costs import Costs

# How many drafts are right, if those before them are: creative text, facts, code and JSON.
ACCEPTANCES = (0.5, 0.7, 0.9)
_GAIN = 1.02  # less is no gain that anybody sees


@dataclass(frozen=True)
class Rate:
    """Speed at one rate of acceptance.

    Attributes:
        acceptance: share of drafted tokens that are right, at every position.
        depth: how many tokens to draft for the best speed; 0 is plain decoding.
        tokens_per_second: at that depth.
        speedup: over plain decoding.
    """

    acceptance: float
    depth: int
    tokens_per_second: float
    speedup: float


def plain_speed(costs: Costs) -> float:
    """Tokens per second without a drafter."""
    return 1 / (costs.verify.at(1) + costs.rest)


def rate_at(costs: Costs, acceptance: float) -> Rate:
    """The best that drafting can do when this share of the drafts is right."""
    rates = token_rates(
        [acceptance] * MAX_DRAFT_DEPTH,
        costs.draft.at(1),
        [costs.verify.at(depth + 1) + costs.rest for depth in range(MAX_DRAFT_DEPTH + 1)],
    )
    best = max(rates)
    return Rate(acceptance, rates.index(best), best, best / rates[0])


def pays_from(costs: Costs, steps: Sequence[int] = range(5, 101)) -> float | None:
    """The lowest acceptance, in hundredths, at which drafting is faster; None if it never is."""
    return next((step / 100 for step in steps if rate_at(costs, step / 100).speedup >= _GAIN), None)
