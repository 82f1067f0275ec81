"""Small GGUF files for tests: a Gemma 4 target and its drafter in shape, with empty weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

# Shapes of the pair: two sliding and one full layer, the last of which the drafter reads.
TARGET: dict[str, Any] = {
    "block_count": 3,
    "context_length": 1024,
    "embedding_length": 64,
    "feed_forward_length": 96,
    "attention.head_count": 4,
    "attention.head_count_kv": [2, 2, 1],
    "attention.key_length": 32,
    "attention.value_length": 32,
    "attention.key_length_swa": 16,
    "attention.value_length_swa": 16,
    "attention.sliding_window": 128,
    "attention.sliding_window_pattern": [True, True, False],
    "attention.shared_kv_layers": 0,
    "attention.layer_norm_rms_epsilon": 1e-6,
    "embedding_length_per_layer_input": 0,
    "rope.dimension_count": 32,
    "rope.dimension_count_swa": 16,
    "rope.freq_base": 1e6,
    "rope.freq_base_swa": 1e4,
}
DRAFTER: dict[str, Any] = {
    **TARGET,
    "block_count": 2,
    "embedding_length": 32,
    "embedding_length_out": 64,
    "nextn_predict_layers": 2,
    "attention.head_count_kv": [2, 1],
    "attention.sliding_window_pattern": [True, False],
}
TOKENS = ["<pad>", "<eos>", "<bos>", "<unk>", "a", "b", "c", "d"]


def write_gguf(
    path: Path,
    architecture: str,
    values: Mapping[str, Any],
    *,
    tensors: Mapping[str, tuple[int, ...]] | None = None,
    extra: Mapping[str, Any] | None = None,
    tokens: list[str] | None = None,
) -> Path:
    """Write a GGUF file; a value of None leaves its key out.

    Args:
        values: metadata below the architecture's name.
        tensors: name to shape in ggml's order, filled with zeros of type F32.
        extra: metadata under full names.
        tokens: the vocabulary, `TOKENS` by default.
    """
    writer = gguf.GGUFWriter(path, architecture)
    full = {f"{architecture}.{key}": value for key, value in values.items()}
    for key, value in (full | dict(extra or {})).items():
        _add(writer, key, value)
    writer.add_tokenizer_model("gemma4")
    writer.add_token_list(TOKENS if tokens is None else tokens)
    shapes = {"token_embd.weight": (8, len(TOKENS))} if tensors is None else tensors
    for name, shape in shapes.items():
        writer.add_tensor(name, np.zeros(shape[::-1], dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_target(path: Path, changes: Mapping[str, Any] | None = None, **more: Any) -> Path:
    """Write the small target with some values changed or, as None, left out."""
    return write_gguf(path, "gemma4", TARGET | dict(changes or {}), **more)


def write_drafter(path: Path, changes: Mapping[str, Any] | None = None, **more: Any) -> Path:
    """Write the small target's drafter with some values changed or, as None, left out."""
    return write_gguf(path, "gemma4-assistant", DRAFTER | dict(changes or {}), **more)


def _add(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    match value:
        case None:
            pass
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case _:
            writer.add_array(key, value)
