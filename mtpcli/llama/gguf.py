"""What a GGUF file says about itself, through ggml's own reader: never the weights.

ggml reads a vocabulary of 262144 tokens in a tenth of a second and is the authority on what
llama.cpp will accept. It only logs what it dislikes, though, and asserts here and there, so the
file's structure is walked before (`gguf_walk`) and ggml's log becomes the error's reason.
"""

from __future__ import annotations

import ctypes
import functools
import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from mtpcli.errors import ModelError
from mtpcli.llama.gguf_walk import Damaged, ValueType, check_structure
from mtpcli.llama.lib import ggml_base
from mtpcli.sanitize import one_line

Value: TypeAlias = "bool | int | float | str | NDArray[Any] | StringArray"

_SCALARS: dict[ValueType, tuple[str, Any]] = {
    ValueType.UINT8: ("u8", ctypes.c_uint8),
    ValueType.INT8: ("i8", ctypes.c_int8),
    ValueType.UINT16: ("u16", ctypes.c_uint16),
    ValueType.INT16: ("i16", ctypes.c_int16),
    ValueType.UINT32: ("u32", ctypes.c_uint32),
    ValueType.INT32: ("i32", ctypes.c_int32),
    ValueType.FLOAT32: ("f32", ctypes.c_float),
    ValueType.BOOL: ("bool", ctypes.c_bool),
    ValueType.UINT64: ("u64", ctypes.c_uint64),
    ValueType.INT64: ("i64", ctypes.c_int64),
    ValueType.FLOAT64: ("f64", ctypes.c_double),
}
_MAX_DIMS = 4  # GGML_MAX_DIMS


@dataclass(frozen=True)
class TensorInfo:
    """One tensor, without its data.

    Attributes:
        name: as in the file, `blk.0.attn_q.weight`.
        shape: in ggml's order, the contiguous dimension first; trailing ones are dropped.
        type: ggml's name of the element type, `q8_0`.
        n_bytes: size of its data in the file.
        offset: where its data begins, in bytes from the beginning of the file.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    n_bytes: int
    offset: int

    @property
    def n_elements(self) -> int:
        """Number of parameters."""
        count = 1
        for size in self.shape:
            count *= size
        return count


class StringArray(Sequence[str]):
    """Strings that stay with ggml until asked for; bytes that are not UTF-8 are replaced.

    ggml hands them out as C strings, so one that holds a NUL ends there.
    """

    def __init__(self, context: _Context, index: int) -> None:
        self._context = context
        self._index = index
        self._size: int = context.lib.gguf_get_arr_n(context.handle, index)

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, item: int) -> str: ...
    @overload
    def __getitem__(self, item: slice) -> list[str]: ...
    def __getitem__(self, item: int | slice) -> str | list[str]:
        if isinstance(item, slice):
            return [self[i] for i in range(*item.indices(self._size))]
        position = item + self._size if item < 0 else item
        if not 0 <= position < self._size:  # ggml asserts on it
            raise IndexError(item)
        context = self._context
        raw: bytes = context.lib.gguf_get_arr_str(context.handle, self._index, position)
        return raw.decode("utf-8", "replace")


@dataclass(frozen=True, eq=False)
class GgufFile:
    """A file's header.

    Attributes:
        path: as it was given.
        size_bytes: of the whole file.
        metadata: key to value in the file's order; arrays of numbers are NumPy arrays of the
            file's own type, arrays of strings are read lazily.
        tensors: in the file's order.
    """

    path: Path
    size_bytes: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]

    @property
    def architecture(self) -> str:
        """`general.architecture`, empty if the file names none."""
        value = self.metadata.get("general.architecture")
        return value if isinstance(value, str) else ""

    def arch_value(self, key: str) -> Value | None:
        """The value of `<architecture>.<key>`, or None."""
        return self.metadata.get(f"{self.architecture}.{key}")

    def tensor(self, name: str) -> TensorInfo | None:
        """The tensor of that name, or None."""
        return next((tensor for tensor in self.tensors if tensor.name == name), None)


def read_metadata(path: Path) -> GgufFile:
    """Read the header of a GGUF file.

    Raises:
        ModelError: the file is missing, empty, cut short, damaged or no GGUF file at all.
    """
    try:
        check_structure(path)
    except Damaged as damage:
        raise ModelError(f"{path} {damage}") from None
    lib = _ggml()
    with _captured_log(lib) as log:
        handle = lib.gguf_init_from_file(os.fsencode(path), _InitParams(no_alloc=True, ctx=None))
    if not handle:
        # The last line only says that something failed before it; the first says what.
        reason = log[0] if log else "its header cannot be read"
        raise ModelError(f"{path} is damaged or cut short: {one_line(reason)}")
    context = _Context(lib, handle)
    size = path.stat().st_size
    tensors = tuple(_tensors(context))
    end = max((tensor.offset + tensor.n_bytes for tensor in tensors), default=0)
    missing = end - size
    if missing > 0:
        raise ModelError(
            f"{path} is cut short: {missing} of {size + missing} bytes are missing, "
            "get the file again"
        )
    return GgufFile(path, size, MappingProxyType(_metadata(context)), tensors)


class _Context:
    """Owns ggml's copy of a header: freed when the last lazy array over it is gone."""

    def __init__(self, lib: Any, handle: int) -> None:
        self.lib = lib
        self.handle = handle
        weakref.finalize(self, lib.gguf_free, handle)


