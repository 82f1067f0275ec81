"""What llama.cpp takes for granted of a file's vocabulary, tensors and settings.

It compares the shapes of tensors with the header itself and says what is wrong. What is checked
here are the things that it does not look at before they end the process.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from mtpcli.errors import ModelError
from mtpcli.llama.gguf import GgufFile, StringArray
from mtpcli.sanitize import one_line

_NO_TOKEN = 0xFFFFFFFF
# No kernel multiplies with these: whole numbers, and types of intermediate results.
_NO_WEIGHTS = frozenset(("i8", "i16", "i32", "i64", "f64", "q8_1", "q8_K"))
_ROPE_SCALINGS = ("none", "linear", "yarn", "longrope")
_TOKENIZERS = ("gemma4", "llama")


def check_contents(file: GgufFile) -> None:
    """Whether llama.cpp can read and multiply what the file holds.

    Raises:
        ModelError: something in it would end the process.
    """
    for reason in (_vocabulary(file), _tensors(file), _settings(file)):
        if reason:
            raise ModelError(f"{file.path} is damaged: {one_line(reason)}")


def _vocabulary(file: GgufFile) -> str | None:
    """Arrays are read as if they were of the usual type, and tokens looked up unseen."""
    get = file.metadata.get
    tokens = get("tokenizer.ggml.tokens")
    if not isinstance(tokens, StringArray) or not tokens:
        return "it has no vocabulary"
    if get("tokenizer.ggml.model") not in _TOKENIZERS:
        return f"its tokenizer is {get('tokenizer.ggml.model')!r:.40}, not Gemma's"
    types, scores = get("tokenizer.ggml.token_type"), get("tokenizer.ggml.scores")
    for name, value, dtypes in (
        ("types", types, (np.int32,)),
        ("scores", scores, (np.float32, np.int32)),
    ):
        if value is not None and not _is_array(value, len(tokens), dtypes):
            return f"its {name} of tokens are no list of {len(tokens)} numbers"
    merges = get("tokenizer.ggml.merges")
    if merges is not None and not isinstance(merges, StringArray):
        return "the merges of its tokenizer are no texts"
    for key, value in file.metadata.items():
        if key.startswith("tokenizer.ggml.") and key.endswith("_token_id"):
            known = isinstance(value, int) and (0 <= value < len(tokens) or value == _NO_TOKEN)
            if not known:
                return f"{key} is {value}, which is no token"
    for name in ("bos", "eos"):
        # llama.cpp has a default only where the tokenizer is not Gemma 4's own.
        token = get(f"tokenizer.ggml.{name}_token_id", _NO_TOKEN)
        added = get(f"tokenizer.ggml.add_{name}_token")
        if added and token == _NO_TOKEN and get("tokenizer.ggml.model") == "gemma4":
            return f"it adds a token {name} to each text and does not say which"
    return None


def _is_array(value: Any, size: int, dtypes: tuple[Any, ...]) -> bool:
    return isinstance(value, np.ndarray) and len(value) >= size and value.dtype in dtypes


def _tensors(file: GgufFile) -> str | None:
    """Shapes are compared with the header, types are not."""
    for tensor in file.tensors:
        if tensor.type in _NO_WEIGHTS or (len(tensor.shape) == 1 and tensor.type != "f32"):
            return f"tensor {tensor.name} is of type {tensor.type}"
    return None


def _settings(file: GgufFile) -> str | None:
    scaling = file.arch_value("rope.scaling.type")
    if scaling is not None and scaling not in _ROPE_SCALINGS:
        return f"its positions are scaled in a way named {scaling!r:.40}"
    if file.arch_value("expert_group_count"):
        return "its experts are in groups, which Gemma's are not"
    return None
