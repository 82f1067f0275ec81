"""The header of an existing GGUF file: metadata as raw bytes, tensors as places in the file.

Values are kept as the file holds them, so that they can be copied without being understood; that
also makes a header with the real vocabulary a matter of a second instead of half a minute.
Files are downloaded, so every length is checked against the file's size before it is used.
"""

from __future__ import annotations

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from gguf import GGUFValueType as Kind

from convert.errors import ConvertError
from convert.quantize import Bytes, encoded_bytes
from convert.writer import SCALARS, Keys

MAX_ENTRIES = 100_000
MAX_DIMENSIONS = 4


@dataclass(frozen=True)
class FileTensor:
    """A tensor of a GGUF file; its shape is outermost dimension first."""

    name: str
    shape: tuple[int, ...]
    kind: gguf.GGMLQuantizationType
    file: Path
    offset: int

    @property
    def nbytes(self) -> int:
        return encoded_bytes(math.prod(self.shape), self.kind)

    def read(self, start: int = 0, count: int | None = None) -> Bytes:
        """Read `count` bytes from `start` on, encoded as they are."""
        wanted = self.nbytes - start if count is None else count
        data = np.fromfile(self.file, np.uint8, wanted, offset=self.offset + start)
        if len(data) != wanted:
            raise ConvertError(f"{self.file}: ends inside tensor {self.name}; download it again")
        return data


@dataclass(frozen=True)
class Header:
    """Attributes:
    keys: type and value of each key, in bytes.
    tensors: by name, in the file's order.
    """

    path: Path
    keys: Keys
    tensors: dict[str, FileTensor]

    def value(self, key: str, default: Any = None) -> Any:
        """A scalar, a string, or a list of either; `default` where the key is missing."""
        raw = self.keys.get(key)
        return default if raw is None else _decoded(raw)


def read_header(path: Path) -> Header:
    """Read the header of a GGUF file of version 2 or 3.

    Raises:
        ConvertError: not such a file, or one that is cut or lies.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Parser(path, data).header()
    except (OSError, ValueError) as error:  # mmap refuses empty files with ValueError
        raise ConvertError(f"{path}: cannot be read as a GGUF file: {error}") from error


class _Parser:
    """Walks through a header; `position` never leaves the file."""

    def __init__(self, path: Path, data: mmap.mmap) -> None:
        self.path = path
        self.data = data
        self.position = 0

    def header(self) -> Header:
        magic, version = self.take("<4sI")
        if magic != b"GGUF" or version not in (2, 3):
            raise ConvertError(f"{self.path}: not a GGUF file of version 2 or 3")
        n_tensors, n_keys = self.take("<QQ")
        if max(n_tensors, n_keys) > MAX_ENTRIES:
            raise ConvertError(f"{self.path}: header claims {n_tensors} tensors, {n_keys} keys")
        keys = dict(self.entry() for _ in range(n_keys))
        infos = [self.tensor() for _ in range(n_tensors)]
        alignment = _decoded(keys.get("general.alignment", struct.pack("<II", Kind.UINT32, 32)))
        if type(alignment) is not int or alignment < 1:
            raise ConvertError(f"{self.path}: general.alignment is {alignment!r}")
        start = -(-self.position // alignment) * alignment
        tensors = {}
        for name, shape, kind, offset in infos:
            tensor = FileTensor(name, shape, kind, self.path, start + offset)
            if tensor.offset + tensor.nbytes > len(self.data):
                raise ConvertError(f"{self.path}: cut inside tensor {name}; download it again")
            tensors[name] = tensor
        return Header(self.path, keys, tensors)

    def skip(self, length: int) -> int:
        """Step over bytes and say where they began."""
        begin = self.position
        if length > len(self.data) - begin:
            raise ConvertError(f"{self.path}: cut inside its header; download it again")
        self.position = begin + length
        return begin

    def take(self, fmt: str) -> tuple[Any, ...]:
        return struct.unpack_from(fmt, self.data, self.skip(struct.calcsize(fmt)))

    def string(self) -> str:
        (length,) = self.take("<Q")
        begin = self.skip(length)
        return self.data[begin : begin + length].decode("utf-8", "replace")

    def entry(self) -> tuple[str, bytes]:
        key = self.string()
        begin = self.position
        (kind,) = self.take("<I")
        self.skip_value(kind)
        return key, self.data[begin : self.position]

    def skip_value(self, kind: int) -> None:
        if kind == Kind.STRING:
            self.skip(*self.take("<Q"))
        elif kind == Kind.ARRAY:
            item, count = self.take("<IQ")
            if item == Kind.STRING:
                for _ in range(count):
                    self.skip(*self.take("<Q"))
            else:
                self.skip(count * self.size(item))
        else:
            self.skip(self.size(kind))

    def size(self, kind: int) -> int:
        if kind not in SCALARS:
            raise ConvertError(f"{self.path}: metadata of unknown type {kind}")
        return struct.calcsize(SCALARS[Kind(kind)])

    def tensor(self) -> tuple[str, tuple[int, ...], gguf.GGMLQuantizationType, int]:
        name = self.string()
        (n_dims,) = self.take("<I")
        if n_dims > MAX_DIMENSIONS:
            raise ConvertError(f"{self.path}: tensor {name} has {n_dims} dimensions")
        shape = tuple(reversed(self.take(f"<{n_dims}Q")))
        kind, offset = self.take("<IQ")
        if kind not in gguf.GGML_QUANT_SIZES:
            raise ConvertError(f"{self.path}: tensor {name} has unknown type {kind}")
        block, _ = gguf.GGML_QUANT_SIZES[kind]
        if (shape[-1] if shape else 1) % block != 0:
            raise ConvertError(f"{self.path}: tensor {name} does not consist of whole blocks")
        return name, shape, gguf.GGMLQuantizationType(kind), offset


def _decoded(raw: bytes) -> Any:
    """The value of a key; the bytes are known to be complete."""
    (kind,) = struct.unpack_from("<I", raw)
    if kind == Kind.STRING:
        return raw[12:].decode("utf-8", "replace")
    if kind != Kind.ARRAY:
        return struct.unpack_from(SCALARS[Kind(kind)], raw, 4)[0]
    item, count = struct.unpack_from("<IQ", raw, 4)
    if item != Kind.STRING:
        return np.frombuffer(raw, np.dtype(SCALARS[Kind(item)]), count, 16).tolist()
    texts, position = [], 16
    for _ in range(count):
        (length,) = struct.unpack_from("<Q", raw, position)
        texts.append(raw[position + 8 : position + 8 + length].decode("utf-8", "replace"))
        position += 8 + length
    return texts
