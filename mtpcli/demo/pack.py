"""The embedded pair, packed into GGUF files in the user's cache on first use."""

from __future__ import annotations

import hashlib
from pathlib import Path

from mtpcli import __version__
from mtpcli.errors import InputError

SNAPSHOTS = Path(__file__).parent
_TARGET, _DRAFTER = "target.gguf", "mtp-drafter.gguf"


def embedded_pair(cache: Path | None = None) -> tuple[Path, Path]:
    """Paths of the embedded target and drafter in Q8_0, packed now if they are not yet.

    Args:
        cache: folder to keep them in; None is the user's cache folder.

    Raises:
        InputError: they cannot be kept there.
    """
    from convert import convert_model
    from convert.errors import TakenError, WriteError

    folder = (cache or _user_cache()) / f"embedded-{_version()}"
    target, drafter = folder / _TARGET, folder / _DRAFTER
    if not (target.exists() and drafter.exists()):
        try:
            # Another process may pack at the same time: each writes whole files and renames them.
            convert_model(SNAPSHOTS / "target", target, "q8_0", force=True)
            convert_model(SNAPSHOTS / "drafter", drafter, "q8_0", force=True)
        except (WriteError, TakenError) as error:
            raise InputError(
                f"cannot keep the embedded pair: {error}; let XDG_CACHE_HOME "
                "name a folder that can be written, or name a model with -m"
            ) from None
    return target, drafter


def _user_cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("mtpcli", appauthor=False)


def _version() -> str:
    """Changes with the program and with the snapshots, so that a stale file is never used."""
    digest = hashlib.blake2b(__version__.encode(), digest_size=6)
    for path in sorted(SNAPSHOTS.glob("*/*")):
        if path.is_file():
            stat = path.stat()
            digest.update(
                f"{path.parent.name}/{path.name} {stat.st_size} {stat.st_mtime_ns}".encode()
            )
    return digest.hexdigest()
