"""Output types: which tensor gets which, and how a piece of one is encoded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type

from convert.errors import ConvertError

Bytes = npt.NDArray[np.uint8]


class Outtype(NamedTuple):
    """What most matrices become, what the output head becomes, `general.file_type`."""

    matrix: Type
    head: Type
    file_type: int


# Four or five bits cost the head more than they save: llama.cpp's own quantiser keeps it at six,
# which NumPy cannot write; eight is the next.
OUTTYPES = {
    "f32": Outtype(Type.F32, Type.F32, gguf.LlamaFileType.ALL_F32),
    "f16": Outtype(Type.F16, Type.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": Outtype(Type.BF16, Type.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": Outtype(Type.Q8_0, Type.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "q4_0": Outtype(Type.Q4_0, Type.Q8_0, gguf.LlamaFileType.MOSTLY_Q4_0),
    "q4_1": Outtype(Type.Q4_1, Type.Q8_0, gguf.LlamaFileType.MOSTLY_Q4_1),
    "q5_0": Outtype(Type.Q5_0, Type.Q8_0, gguf.LlamaFileType.MOSTLY_Q5_0),
    "q5_1": Outtype(Type.Q5_1, Type.Q8_0, gguf.LlamaFileType.MOSTLY_Q5_1),
}
ALWAYS_F32 = ("ffn_gate_inp.weight",)  # a router's choice of experts does not survive rounding
OUTTYPE_OF_DTYPE = {"F32": "f32", "F16": "f16", "BF16": "bf16"}


def tensor_type(name: str, shape: tuple[int, ...], outtype: Outtype, head: str) -> Type:
    """The type of one tensor of the file; `head` is the name of the one that makes the logits.

    As upstream decides it: vectors and routers stay f32, and a row that cannot be cut into blocks
    becomes f16.
    """
    if len(shape) < 2 or name.endswith(ALWAYS_F32):
        return Type.F32
    wanted = outtype.head if name == head else outtype.matrix
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return wanted if shape[-1] % block == 0 else Type.F16


def encoded_bytes(elements: int, kind: Type) -> int:
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    return elements // block * block_bytes


def to_float32(raw: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Widen raw elements: uint16 are the bits of BF16, everything else is a NumPy float."""
    if raw.dtype == np.uint16:
        return (raw.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return raw.astype(np.float32, copy=False)


def encode(raw: npt.NDArray[Any], kind: Type) -> Bytes:
    """Encode whole blocks of a tensor.

    Args:
        raw: flat elements, uint16 for BF16 bits, else float16 or float32.
        kind: the type to encode as; its block length must divide the number of elements.

    Raises:
        ConvertError: a value is too large for f16.
    """
    if kind == Type.BF16 and raw.dtype == np.uint16:
        return raw.view(np.uint8)
    values = to_float32(raw)
    if kind == Type.F32:
        return values.view(np.uint8)
    if kind == Type.F16:
        with np.errstate(over="raise"):
            try:
                return values.astype(np.float16).view(np.uint8)
            except FloatingPointError:
                raise ConvertError("a value is too large for f16; use bf16 or q8_0") from None
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    # Blocks of zeros and denormals divide by zero on their way to a scale of zero.
    with np.errstate(all="ignore"):
        return _BLOCKS[kind](values.reshape(-1, block)).reshape(-1)


# gguf's quantisers give ggml's bits. Their blocks are called directly: the public entry cuts a
# tensor into groups of sixteen rows, which for narrow rows is mostly interpreter time.
_BLOCKS: dict[Type, Callable[[npt.NDArray[np.float32]], Bytes]] = {
    Type.BF16: gguf.quants.BF16.quantize_blocks,
    Type.Q8_0: gguf.quants.Q8_0.quantize_blocks,
    Type.Q4_0: gguf.quants.Q4_0.quantize_blocks,
    Type.Q4_1: gguf.quants.Q4_1.quantize_blocks,
    Type.Q5_0: gguf.quants.Q5_0.quantize_blocks,
    Type.Q5_1: gguf.quants.Q5_1.quantize_blocks,
}
