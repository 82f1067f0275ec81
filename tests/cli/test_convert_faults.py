"""`mtpcli convert` on a full disk and when it is told to end: no file, or a whole one."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

from tests import snapshots
from tests.conftest import ROOT


def test_full_disk(tmp_path: Path) -> None:
    source, out = snapshots.write_target(tmp_path / "small"), tmp_path / "out"
    done = subprocess.run(
        [sys.executable, "-m", "mtpcli", "convert", str(source), "-o", str(out)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        # Python ignores the signal that comes with it, and sees an error as on a full disk.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert not out.exists() or list(out.iterdir()) == []


def test_output_that_is_no_folder(tmp_path: Path) -> None:
    source = snapshots.write_target(tmp_path / "small")
    done = subprocess.run(
        [sys.executable, "-m", "mtpcli", "convert", str(source), "-o", "/dev/null"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
