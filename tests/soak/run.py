"""Soak: batches and chats in one process for an hour. `python -m tests.soak.run --minutes 60`.

Writes `soak.csv`, a line every few seconds, `soak.svg` and `soak.json` into a folder. Ends with 1
if memory or handles grow, or if any repetition's texts are not those of the first one.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from time import monotonic
from typing import Any

# Longer steps were stopped in the middle, by Ctrl-Z or a lid: the hour does not count that time.
_LONGEST_STEP = 20.0
_EVERY = 4.0
# The allocator's heap fills until every kind of work has met every other in it: some minutes. What
# comes after this share of the time is flat, or a leak: its last tenth over its first.
_SETTLING, _MOST_GROWTH = 0.25, 1.02


@dataclass
class Sample:
    """A line of the CSV file; `digest` is of the repetition that ended last."""

    seconds: float
    rss_mb: float
    fds: int
    threads: int
    requests: int
    laps: int
    digest: str


class Recorder:
    """Measures this process between two steps of the work."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", newline="", encoding="utf-8")
        self._csv = csv.DictWriter(self._file, list(Sample.__annotations__))
        self._csv.writeheader()
        self._seen, self._written = monotonic(), -_EVERY
        self.seconds = 0.0
        self.samples: list[Sample] = []

    def tick(self, requests: int, laps: int, digest: str) -> None:
        """Count the time of a step, and write a line if the last one is old enough."""
        now = monotonic()
        self.seconds += min(now - self._seen, _LONGEST_STEP)
        self._seen = now
        if self.seconds - self._written < _EVERY:
            return
        self._written = self.seconds
        sample = Sample(round(self.seconds, 1), *_process(), requests, laps, digest)
        self.samples.append(sample)
        self._csv.writerow(asdict(sample))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def _process() -> tuple[float, int, int]:
    """Resident memory in MB, open files and threads, as Linux tells them."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    rss = pages * os.sysconf("SC_PAGE_SIZE") / 1e6
    files, threads = (len(list(Path(f"/proc/self/{name}").iterdir())) for name in ("fd", "task"))
    return round(rss, 2), files, threads


def verdict(samples: list[Sample], first: dict[int, str], drifted: list[int]) -> dict[str, Any]:
    """Figures of a soak, and what is wrong with it."""
    begin = _SETTLING * samples[-1].seconds
    settled = [sample for sample in samples if sample.seconds >= begin]
    tenth = max(1, len(settled) // 10)
    start = median(sample.rss_mb for sample in settled[:tenth])
    end = median(sample.rss_mb for sample in settled[-tenth:])
    handles = sorted({sample.fds for sample in settled})
    problems = []
    if end > start * _MOST_GROWTH:
        problems.append(f"memory grew from {start:.1f} to {end:.1f} MB")
    if handles[-1] > handles[0]:
        problems.append(f"open files went from {handles[0]} to {handles[-1]}")
    if drifted:
        problems.append(f"repetitions with other texts than the first: {drifted[:10]}")
    return {
        "minutes": round(samples[-1].seconds / 60, 1),
        "requests": samples[-1].requests,
        "repetitions": samples[-1].laps,
        "rss_mb_settled": start,
        "rss_mb_end": end,
        "rss_mb_highest": max(sample.rss_mb for sample in settled),
        "open_files": handles,
        "threads": sorted({sample.threads for sample in settled}),
        "digests": first,
        "repetitions_that_differ": len(drifted),
        "problems": problems,
    }


def main() -> int:
    """Run it; the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--out", type=Path, default=Path("soak"))
    options = parser.parse_args()
    folder: Path = options.out.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    for name in [name for name in os.environ if name.startswith("MTPCLI_")]:
        del os.environ[name]
    for kind in ("CACHE", "CONFIG", "STATE"):
        os.environ[f"XDG_{kind}_HOME"] = str(folder / kind.lower())

    from mtpcli.demo.pack import embedded_pair
    from mtpcli.session import PairPaths
    from tests.soak.plot import write_plot
    from tests.soak.work import VARIANTS, Work

    recorder = Recorder(folder / "soak.csv")
    laps, digest = 0, ""
    first: dict[int, str] = {}
    drifted: list[int] = []
    work = Work(
        PairPaths(*embedded_pair()), folder, lambda: recorder.tick(work.requests, laps, digest)
    )
    while recorder.seconds < options.minutes * 60 or laps < VARIANTS:
        digest = work.lap(laps % VARIANTS)
        if first.setdefault(laps % VARIANTS, digest) != digest:
            drifted.append(laps)
        laps += 1
    recorder.tick(work.requests, laps, digest)
    work.close()
    recorder.close()
    found = verdict(recorder.samples, first, drifted)
    (folder / "soak.json").write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    samples = recorder.samples
    write_plot(
        folder / "soak.svg",
        f"{found['requests']} texts in {found['minutes']:.0f} minutes, one process",
        [sample.seconds / 60 for sample in samples],
        {
            "resident memory, MB": [sample.rss_mb for sample in samples],
            "open files": [sample.fds for sample in samples],
            "threads": [sample.threads for sample in samples],
        },
    )
    print(json.dumps(found))
    return 1 if found["problems"] else 0


if __name__ == "__main__":
    sys.exit(main())
