"""GGUF files taken apart and put together again, so that any part of them can be made to lie.

Written apart from the product's readers: what is tested must not build the test.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Any

STRING, ARRAY = 8, 9
SCALARS = {
    **{0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i"},
    **{6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"},
}
ALIGNMENT = 32


@dataclass
class Entry:
    """A key. `value` is a number, bytes of a string, or a list; `element` is an array's type."""

    key: bytes
    kind: int
    value: Any
    element: int = 0


@dataclass
class Info:
    """A tensor; `offset` counts from the start of the data."""

    name: bytes
    dims: list[int]
    kind: int
    offset: int


@dataclass
class File:
    """A whole file; `data` are its tensors' bytes, padding included."""

    version: int
    entries: list[Entry]
    infos: list[Info]
    data: bytes = field(repr=False)

    def entry(self, key: str) -> Entry:
        return next(entry for entry in self.entries if entry.key == key.encode())


def parse(raw: bytes) -> File:
    """Take a sound file apart."""
    position = 0

    def take(form: str) -> Any:
        nonlocal position
        (value,) = struct.unpack_from(form, raw, position)
        position += struct.calcsize(form)
        return value

    def text() -> bytes:
        nonlocal position
        size = take("<Q")
        position += size
        return raw[position - size : position]

    def scalar(kind: int) -> Any:
        return text() if kind == STRING else take(SCALARS[kind])

    position = 4
    version, n_infos, n_entries = take("<I"), take("<Q"), take("<Q")
    entries, infos = [], []
    for _ in range(n_entries):
        key, kind = text(), take("<I")
        if kind == ARRAY:
            element, count = take("<I"), take("<Q")
            entries.append(Entry(key, kind, [scalar(element) for _ in range(count)], element))
        else:
            entries.append(Entry(key, kind, scalar(kind)))
    for _ in range(n_infos):
        name, n_dims = text(), take("<I")
        dims = [take("<Q") for _ in range(n_dims)]
        infos.append(Info(name, dims, take("<I"), take("<Q")))
    return File(version, entries, infos, raw[position + -position % ALIGNMENT :])


def header(file: File) -> bytes:
    """The bytes before the data, padding included."""

    def text(value: bytes) -> bytes:
        return struct.pack("<Q", len(value)) + value

    def scalar(kind: int, value: Any) -> bytes:
        return text(value) if kind == STRING else struct.pack(SCALARS[kind], value)

    parts = [struct.pack("<4sIQQ", b"GGUF", file.version, len(file.infos), len(file.entries))]
    for entry in file.entries:
        parts += [text(entry.key), struct.pack("<I", entry.kind)]
        if entry.kind == ARRAY:
            parts.append(struct.pack("<IQ", entry.element, len(entry.value)))
            parts += [scalar(entry.element, value) for value in entry.value]
        else:
            parts.append(scalar(entry.kind, entry.value))
    for info in file.infos:
        parts += [text(info.name), struct.pack("<I", len(info.dims))]
        parts += [struct.pack("<Q", size) for size in info.dims]
        parts.append(struct.pack("<IQ", info.kind, info.offset))
    raw = b"".join(parts)
    return raw + bytes(-len(raw) % ALIGNMENT)


def build(file: File) -> bytes:
    """Put a file together."""
    return header(file) + file.data
