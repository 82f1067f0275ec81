"""What rounds cost, on a machine that changes its speed and interrupts decodes."""

from __future__ import annotations

import random
import statistics

import pytest

from mtpcli.decode.round_costs import Curve


def test_a_curve_between_and_beyond_what_is_known() -> None:
    curve = Curve({2: 2.0, 4: 3.0})
    assert curve.at(2) == 2.0
    assert curve.at(3) == 2.5
    assert curve.at(8) == 6.0
    assert curve.at(1) == 2.0
    assert Curve().at(3) == 0.0


def test_rows_between_multiples_of_four_cost_as_much_more_as_known_ones_do() -> None:
    curve = Curve({1: 1.0, 4: 4.0, 6: 9.0, 8: 8.0, 16: 12.0})
    assert curve.over([6, 10, 12, 14]) == pytest.approx([9.0, 13.5, 15.0, 16.5]), (
        "half as much more"
    )
    flat = Curve({1: 1.0, 4: 1.3, 6: 1.5, 8: 1.7, 16: 2.5})
    assert flat.over([10, 12]) == pytest.approx([1.9, 2.1])


def test_rows_that_were_never_timed_are_expected_to_be_near_the_others() -> None:
    curve = Curve({8: 4.0, 10: 5.0})
    curve.add(8, 4.0)
    curve.add(9, 9.0)  # decoded while something else took the processor
    assert curve.at(9) / curve.at(8) < 1.8
    for rows, seconds in ((8, 4.0), (9, 4.5)) * 8:
        curve.add(rows, seconds)
    assert curve.at(9) / curve.at(8) == pytest.approx(4.5 / 4.0, rel=0.1)


def test_a_changing_machine_does_not_change_what_rows_cost_to_each_other() -> None:
    curve, ratios = Curve({4: 2.0, 8: 3.0}), []
    curve.add(4, 2.0)
    for pace in (1.0, 1.8) * 20:
        for _ in range(4):
            curve.add(8, 3.0 * pace)
            ratios.append(curve.at(8) / curve.at(4))
    assert 1.45 < min(ratios) < max(ratios) < 1.55


def test_what_makes_one_number_of_rows_slower_does_so_to_the_others() -> None:
    curve = Curve({1: 1.0, 4: 2.0, 8: 3.0})
    for _ in range(100):  # the context grows
        curve.add(4, 4.0)
    assert curve.seconds[4] == pytest.approx(4.0, rel=0.01)
    assert curve.seconds[1] > 1.5
    assert curve.seconds[8] == pytest.approx(3 * curve.seconds[1])
    # What is known of each by itself counts as well.
    for _ in range(200):
        curve.add(1, 1.0)
        curve.add(4, 4.0)
    assert curve.over([1, 4]) == pytest.approx([1.0, 4.0], rel=0.1)


def test_a_machine_that_has_become_faster_is_so_for_all_rows() -> None:
    curve = Curve({1: 3.0, 4: 6.0})
    curve.add(1, 1.0)
    assert curve.at(1) < 1.2
    assert curve.at(4) / curve.at(1) == pytest.approx(2.0, rel=0.1)


@pytest.mark.parametrize(("kept", "turns", "off"), [(3.0, 10, 0.2), (6.0, 20, 0.25)])
def test_a_time_that_was_spoilt_is_soon_put_right(kept: float, turns: int, off: float) -> None:
    curve = Curve({1: 1.0, 4: kept})
    for rows, seconds in ((1, 1.0), (4, 1.5)) * turns:
        curve.add(rows, seconds)
    assert curve.at(4) / curve.at(1) == pytest.approx(1.5, rel=off)


def test_a_slow_beginning_does_not_make_the_rows_behind_it_cheap() -> None:
    """The machine is faster than it was when these times were kept, but not in its first decode."""
    curve = Curve({1: 1.0, 4: 2.0, 5: 2.4})
    curve.add(1, 1.0)
    for _ in range(9):
        curve.add(5, 0.7 * 2.4)
    assert curve.at(5) / curve.at(4) == pytest.approx(1.2, rel=0.1)


def test_times_that_are_kept_from_run_to_run_do_not_get_worse() -> None:
    true = {1: 1.0, 2: 1.5, 3: 1.8, 4: 2.0, 5: 2.3, 6: 2.6, 8: 3.1}
    dice, curve = random.Random(1), Curve(dict(true))
    for _ in range(40):
        curve = Curve(dict(curve.seconds))
        pace = 1.0
        for _ in range(60):
            if dice.random() < 0.05:
                pace = dice.uniform(0.8, 1.6)
            interrupted = 1.8 if dice.random() < 0.03 else 1.0
            rows = dice.choice([1, 4, 5, 8])
            curve.add(rows, true[rows] * pace * interrupted * dice.lognormvariate(0, 0.05))
    usual = statistics.median(curve.at(rows) / true[rows] for rows in true)
    assert {rows: curve.at(rows) / usual for rows in true} == pytest.approx(true, rel=0.1)


def test_a_first_time_on_a_machine_that_has_become_faster_is_as_fast_as_the_others() -> None:
    curve = Curve({1: 1.0, 4: 2.0})
    for _ in range(9):
        curve.add(4, 3.5)  # the machine is busy
    curve.add(4, 2.0)  # it is free again
    curve.add(1, 1.0)
    assert curve.at(4) / curve.at(1) == pytest.approx(2.0, rel=0.1)


def test_a_time_that_the_clock_cannot_tell_is_none() -> None:
    curve = Curve()
    curve.add(1, 0.0)
    assert curve.over([1, 2]) == [0.0, 0.0]
    curve.add(1, 1.0)
    curve.add(1, 0.0)
    assert curve.seconds == {1: 1.0}


def test_an_interrupted_decode_does_not_count_in_full() -> None:
    curve = Curve({1: 1.0})
    curve.add(1, 1.0)
    curve.add(1, 1000.0)
    assert curve.at(1) < 1.5
    for _ in range(3):
        curve.add(1, 1.0)
    assert curve.at(1) == pytest.approx(1.0, rel=0.05)


def test_two_sizes_are_in_doubt_until_both_were_timed_in_turn() -> None:
    curve = Curve({1: 0.050, 4: 0.120})
    assert curve.doubt(1, 4) == 0  # nothing is known of it yet
    curve.add(1, 0.050)
    before = curve.doubt(1, 4)
    assert before == pytest.approx(0.1, abs=0.01)  # two that are kept, of 7 % each
    for _ in range(20):
        curve.add(1, 0.050)
    assert curve.doubt(1, 4) == pytest.approx(before, rel=0.05)
    for _ in range(20):
        curve.add(4, 0.120)
        curve.add(1, 0.050)
    assert curve.doubt(1, 4) < 0.5 * before
    assert curve.doubt(4, 4) == 0
