"""What sizes of a verify cost, from times that a busy machine has spoilt."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mtpcli.decode import probe
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


def test_the_probe_is_not_fooled_by_a_size_that_was_timed_in_a_fast_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fast = [True, True]  # each size is timed twice in a turn

    def seconds(_target: Any, _drafter: Any, _requests: Any, rows: int) -> float:
        pace = 1 if rows == 1 and fast and fast.pop() else 2
        return pace * rows / 1e3

    monkeypatch.setattr(probe, "_round_seconds", seconds)
    monkeypatch.setattr(probe, "_fastest_draft_step", lambda *_: (0.001, 0))
    for name in ("verify_seconds", "_requests", "_forget"):
        monkeypatch.setattr(probe, name, lambda *_: None)
    nothing: Any = SimpleNamespace(n_seq=1)
    costs = probe.measure(nothing, nothing)
    assert costs.verify.seconds == pytest.approx({rows: 2 * rows / 1e3 for rows in probe.ROWS})
