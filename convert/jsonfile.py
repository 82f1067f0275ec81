"""JSON files of a snapshot: read strictly, with errors that name the file."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from convert.errors import ConvertError


def read_object(path: Path) -> dict[str, Any]:
    """Read a JSON file whose top level is an object.

    Raises:
        ConvertError: the file is missing, unreadable, not JSON, or not an object.
    """
    try:
        if path.exists() and not path.is_file():
            raise ConvertError(f"{path}: is not a regular file")
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ConvertError(f"{path}: not found; a snapshot needs it, download it again") from None
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read: {error.strerror}") from error
    return parse_object(raw, path)


def parse_object(raw: bytes, path: Path) -> dict[str, Any]:
    """Parse UTF-8 JSON that came out of `path`; its top level must be an object.

    Raises:
        ConvertError: not JSON, a key twice in one object, or no object at the top.
    """
    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except RecursionError:
        raise ConvertError(f"{path}: JSON nested too deeply") from None
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise ConvertError(f"{path}: not valid JSON ({error}); download it again") from error
    if not isinstance(value, dict):
        raise ConvertError(f"{path}: a JSON object is expected, got {type(value).__name__}")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"key {twice!r} appears twice")
    return found
