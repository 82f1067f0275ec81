"""Costs that are kept between runs, and the probe that measures them first."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mtpcli.costs import costs_file, load_costs, save_costs
from mtpcli.decode import probe
from mtpcli.decode.acceptance import Usual
from mtpcli.decode.probe import measure
from mtpcli.decode.round_costs import Costs, Curve
from tests.fakes import FakeDrafter, FakeTarget


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_costs_come_back(tmp_path: Path) -> None:
    usual = Usual()
    usual.at[3].add(True)
    usual.sure[1].add(False)
    costs = Costs(Curve({1: 0.5, 4: 1.5}), Curve({1: 0.1}), 0.2, 0.3, 1, {"lookup": usual})
    save_costs(tmp_path / "folder" / "costs.json", costs)
    assert load_costs(tmp_path / "folder" / "costs.json") == costs
    (tmp_path / "link").hardlink_to(tmp_path / "folder" / "costs.json")
    save_costs(tmp_path / "folder" / "costs.json", Costs(Curve({1: 2.0}), Curve({1: 0.1})))
    assert load_costs(tmp_path / "link") == costs, "it was renamed, not written over"
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["costs.json"]


REST = '"draft": {"seconds": {"1": 1}}, "switch": 0, "rest": 0, "draft_threads": 0'


@pytest.mark.parametrize(
    "damaged",
    [
        "",
        "[]",
        "{}",
        f'{{"verify": {{"seconds": {{}}}}, {REST}}}',
        f'{{"verify": {{"seconds": {{"1": -1}}}}, {REST}}}',
        f'{{"verify": {{"seconds": {{"1": NaN}}}}, {REST}}}',
        f'{{"verify": {{"seconds": {{"x": 1}}}}, {REST}}}',
        f'{{"verify": [], {REST}}}',
        f'{{"verify": {{"seconds": {{"1": 1}}}}, {REST}, "usual": {{"lookup": {{}}}}}}',
        f'{{"verify": {{"seconds": {{"1": 1}}}}, {REST}, "usual": {{"x": {{"at": []}}}}}}',
    ],
)
def test_damaged_costs_are_measured_again(tmp_path: Path, damaged: str) -> None:
    path = tmp_path / "costs.json"
    path.write_text(damaged)
    assert load_costs(path) is None
    path.write_text(f'{{"verify": {{"seconds": {{"1": 1}}}}, {REST}}}')
    assert load_costs(path) is not None
    assert load_costs(tmp_path / "missing.json") is None


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    save_costs(tmp_path / "file" / "costs.json", Costs())


def test_another_file_or_setting_has_other_costs(tmp_path: Path) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(b"1")
    first = costs_file([model], 2)
    assert costs_file([model], 2) == first
    assert costs_file([model], 4) != first
    os.utime(model, (1, 1))
    assert costs_file([model], 2) != first


@pytest.mark.parametrize("n_seq", [1, 3])
def test_the_probe_measures_and_leaves_nothing_behind(n_seq: int) -> None:
    target = FakeTarget(n_seq=n_seq)
    costs = measure(target, FakeDrafter(target), budget=0.0)
    # However short the budget, sizes that a curve can be drawn through.
    assert sorted(costs.verify.seconds) == [n_seq * rows for rows in (1, 2, 3, 4, 8, 16)]
    assert list(costs.draft.seconds) == [n_seq]
    assert not any(target.cells)
    everything = measure(target, FakeDrafter(target), budget=float("inf"))
    assert len(everything.verify.seconds) == 10
    json.dumps(everything.verify.seconds)


@pytest.mark.parametrize(("alone", "chosen"), [(0.5, 1), (0.99, 0), (2.0, 0)])
def test_a_drafter_gets_one_thread_where_that_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, alone: float, chosen: int
) -> None:
    given = [0]

    def seconds(_target: object, _drafter: object) -> float:
        return alone if given[-1] == 1 else 1.0

    target = FakeTarget()
    drafter = FakeDrafter(target)
    monkeypatch.setattr(drafter, "set_threads", given.append)
    monkeypatch.setattr(probe, "draft_step_seconds", seconds)
    costs = measure(target, drafter, budget=0.0)
    assert costs.draft_threads == given[-1] == chosen
    assert costs.draft.seconds == {1: min(alone, 1.0) if chosen else 1.0}


def test_a_machine_that_is_slow_for_a_while_spoils_no_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0

    def seconds(_target: object, _drafter: object, _requests: object, rows: int) -> float:
        nonlocal calls
        calls += 1
        return rows * (3e-3 if 4 <= calls < 12 else 1e-3)

    monkeypatch.setattr(probe, "_round_seconds", seconds)
    target = FakeTarget()
    costs = measure(target, FakeDrafter(target), budget=float("inf"))
    true = {rows: rows * 1e-3 for rows in probe.ROWS}
    assert costs.verify.seconds == pytest.approx(true, rel=0.1)


def test_a_size_that_was_timed_in_a_fast_moment_does_not_look_cheap(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fast = [True, True]  # each size is timed twice in a turn

    def seconds(_target: object, _drafter: object, _requests: object, rows: int) -> float:
        pace = 1 if rows == 1 and fast and fast.pop() else 2
        return pace * rows / 1e3

    monkeypatch.setattr(probe, "_round_seconds", seconds)
    target = FakeTarget()
    costs = measure(target, FakeDrafter(target), budget=float("inf"))
    true = {rows: 2 * rows / 1e3 for rows in probe.ROWS}
    assert costs.verify.seconds == pytest.approx(true, rel=0.1)


def test_turns_at_another_pace_and_an_interrupted_decode_tell_the_same_costs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = 0

    def seconds(_target: object, _drafter: object, _requests: object, rows: int) -> float:
        nonlocal calls
        turn, calls = calls // (2 * len(probe.ROWS)), calls + 1
        interrupted = turn == 1 and rows == 8
        return rows / 1e3 * (1.7, 1.0, 1.3, 2.0)[turn % 4] * (10 if interrupted else 1)

    monkeypatch.setattr(probe, "_round_seconds", seconds)
    target = FakeTarget()
    found = measure(target, FakeDrafter(target), budget=float("inf")).verify.seconds
    assert {rows: found[rows] / found[4] for rows in found} == pytest.approx(
        {rows: rows / 4 for rows in probe.ROWS}, rel=0.05
    )


@pytest.mark.parametrize(("decode", "sizes", "whole"), [(0.01, 10, 2.0), (0.2, 6, 2.4)])
def test_the_probe_takes_two_seconds_or_two_turns(
    monkeypatch: pytest.MonkeyPatch, decode: float, sizes: int, whole: float
) -> None:
    now = 0.0

    def seconds(_target: object, _drafter: object, _requests: object, rows: int) -> float:
        nonlocal now
        now += decode
        return decode

    monkeypatch.setattr(probe, "_round_seconds", seconds)
    monkeypatch.setattr(probe, "perf_counter", lambda: now)
    target = FakeTarget()
    costs = measure(target, FakeDrafter(target))
    assert len(costs.verify.seconds) == sizes
    assert now == pytest.approx(whole, abs=0.05)
