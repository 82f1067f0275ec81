"""A first try of model files in a process of their own.

Headers are checked before llama.cpp sees a file, but some damage ends the process inside of
llama.cpp, in an assertion or worse. So files that have never been used are loaded, drafted with
and verified with once where nothing is lost when that happens. Those that pass are remembered.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
from pathlib import Path

from mtpcli import __version__
from mtpcli.errors import ModelError
from mtpcli.llama import child

# Skips the try: for files that are known to be sound where there is no cache to remember it in.
TRUST = "MTPCLI_TRUST_FILES"
# Seconds of the processor: a paused or busy machine makes no file a damaged one.
_PATIENCE = 60
# Seconds by the clock beyond that, for what waits for ever and computes nothing.
_SAFETY_NET = 1800.0
_SLOWEST_DISK = 20e6  # bytes per second
_ROUNDS = 2
_ENDLESS = -getattr(signal, "SIGXCPU", 24)


def ensure_tried(target: Path, drafter: Path | None) -> None:
    """Try files that have not been used before; any change of a file makes it another.

    Raises:
        ModelError: they ended the process that tried them, or kept it busy without end. Errors
            that llama.cpp reports are left to the one who loads them.
    """
    if os.environ.get(TRUST):
        return
    files = [target, *([drafter] if drafter else [])]
    mark = _mark(files)
    if mark.exists():
        return
    names = " with ".join(str(path) for path in files)
    seconds = _PATIENCE + int(sum(path.stat().st_size for path in files) / _SLOWEST_DISK)
    code, said = _try(files, seconds)
    if code == _ENDLESS:
        raise ModelError(f"llama.cpp does not get done with {names}: is it damaged?")
    if code < 0 and code != -signal.SIGKILL:  # that is how a machine short of memory ends it
        name = signal.Signals(-code).name
        why = f"{name}: {said}" if said else name
        raise ModelError(f"llama.cpp cannot use {names}, it ends the process ({why})")
    if code == 0:
        with contextlib.suppress(OSError):
            mark.parent.mkdir(parents=True, exist_ok=True)
            mark.touch()


def _try(files: list[Path], seconds: int) -> tuple[int, str]:
    """The exit code of a try, negative for a signal, and the last line that it said.

    `_ENDLESS` is that of one that took longer than `seconds` of the processor, or for ever.
    """
    started = child.running(
        "mtpcli.trial",
        str(seconds),
        *map(str, files),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={TRUST: "1"},
    )
    with started as process:
        try:
            _, said = process.communicate(timeout=seconds + _SAFETY_NET)
        except subprocess.TimeoutExpired:
            return _ENDLESS, ""
    lines = said.decode("utf-8", "replace").strip().splitlines()
    return process.returncode, lines[-1].rpartition("/")[2][:200] if lines else ""


def _mark(files: list[Path]) -> Path:
    """The empty file that says that these files have been used."""
    from importlib.metadata import version

    from platformdirs import user_cache_path

    digest = hashlib.blake2b(digest_size=10)
    digest.update(f"{__version__} {version('llama-cpp-python')}\n".encode())
    for path in files:
        stat = path.stat()
        line = f"{stat.st_dev} {stat.st_ino} {stat.st_size} {stat.st_mtime_ns}\n"
        digest.update(os.fsencode(path.resolve()) + line.encode())
    return user_cache_path("mtpcli", appauthor=False) / "tried" / digest.hexdigest()


def main() -> int:
    """Load files and write a few tokens; 3 for a known error.

    The arguments are the seconds of the processor that it may take, and the files' names.
    """
    seconds, *files = sys.argv[1:]
    child.begin(int(seconds))
    from mtpcli.config import DraftConfig, RuntimeConfig, SamplingConfig
    from mtpcli.errors import MtpError
    from mtpcli.session import PairPaths, Session

    target, *drafter = map(Path, files)
    paths = PairPaths(target, drafter[0] if drafter else None)
    # On the CPU, the weights only mapped: it takes no memory from what may fit on a GPU alone.
    runtime = RuntimeConfig(64, threads=1, devices=("cpu",), repack=False)
    try:
        with Session(paths, DraftConfig(2), runtime) as session:
            prompt = session.raw_tokens("Hello, world!\n")[:4]
            request, _ = session.request(prompt, SamplingConfig(seed=1), max_tokens=3 * _ROUNDS)
            for _round in zip(range(_ROUNDS), session.engine.rounds([request]), strict=False):
                pass
    except MtpError:
        return 3
    return 0
