"""What the soak says about its samples."""

from __future__ import annotations

from tests.soak.run import Sample, verdict


def samples(growth: float = 0.0, fds: int = 9) -> list[Sample]:
    """An hour's lines: caches fill, then memory grows so many MB and handles end at so many."""
    hour = [
        Sample(60 * at, 190 + growth * at / 60, 9 if at < 50 else fds, 2, 10 * at, 2 * at, "")
        for at in range(10, 61)
    ]
    return [Sample(0, 120, 5, 1, 0, 0, ""), *hour]


def test_filled_caches_are_no_leak() -> None:
    found = verdict(samples(), {0: "aa"}, [])
    assert found["problems"] == []
    assert (found["minutes"], found["rss_mb_settled"], found["rss_mb_end"]) == (60, 190, 190)


def test_leaks_and_drift_are_told() -> None:
    (memory,) = verdict(samples(growth=12), {}, [])["problems"]
    assert memory.startswith("memory grew from 19")
    assert verdict(samples(fds=10), {}, [])["problems"] == ["open files went from 9 to 10"]
    (drift,) = verdict(samples(), {}, [17])["problems"]
    assert drift.endswith("[17]")
