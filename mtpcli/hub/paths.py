"""Names of files that came from somebody else, before they become files here."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath

from mtpcli.errors import ModelError
from mtpcli.sanitize import one_line

# A colon is a drive or a stream on some systems, the rest no name of a model's file needs.
_UNUSUAL = re.compile(r"[\x00-\x1f\x7f-\x9f\\:*?\"<>|]")


def inside(folder: Path, name: object) -> Path:
    """`folder / name`, if that is a place in the folder.

    Raises:
        ModelError: the name is absolute, climbs, or is none; or a link leads out of the folder.
    """
    parts = PurePosixPath(name).parts if isinstance(name, str) else ()
    refused = (
        not isinstance(name, str)
        or not parts
        or _UNUSUAL.search(name)
        or name.startswith("/")
        or any(part in ("..", ".") or len(part.encode("utf-8", "replace")) > 255 for part in parts)
    )
    if not refused:
        path = folder.joinpath(*parts)
        if path.parent.resolve().is_relative_to(folder.resolve()):
            return path
    shown = one_line(repr(name), 80)
    raise ModelError(
        f"the file name {shown} leads out of its folder, or holds odd characters: refused"
    )
