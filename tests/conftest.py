"""Fixtures shared by all tests, and an environment in which they mean the same everywhere."""

from __future__ import annotations

import atexit
import io
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.reference.upstream import cache as reference_cache

ROOT = Path(__file__).parent.parent
# What should end does so in seconds, but a machine may be busy, or asleep in between.
PATIENCE = 900.0
# Where things are, and which devices to use.
_KEPT = ("PATH", "TMPDIR", "USER", "LOGNAME", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_KEPT_GROUPS = ("LLAMA_CPP_LIB_PATH", "GGML_VK_", "VK_", "MESA_", "CUDA_", "PYTEST_", "PIP_")
# What the tests of `make reference` compare with takes minutes to download and to build.
_REFERENCE = ("MTPCLI_LLAMA_", "MTPCLI_REFERENCE_")


def _own_environment() -> None:
    """No settings, caches, tokens, proxies, colours or language of whoever runs the tests."""
    os.environ.setdefault("MTPCLI_REFERENCE_CACHE", str(reference_cache()))
    for name in list(os.environ):
        if name not in _KEPT and not name.startswith(_KEPT_GROUPS + _REFERENCE):
            del os.environ[name]
    home = tempfile.mkdtemp(prefix="mtpcli-tests-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ |= {
        "HOME": home,
        "LANG": "C.UTF-8",
        "TERM": "dumb",
        "COLUMNS": "100",
        "PYTHONPATH": str(ROOT),
        # No model file is known from an earlier use, and none needs to be tried first.
        "MTPCLI_TRUST_FILES": "1",
    }


def _own_signals() -> None:
    """Programs that the tests start hear of signals that a script's `&` or nohup ignores."""
    heard = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, heard)
    for number in heard:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(
                number, lambda _number, _frame: None
            )  # what is started inherits no handler


_own_environment()
_own_signals()


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


Run = Callable[..., Result]


def _folders(tmp_path: Path) -> dict[str, str]:
    """The user's folders, each in the test's own."""
    kinds = ("cache", "config", "data", "state")
    return {f"XDG_{kind.upper()}_HOME": str(tmp_path / kind) for kind in kinds}


@pytest.fixture
def run_cli(tmp_path: Path) -> Run:
    """Run `mtpcli ARGS...` in a process of its own, without the user's settings or cache."""

    def run(
        *arguments: str | Path,
        stdin: str | bytes = b"",
        env: Mapping[str, str] | None = None,
        timeout: float = PATIENCE,
    ) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "mtpcli", *map(str, arguments)],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            env={**os.environ, **_folders(tmp_path), **(env or {})},
            cwd=tmp_path,
            timeout=timeout,
            check=False,
        )
        result = Result(done.stdout.decode(), done.stderr.decode(), done.returncode)
        assert "Traceback" not in result.stderr, result.stderr
        return result

    return run


@pytest.fixture
def run_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Run:
    """The same in this process: quick, for commands that have no model to load."""
    from mtpcli.__main__ import run as main

    monkeypatch.chdir(tmp_path)
    for name, folder in _folders(tmp_path).items():
        monkeypatch.setenv(name, folder)

    def run(*arguments: str | Path, stdin: str | bytes = b"") -> Result:
        data = stdin.encode() if isinstance(stdin, str) else stdin
        monkeypatch.setattr(sys, "argv", ["mtpcli", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8"))
        capsys.readouterr()
        code = main()
        stdout, stderr = capsys.readouterr()
        return Result(stdout, stderr, code)

    return run


@pytest.fixture
def in_subprocess() -> Callable[[str], None]:
    """Run Python code where an abort ends only that process; it must end well."""

    def run(code: str) -> None:
        done: Any = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    return run
