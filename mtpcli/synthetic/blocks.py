"""Random rows of quantised matrices, made as the bytes that the file holds.

A row is a function of its matrix and its number, so that any row can be had at any time, in any
thread, and a build gives the same file each time.
"""

from __future__ import annotations

import hashlib

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type

from convert.quantize import Bytes, encode

IdArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


# Blocks are random but for their half-precision fields: the byte offset of each, and its value for
# elements of root mean square 1. Elements are scale * (q - middle), every q equally likely.
_FIELDS = {
    Type.Q4_0: ((0, 1 / 4.637),),
    Type.Q4_1: ((0, 1 / 4.610), (2, -7.5 / 4.610)),
    Type.Q5_0: ((0, 1 / 9.247),),
    Type.Q5_1: ((0, 1 / 9.233), (2, -15.5 / 9.233)),
    Type.Q8_0: ((0, 1 / 73.90),),
    Type.Q2_K: ((80, 1 / 13.88), (82, 1.5 / 13.88)),
    Type.Q3_K: ((108, 1 / 43.48),),
    Type.Q4_K: ((0, 1 / 258.3), (2, 7.5 / 258.3)),
    Type.Q5_K: ((0, 1 / 529.0), (2, 15.5 / 529.0)),
    Type.Q6_K: ((208, 1 / 1364),),
    Type.IQ4_NL: ((0, 1 / 67.41),),
    Type.IQ4_XS: ((0, 1 / 1247),),
    Type.IQ3_S: ((0, 1 / 130),),  # roughly
}


def random_rows(kind: Type, name: str, ids: IdArray, width: int) -> Bytes:
    """Rows of a random matrix whose elements have a root mean square of 1 / sqrt(width).

    Args:
        name: the matrix; another name is another matrix.
        ids: int64 `[n]`, which rows.
        width: elements of a row, whole blocks of them.

    Returns:
        uint8 `[n, bytes per row]`.
    """
    scale = 1 / np.sqrt(width)
    if kind not in _FIELDS:
        values = random_bits(name, ids, width // 8).view(np.int8).astype(np.float32)
        return encode((values * np.float32(scale / 73.90)).reshape(-1), kind).reshape(len(ids), -1)
    block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    row_bytes = width // block * block_bytes
    raw = random_bits(name, ids, -(-row_bytes // 8)).view(np.uint8)
    raw = np.ascontiguousarray(raw[:, :row_bytes])
    blocks = raw.reshape(-1, block_bytes)
    for offset, value in _FIELDS[kind]:
        blocks[:, offset : offset + 2] = np.array([value * scale], np.float16).view(np.uint8)
    return raw


def random_bits(name: str, ids: IdArray, count: int) -> npt.NDArray[np.uint64]:
    """Random numbers that depend on a name and the id alone, uint64 `[n, count]`.

    The hash is splitmix64's finaliser (Steele, Lea and Flood, 2014) over a counter.
    """
    digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
    bits = ids.astype(np.uint64)[:, None] * np.uint64(count) + np.arange(count, dtype=np.uint64)
    bits *= _GOLDEN
    bits += np.frombuffer(digest, "<u8")
    bits ^= bits >> np.uint64(30)
    bits *= _MIX_1
    bits ^= bits >> np.uint64(27)
    bits *= _MIX_2
    bits ^= bits >> np.uint64(31)
    return bits


def decode_rows(kind: Type, rows: Bytes) -> FloatArray:
    """The values of encoded rows, float32 `[n, width]`."""
    values: FloatArray
    if kind in _FIELDS:
        # The public entry cuts a matrix into groups of sixteen rows, which is mostly overhead.
        _, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        blocks = rows.reshape(-1, block_bytes)
        values = getattr(gguf.quants, kind.name).dequantize_blocks(blocks)
    else:
        values = gguf.quants.dequantize(rows, kind)
    return values.reshape(len(rows), -1)
