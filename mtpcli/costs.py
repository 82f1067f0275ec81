"""What was measured on this machine for these files, kept in the user's cache from run to run."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import platform
from dataclasses import asdict
from pathlib import Path

from platformdirs import user_cache_path

from mtpcli.decode.acceptance import Rate, Usual
from mtpcli.decode.exact import MOST_ROWS, RowReport
from mtpcli.decode.round_costs import Costs, Curve
from mtpcli.files import replacing


def costs_file(files: list[Path], *settings: object) -> Path:
    """Where the costs of these model files under these settings are kept.

    Any change of a file, of the machine or of a setting makes it another place.
    """
    digest = hashlib.blake2b(digest_size=10)
    for path in files:
        stat = path.stat()
        digest.update(os.fsencode(path.resolve()))
        digest.update(f" {stat.st_size} {stat.st_mtime_ns}\n".encode())
    machine = (platform.machine(), platform.processor(), platform.node(), os.cpu_count())
    digest.update(repr((machine, settings)).encode())
    folder = user_cache_path("mtpcli", appauthor=False) / "costs"
    return folder / f"{digest.hexdigest()}.json"


def load_costs(path: Path) -> Costs | None:
    """The costs that were kept, or None if there are none that can be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        costs = Costs(
            verify=_curve(data["verify"]),
            draft=_curve(data["draft"]),
            switch=float(data["switch"]),
            rest=float(data["rest"]),
            draft_threads=1 if data["draft_threads"] else 0,
            usual={name: _usual(rates) for name, rates in data.get("usual", {}).items()},
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    numbers = [*costs.verify.seconds.values(), *costs.draft.seconds.values()]
    sound = all(math.isfinite(number) and number > 0 for number in numbers)
    rates = [rate for usual in costs.usual.values() for rate in (*usual.at, *usual.sure)]
    shares = all(0 <= rate.hits <= rate.count < math.inf for rate in rates)
    rest = all(math.isfinite(number) and number >= 0 for number in (costs.switch, costs.rest))
    return (
        costs
        if sound and shares and rest and costs.verify.seconds and costs.draft.seconds
        else None
    )


def save_costs(path: Path, costs: Costs) -> None:
    """Keep costs for the next run. A cache that cannot be written is no error."""
    _save(path, costs)


def load_rows(path: Path) -> RowReport | None:
    """The comparison of row counts that was kept, or None if there is none that can be read."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        report = RowReport(
            places=tuple(int(place) for place in data["places"]),
            difference={int(rows): float(value) for rows, value in data["difference"].items()},
            classes=tuple(tuple(int(rows) for rows in each) for each in data["classes"]),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None
    counts = list(range(1, MOST_ROWS + 1))
    sound = report.classes and report.classes[0] and report.classes[0][0] == 1
    whole = sorted(rows for each in report.classes for rows in each) == counts
    return report if sound and whole and sorted(report.difference) == counts else None


def save_rows(path: Path, report: RowReport) -> None:
    """Keep a comparison for the next run. A cache that cannot be written is no error."""
    _save(path, report)


def _save(path: Path, record: Costs | RowReport) -> None:
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, durable=False) as file:
            file.write(json.dumps(asdict(record)).encode())


def _usual(data: dict[str, list[dict[str, float]]]) -> Usual:
    fresh = Usual()
    for name, rates in (("at", fresh.at), ("sure", fresh.sure)):
        kept = [Rate(float(rate["hits"]), float(rate["count"])) for rate in data[name]]
        if len(kept) != len(rates):
            raise ValueError(name)
        rates[:] = kept
    return fresh


def _curve(data: dict[str, dict[str, float]]) -> Curve:
    return Curve({int(rows): float(seconds) for rows, seconds in data["seconds"].items()})
