"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_DAY = 24 * 60 * 60.0
_RANDOM_BYTES = 8
# Only names that were made here: a folder's unfinished batch is called nearly so.
_PARTS = f".mtpcli-{'[0-9a-f]' * 2 * _RANDOM_BYTES}.part"


@contextlib.contextmanager
def replacing(path: Path, *, private: bool = False, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write that becomes `path` at the end of the block.

    Until then it stands beside it, under a name that is nobody's; after an error or an interrupt it
    is gone. What a kill has left is removed by a later write into the same folder.

    Args:
        private: for its owner only; else for whom the umask allows.
        durable: outlives a power cut; a cache need not, and waits for no disk.

    Raises:
        OSError: it cannot be written; what stood at `path` still stands there.
    """
    _remove_abandoned(path.parent)
    part = path.with_name(f".mtpcli-{secrets.token_hex(_RANDOM_BYTES)}.part")

    def create(name: str, flags: int) -> int:
        return os.open(name, flags, 0o600 if private else 0o666)

    try:
        with open(part, "xb", opener=create) as file:
            _lock(file)
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
    if durable:
        _sync_folder(path.parent)


@functools.cache  # once for each folder: there may be as many writes as files in it
def _remove_abandoned(folder: Path) -> None:
    """Remove what nobody has written to for a day, and nobody holds.

    Neither is enough: some network file systems do not tell of other machines' locks.
    """
    for old in folder.glob(_PARTS):
        with contextlib.suppress(OSError):
            if old.stat().st_mtime < time.time() - _DAY:
                with old.open("rb") as file:
                    if _lock(file):
                        old.unlink()


def _lock(file: BinaryIO) -> bool:
    """Hold a file until it is closed, if nobody else does."""
    try:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except ImportError:  # Windows, where a file that is open cannot be removed
        return True
    except OSError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    """Let the new name outlive a power cut, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
