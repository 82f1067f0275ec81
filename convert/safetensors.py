"""Reading safetensors checkpoints without torch: one file, or shards with an index.

The format (https://github.com/huggingface/safetensors#format): eight bytes with the little-endian
length of a JSON header, the header `{name: {dtype, shape, data_offsets}}`, then the tensors' bytes.
Offsets count from the end of the header and must cover the rest of the file without gap or overlap.
Headers come out of downloaded files, so nothing in them is believed before it was checked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from convert.errors import ConvertError
from convert.jsonfile import parse_object, read_object

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
MAX_HEADER_BYTES = 100_000_000  # the limit of the reference implementation

# Bytes per element of every type of the format; BF16 has no NumPy type and is read as its bits.
ITEM_BYTES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
READABLE = {"BF16": "<u2", "F16": "<f2", "F32": "<f4", "I32": "<i4", "I64": "<i8"}


@dataclass(frozen=True)
class StoredTensor:
    """A tensor on disk.

    Attributes:
        name: its name in the file.
        dtype: a key of `ITEM_BYTES`.
        shape: outermost dimension first.
        file: the file that holds it.
        offset: where its first byte is in that file.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    offset: int

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.size * ITEM_BYTES[self.dtype]

    def read(self, start: int = 0, count: int | None = None) -> npt.NDArray[Any]:
        """Read `count` elements from `start` on (flat; BF16 as uint16 bits).

        Reads instead of mapping: memory stays flat whatever the size of the tensor, and a file
        that shrinks meanwhile is an error, not a bus error. Safe to call from several threads.

        Raises:
            ConvertError: unsupported type, or the file ends too early.
        """
        if self.dtype not in READABLE:
            raise ConvertError(
                f"{self.file}: tensor {self.name} is {self.dtype}; BF16, F16 and F32 can be"
                " converted: use the unquantised checkpoint"
            )
        dtype = np.dtype(READABLE[self.dtype])
        wanted = self.size - start if count is None else count
        try:
            data = np.fromfile(
                self.file, dtype, wanted, offset=self.offset + start * dtype.itemsize
            )
        except OSError as error:
            raise ConvertError(f"{self.file}: cannot be read: {error}") from error
        if len(data) != wanted:
            raise ConvertError(f"{self.file}: ends inside tensor {self.name}; download it again")
        return data


def read_snapshot(folder: Path) -> dict[str, StoredTensor]:
    """List the tensors of a snapshot by name, without reading their data.

    Raises:
        ConvertError: no weights, a missing shard, or a file that is not sound safetensors.
    """
    index = folder / INDEX_FILE
    if not index.exists():
        return read_file(folder / SINGLE_FILE)
    weight_map = read_object(index).get("weight_map")
    if not isinstance(weight_map, dict) or not all(isinstance(s, str) for s in weight_map.values()):
        raise ConvertError(f"{index}: `weight_map` must say for each tensor which file holds it")
    tensors: dict[str, StoredTensor] = {}
    for shard in sorted(set(weight_map.values())):
        if shard != Path(shard).name or "\0" in shard:
            raise ConvertError(f"{index}: shard {shard!r} is not a plain file name")
        tensors.update(_read_shard(folder / shard, index, weight_map))
    for name, shard in weight_map.items():
        if name not in tensors:
            raise ConvertError(f"{folder / shard}: lacks tensor {name} that {INDEX_FILE} promises")
    return tensors


def _read_shard(path: Path, index: Path, weight_map: dict[str, str]) -> dict[str, StoredTensor]:
    tensors = read_file(path)
    for name in tensors:
        if weight_map.get(name) != path.name:
            raise ConvertError(f"{path}: tensor {name} is not listed for it in {index.name}")
    return tensors


def read_file(path: Path) -> dict[str, StoredTensor]:
    """List the tensors of one safetensors file by name.

    Raises:
        ConvertError: missing or unreadable, or its header is cut, huge, not JSON, or lies.
    """
    try:
        with path.open("rb") as file:
            size = path.stat().st_size
            prefix = file.read(8)
            length = int.from_bytes(prefix, "little")
            if len(prefix) < 8 or length > size - 8:
                raise ConvertError(
                    f"{path}: not a complete safetensors file ({size} bytes); download it again"
                )
            if length > MAX_HEADER_BYTES:
                raise ConvertError(f"{path}: header of {length} bytes is beyond the format's limit")
            header = parse_object(file.read(length), path)
    except FileNotFoundError:
        raise ConvertError(
            f"{path}: not found; point to a complete Hugging Face snapshot with safetensors weights"
        ) from None
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read: {error.strerror}") from error
    header.pop("__metadata__", None)
    tensors = [_tensor(name, entry, path, 8 + length) for name, entry in header.items()]
    _check_cover(tensors, path, 8 + length, size)
    return {tensor.name: tensor for tensor in tensors}


def _tensor(name: str, entry: Any, path: Path, data_start: int) -> StoredTensor:
    """Check one header entry and turn it into a tensor."""
    if not isinstance(entry, dict):
        raise ConvertError(f"{path}: header entry of tensor {name} is not an object")
    dtype, shape, offsets = (entry.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise ConvertError(f"{path}: tensor {name} has unsupported dtype {dtype!r}")
    if not _is_sizes(shape) or not _is_sizes(offsets) or len(offsets) != 2:
        raise ConvertError(f"{path}: tensor {name} has a malformed shape or data_offsets")
    tensor = StoredTensor(name, dtype, tuple(shape), path, data_start + offsets[0])
    if offsets[1] - offsets[0] != tensor.nbytes:
        raise ConvertError(
            f"{path}: tensor {name} needs {tensor.nbytes} bytes for {dtype} {list(shape)},"
            f" its data_offsets span {offsets[1] - offsets[0]}"
        )
    return tensor


def _is_sizes(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _check_cover(tensors: list[StoredTensor], path: Path, start: int, size: int) -> None:
    """The tensors must cover bytes start..size exactly: anything else is damage or deceit."""
    position = start
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.nbytes)):
        if tensor.offset != position:
            kind = "overlaps the one before it" if tensor.offset < position else "follows a gap"
            raise ConvertError(f"{path}: tensor {tensor.name} {kind}; the header lies")
        position += tensor.nbytes
    if position > size:
        raise ConvertError(
            f"{path}: cut: its header promises {position} bytes, it has {size}; download it again"
        )
    if position < size:
        raise ConvertError(f"{path}: {size - position} bytes after the last tensor")
