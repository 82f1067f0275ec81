"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
# Each test has an empty cache, in which no model file is known from an earlier use.
os.environ["MTPCLI_TRUST_FILES"] = "1"


@dataclass(frozen=True)
class Pair:
    """GGUF files of a target and its drafter."""

    target: Path
    drafter: Path


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    stdout: str
    stderr: str
    exit_code: int


@pytest.fixture(scope="session")
def demo_pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    """The embedded pair, converted to Q8_0 once for all tests."""
    from convert import convert_pair

    demo = ROOT / "mtpcli" / "demo"
    folder = tmp_path_factory.mktemp("pair")
    target, drafter = convert_pair(demo / "target", demo / "drafter", folder, "q8_0")
    return Pair(target, drafter)


@pytest.fixture
def run_cli(tmp_path: Path) -> Callable[..., Result]:
    """Run `mtpcli ARGS...` in a process of its own, without the user's settings or cache."""

    def run(
        *arguments: str | Path,
        stdin: str | bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> Result:
        foreign = ("MTPCLI_", "HF_")
        clean = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        clean |= {
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "XDG_CONFIG_HOME": str(tmp_path / "config"),
            "XDG_DATA_HOME": str(tmp_path / "data"),
            "PYTHONPATH": str(ROOT),
            "COLUMNS": "100",
            "MTPCLI_TRUST_FILES": "1",
            **(env or {}),
        }
        done = subprocess.run(
            [sys.executable, "-m", "mtpcli", *map(str, arguments)],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            env=clean,
            cwd=tmp_path,
            timeout=timeout,
            check=False,
        )
        result = Result(done.stdout.decode(), done.stderr.decode(), done.returncode)
        assert "Traceback" not in result.stderr, result.stderr
        return result

    return run


@pytest.fixture
def in_subprocess() -> Callable[[str], None]:
    """Run Python code where an abort ends only that process; it must end well."""

    def run(code: str) -> None:
        done: Any = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return run
