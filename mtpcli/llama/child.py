"""Processes of our own for what may end llama.cpp, or cannot be interrupted in it.

None outlives the one that started it, however that ends: a child reads a pipe whose other end
only its parent has, and ends when that is closed.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import IO

from mtpcli.llama import abort


@contextlib.contextmanager
def running(
    module: str, *arguments: str, stdout: int | IO[bytes], stderr: int, env: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs `main` of a module, which calls `begin` first; killed at the end.

    Args:
        stdout, stderr: as `subprocess.Popen` has them.
        env: to be added to this process's.
    """
    # With the same search path as here: `-m` would look into the current folder first, where
    # modules of strangers may be.
    code = f"import sys; sys.path[:] = {sys.path!r}; from {module} import main; sys.exit(main())"
    reading, writing = os.pipe()
    try:
        with subprocess.Popen(
            [sys.executable, "-c", code, *arguments],
            stdin=reading,
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, abort.KEEP: "1", **env},
            start_new_session=True,  # Ctrl-C is for the parent
        ) as process:
            try:
                yield process
            finally:
                process.kill()
    finally:
        os.close(reading)
        os.close(writing)


def begin(processor_seconds: int | None = None) -> None:
    """Watch the parent, leave no core file, and end by SIGXCPU after so much computing."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(ImportError):  # Windows
        import resource

        for limit, value in ((resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, processor_seconds)):
            hard = resource.getrlimit(limit)[1]
            if value is not None and (hard == resource.RLIM_INFINITY or value <= hard):
                resource.setrlimit(limit, (value, hard))


def _end_with_parent() -> None:
    while os.read(0, 1):
        pass
    os._exit(1)