def _metadata(context: _Context) -> dict[str, Value]:
    lib, handle = context.lib, context.handle
    result: dict[str, Value] = {}
    for index in range(lib.gguf_get_n_kv(handle)):
        key = lib.gguf_get_key(handle, index).decode("utf-8", "replace")
        result[key] = _value(context, index)
    return result


def _value(context: _Context, index: int) -> Value:
    lib, handle = context.lib, context.handle
    kind = ValueType(lib.gguf_get_kv_type(handle, index))
    if kind is ValueType.STRING:
        text: str = lib.gguf_get_val_str(handle, index).decode("utf-8", "replace")
        return text
    if kind is not ValueType.ARRAY:
        value: bool | int | float = getattr(lib, f"gguf_get_val_{_SCALARS[kind][0]}")(handle, index)
        return value
    element = ValueType(lib.gguf_get_arr_type(handle, index))
    if element is ValueType.STRING:
        return StringArray(context, index)
    # ggml stores bools as bytes of any value: compare, rather than reinterpret them.
    dtype = np.dtype(np.int8 if element is ValueType.BOOL else _SCALARS[element][1])
    count = lib.gguf_get_arr_n(handle, index)
    if not count:
        return np.empty(0, dtype=bool if element is ValueType.BOOL else dtype)
    raw = ctypes.string_at(lib.gguf_get_arr_data(handle, index), count * dtype.itemsize)
    array = np.frombuffer(raw, dtype=dtype)
    return array != 0 if element is ValueType.BOOL else array


def _tensors(context: _Context) -> Iterator[TensorInfo]:
    lib, handle = context.lib, context.handle
    start: int = lib.gguf_get_data_offset(handle)
    for index in range(lib.gguf_get_n_tensors(handle)):
        shape = list(lib.gguf_get_tensor_ne(handle, index)[:_MAX_DIMS])
        while len(shape) > 1 and shape[-1] == 1:
            shape.pop()
        kind = lib.gguf_get_tensor_type(handle, index)
        yield TensorInfo(
            name=lib.gguf_get_tensor_name(handle, index).decode("utf-8", "replace"),
            shape=tuple(shape),
            type=lib.ggml_type_name(kind).decode(),
            n_bytes=lib.gguf_get_tensor_size(handle, index),
            offset=start + lib.gguf_get_tensor_offset(handle, index),
        )


class _InitParams(ctypes.Structure):
    """`struct gguf_init_params`."""

    _fields_ = (("no_alloc", ctypes.c_bool), ("ctx", ctypes.c_void_p))


_LogCallback = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


@contextmanager
def _captured_log(lib: Any) -> Iterator[list[str]]:
    """Collect ggml's log lines, without the functions' names, and put its logger back after."""
    lines: list[str] = []

    def keep(_level: int, text: bytes, _user_data: object) -> None:
        line = " ".join(text.decode("utf-8", "replace").split())
        lines.append(line.split(": ", 1)[-1])

    callback = _LogCallback(keep)
    previous, user_data = ctypes.c_void_p(), ctypes.c_void_p()
    lib.ggml_log_get(ctypes.byref(previous), ctypes.byref(user_data))
    lib.ggml_log_set(ctypes.cast(callback, ctypes.c_void_p), None)
    try:
        yield lines
    finally:
        lib.ggml_log_set(previous, user_data)


@functools.cache
def _ggml() -> Any:
    """libggml-base with the signatures of its reader."""
    lib = ggml_base()
    pointer, index = ctypes.c_void_p, ctypes.c_int64
    signatures: dict[str, tuple[Any, ...]] = {
        "ggml_log_get": (None, pointer, pointer),
        "ggml_log_set": (None, pointer, pointer),
        "ggml_type_name": (ctypes.c_char_p, ctypes.c_int),
        "gguf_init_from_file": (pointer, ctypes.c_char_p, _InitParams),
        "gguf_free": (None, pointer),
        "gguf_get_data_offset": (ctypes.c_size_t, pointer),
        "gguf_get_n_kv": (index, pointer),
        "gguf_get_key": (ctypes.c_char_p, pointer, index),
        "gguf_get_kv_type": (ctypes.c_int, pointer, index),
        "gguf_get_arr_type": (ctypes.c_int, pointer, index),
        "gguf_get_arr_n": (ctypes.c_size_t, pointer, index),
        "gguf_get_arr_data": (pointer, pointer, index),
        "gguf_get_arr_str": (ctypes.c_char_p, pointer, index, ctypes.c_size_t),
        "gguf_get_val_str": (ctypes.c_char_p, pointer, index),
        "gguf_get_n_tensors": (index, pointer),
        "gguf_get_tensor_name": (ctypes.c_char_p, pointer, index),
        "gguf_get_tensor_ne": (ctypes.POINTER(ctypes.c_int64), pointer, index),
        "gguf_get_tensor_type": (ctypes.c_int, pointer, index),
        "gguf_get_tensor_size": (ctypes.c_size_t, pointer, index),
        "gguf_get_tensor_offset": (ctypes.c_size_t, pointer, index),
    }
    for suffix, kind in _SCALARS.values():
        signatures[f"gguf_get_val_{suffix}"] = (kind, pointer, index)
    for name, (result, *arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib
