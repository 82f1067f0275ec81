"""A walk over the keys of a GGUF file in plain Python: structure only, values are skipped.

It comes before ggml's reader, which aborts the process on an empty key and reserves memory for
whatever counts a damaged file claims. It also finds one key without reading the rest.
"""

from __future__ import annotations

import enum
import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class ValueType(enum.IntEnum):
    """Types of metadata values, numbered as in the file."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


class Damaged(Exception):
    """What is wrong with a file, to be said after its name."""


_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_U32 = struct.Struct("<I").unpack_from
_U64 = struct.Struct("<Q").unpack_from
_HEADER = struct.Struct("<4sIQQ")
_VERSIONS = (2, 3)
# Far above any real file, far below what would exhaust memory before the reader gives up.
_MAX_KEYS = 1 << 16
_MAX_TENSORS = 1 << 20
_MAX_STRINGS = 1 << 24
_CUT = "is cut short: its header ends too early, get the file again"
_LOOKALIKES = {
    b"version https://git-lfs": "is a Git LFS pointer, not the file itself: run `git lfs pull`",
    b"<": "is a web page, not a model: the download went wrong",
    b"{": "is JSON, not a GGUF file",
    b"PK\x03\x04": "is a zip or PyTorch file, not GGUF: convert it first",
    b"ggjt": "is of the format before GGUF, which llama.cpp no longer reads",
    b"ggml": "is of the format before GGUF, which llama.cpp no longer reads",
}


def check_structure(path: Path) -> None:
    """Walk all keys.

    Raises:
        Damaged: the file cannot be opened, is no GGUF file, or is not sound up to its tensors.
    """
    with _mapped(path) as view:
        for _ in _walk(view):
            pass


def peek_string(path: Path, key: str) -> str | None:
    """The string under `key`, usually without touching more than the file's first page.

    None if the file has no such string or is no sound GGUF file.
    """
    wanted = key.encode()
    try:
        with _mapped(path) as view:
            for name, kind, start in _walk(view):
                if name == wanted:
                    if kind != ValueType.STRING:
                        return None
                    (size,) = _U64(view, start)
                    return bytes(view[start + 8 : start + 8 + size]).decode("utf-8", "replace")
    except (Damaged, struct.error):
        pass
    return None


@contextmanager
def _mapped(path: Path) -> Iterator[mmap.mmap]:
    try:
        if path.is_dir():
            raise Damaged("is a directory: name the GGUF file in it")
        if not path.exists():
            raise Damaged("does not exist")
        if not path.is_file():  # a pipe would block, a device would not end
            raise Damaged("is not a regular file")
        with path.open("rb") as file:
            if path.stat().st_size == 0:
                raise Damaged("is empty")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
                yield view
    except OSError as error:
        raise Damaged(f"cannot be read: {error.strerror or error}") from None


def _walk(view: mmap.mmap) -> Iterator[tuple[bytes, int, int]]:
    """Yield (key, value type, offset of the value), one per key."""
    _check_magic(view)
    if len(view) < _HEADER.size:
        raise Damaged(_CUT)
    _, version, n_tensors, n_keys = _HEADER.unpack_from(view)
    if version not in _VERSIONS:
        if version & 0xFFFF == 0:
            raise Damaged("is a big-endian GGUF file, which this machine cannot read")
        raise Damaged(f"is GGUF version {version}; llama.cpp reads versions 2 and 3")
    if n_keys > _MAX_KEYS or n_tensors > _MAX_TENSORS:
        raise Damaged(f"is damaged: it claims {n_keys} keys and {n_tensors} tensors")
    position = _HEADER.size
    try:
        for _ in range(n_keys):
            (size,) = _U64(view, position)
            if size == 0:
                raise Damaged("is damaged: one of its keys is empty")
            key = view[position + 8 : position + 8 + size]
            position += 8 + size
            (kind,) = _U32(view, position)
            yield key, kind, position + 4
            position = _skip(view, kind, position + 4)
            if position > len(view):
                raise Damaged(_CUT)
    except struct.error:
        raise Damaged(_CUT) from None
    except (OverflowError, ValueError):  # an offset beyond what an index can be
        raise Damaged("is damaged: a length in its header is impossible") from None


def _check_magic(view: mmap.mmap) -> None:
    start = view[:32]
    if start[:4] == b"GGUF":
        return
    if b"GGUF".startswith(start[:4]):
        raise Damaged(_CUT)
    for prefix, what in _LOOKALIKES.items():
        if start.startswith(prefix):
            raise Damaged(what)
    if start[8:9] == b"{":
        raise Damaged("is a safetensors file, not GGUF: `mtpcli convert` makes one of its folder")
    raise Damaged("is not a GGUF file")


def _skip(view: mmap.mmap, kind: int, position: int) -> int:
    """The offset after a value of that kind at `position`."""
    if kind == ValueType.STRING:
        return position + 8 + int(_U64(view, position)[0])
    if kind != ValueType.ARRAY:
        if kind not in _SIZES:
            raise Damaged(f"is damaged: a value has the unknown type {kind}")
        return position + _SIZES[kind]
    (element,) = _U32(view, position)
    (count,) = _U64(view, position + 4)
    position += 12
    if element == ValueType.STRING:
        if count > _MAX_STRINGS:
            raise Damaged(f"is damaged: it claims an array of {count} strings")
        for _ in range(count):
            position += 8 + _U64(view, position)[0]
        return position
    if element not in _SIZES:
        raise Damaged(f"is damaged: an array has elements of the unknown type {element}")
    return position + int(count) * _SIZES[element]
