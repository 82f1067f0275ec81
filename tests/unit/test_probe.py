"""What sizes of a verify cost, from times that a busy machine has spoilt."""

from __future__ import annotations

import pytest

from mtpcli.decode.probe import typical

COSTS = {1: 1.0, 2: 1.5, 3: 1.8, 4: 2.0, 8: 3.0, 16: 5.0}


def test_a_machine_that_is_fast_for_one_size_only_does_not_make_it_cheap() -> None:
    times = {size: [2 * cost] * 3 for size, cost in COSTS.items()}
    times[1][0] = COSTS[1]  # then it became slow
    found = typical(times)
    assert {size: found[size] / found[1] for size in COSTS} == COSTS


def test_turns_at_another_pace_tell_the_same_costs() -> None:
    paces = [1.7, 1.0, 1.3, 2.0]
    times = {size: [pace * cost for pace in paces] for size, cost in COSTS.items()}
    times[8][1] *= 10  # interrupted, when all others were fast
    times[16] = times[16][:2]  # there was no time for more
    assert typical(times) == pytest.approx(COSTS)
