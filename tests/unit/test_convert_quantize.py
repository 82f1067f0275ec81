"""Encoding, bit by bit against ggml's own."""

from __future__ import annotations

import ctypes

import numpy as np
import numpy.typing as npt
import pytest
from gguf import GGMLQuantizationType as Type

from convert import ConvertError
from convert.quantize import Bytes, encode, encoded_bytes
from mtpcli.llama.lib import ggml_base
from tests import snapshots

Values = npt.NDArray[np.float32]
BLOCK_TYPES = [Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0]


def by_ggml(values: Values, kind: Type) -> Bytes:
    """What ggml's quantiser makes of flat values."""
    quantize = ggml_base().ggml_quantize_chunk
    quantize.restype = ctypes.c_size_t
    quantize.argtypes = [ctypes.c_int, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 3]
    quantize.argtypes += [ctypes.c_void_p]
    out = np.zeros(encoded_bytes(values.size, kind), np.uint8)
    size = quantize(kind, values.ctypes.data, out.ctypes.data, 0, 1, values.size, None)
    assert size == out.size
    return out


def samples() -> dict[str, Values]:
    rng = np.random.default_rng(1)
    ordinary = rng.normal(0, 0.02, 32 * 4096).astype(np.float32)
    outliers = ordinary * rng.choice([1, 1, 1, 50], ordinary.size).astype(np.float32)
    return {
        "ordinary": ordinary,
        "from bf16": snapshots.widened(snapshots.bfloat16(ordinary)),
        "outliers": outliers,
        "halves": rng.integers(-255, 256, 32 * 256).astype(np.float32) * np.float32(0.5),
        "zeros": np.zeros(64, np.float32),
        "one sign": np.abs(ordinary[:3200]),
    }


@pytest.mark.parametrize("kind", BLOCK_TYPES, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", samples())
def test_blocks_are_those_of_ggml(kind: Type, name: str) -> None:
    values = samples()[name]
    np.testing.assert_array_equal(encode(values, kind), by_ggml(values, kind))


def test_bf16_rounds_to_nearest_even() -> None:
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x7FC00001, 0xFF7FFFFF], np.uint32)
    encoded = encode(bits.view(np.float32), Type.BF16).view(np.uint16)
    assert encoded.tolist() == [0x3F80, 0x3F82, 0x3F81, 0x7FC0, 0xFF80]


def test_bf16_stays_as_it_is() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    np.testing.assert_array_equal(encode(bits, Type.BF16).view(np.uint16), bits)


def test_f16_is_widened_and_bounded() -> None:
    halves = np.array([1.5, -65504, 6e-8], np.float16)
    assert encode(halves, Type.F32).view(np.float32).tolist() == halves.tolist()
    assert encode(halves, Type.F16).view(np.float16).tolist() == halves.tolist()
    with pytest.raises(ConvertError, match="too large for f16"):
        encode(np.array([70000], np.float32), Type.F16)
