"""Figures of a chat: the plain speed is measured, not assumed."""

from __future__ import annotations

from mtpcli.chat.speed import PlainSpeed, Report, Totals
from mtpcli.decode.metrics import SpeculationStats, Timings


def test_a_burst_of_plain_rounds_in_the_first_answer() -> None:
    plain = PlainSpeed()
    plain.begin_answer()
    for seconds in (9.0, 0.1, 0.1, 0.1, 0.1):
        assert plain.wants_plain
        plain.add(1, seconds, plain=True)
    assert not plain.wants_plain
    plain.add(4, 0.2, plain=False)
    # Neither the first one, which pays for a new graph, nor the drafted one counts.
    assert plain.tokens_per_second is not None
    assert round(plain.tokens_per_second, 6) == 10.0


def test_it_is_measured_again_now_and_then() -> None:
    plain = PlainSpeed()
    measured = []
    for answer in range(17):
        plain.begin_answer()
        measured += [answer] if plain.wants_plain else []
        while plain.wants_plain:
            plain.add(1, 0.1, plain=True)
    assert measured == [0, 8, 16]


def test_plain_rounds_by_others_count_too() -> None:
    plain = PlainSpeed()
    plain.begin_answer()
    plain.add(4, 1.0, plain=False)
    assert plain.tokens_per_second is None
    for seconds in (9.0, 0.5, 0.5):
        plain.add(1, seconds, plain=True)
    assert plain.tokens_per_second == 2.0


def report(**changes: object) -> Report:
    stats = SpeculationStats()
    stats.add(0, 0, 1)
    stats.add(3, 2, 3)
    stats.add(3, 3, 4)
    values = {
        "prompt": 30,
        "reused": 18,
        "again": 6,
        "tokens": 9,
        "spent": Timings(decode=0.04),
        "stats": stats,
        "plain": 100.0,
        "finish": "stop",
        "kept": True,
        "seed": 3,
        **changes,
    }
    return Report(**values)  # type: ignore[arg-type]


def test_a_report_in_one_line() -> None:
    assert report().line(64) == (
        "9 tokens · 200.0 tokens/s · 2.00x plain · accepted 5/6 · depth 3.0 · context 39/64"
    )
    plain = report(stats=SpeculationStats(), plain=None, tokens=1)
    assert plain.line(64) == "1 token · plain decoding · context 31/64"


def test_totals_say_what_was_kept() -> None:
    lines = Totals([report(), report(prompt=50, reused=50 - 4, again=0)]).lines(64)
    assert " ".join(lines[0].split()) == (
        "answer prompt kept decoded again tokens tokens/s accepted"
    )
    assert lines[1].split() == ["1", "30", "18", "12", "6", "9", "200.0", "83%"]
    assert lines[2].split()[:5] == ["2", "50", "46", "4", "0"]
    assert lines[3] == (
        "prompt tokens: 80, of which 64 were kept from earlier turns and 16 decoded; "
        "6 decoded again between the turns"
    )
    assert Totals().lines(64) == ["nothing was answered yet"]
