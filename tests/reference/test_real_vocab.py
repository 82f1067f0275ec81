"""The real vocabulary, 262144 tokens: converted unchanged, and llama.cpp splits text with it.

The vocabulary and the tokenizer's cases are those that llama.cpp's sources bring along.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert import convert_model
from convert.gguf_file import Header, read_header
from mtpcli.llama.model import Model
from tests import snapshots

pytestmark = pytest.mark.reference

LISTS = ("tokens", "token_type", "merges")
CONTROL, USER_DEFINED = 3, 4
ESCAPED_SPACE = "\u0120"  # merges are pairs with a space between, so a space inside is written so


@pytest.fixture(scope="module")
def original(llama_source: Path) -> Header:
    return read_header(llama_source / "models" / "ggml-vocab-gemma-4.gguf")


@pytest.fixture(scope="module")
def converted(original: Header, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny target whose tokenizer files were rebuilt from the vocabulary."""
    tokens, types, merges = (original.value(f"tokenizer.ggml.{name}") for name in LISTS)
    special = [text for text, kind in zip(tokens, types, strict=True) if kind in (3, 4)]
    tensors = snapshots.target_tensors()
    rng = np.random.default_rng(1)
    for name in ("embed_tokens", "embed_tokens_per_layer"):
        width = tensors[f"model.{name}.weight"].shape[1]
        values = rng.normal(0, 0.02, (len(tokens), width))
        tensors[f"model.{name}.weight"] = snapshots.bfloat16(values)
    folder = tmp_path_factory.mktemp("real") / "model"
    config = {**snapshots.TARGET_CONFIG, "vocab_size": len(tokens)}
    snapshots.write_snapshot(folder, config, tensors)
    snapshots.write_json(folder / "tokenizer.json", rebuilt(tokens, merges, set(special)))
    extra = {"extra_special_tokens": special}
    snapshots.write_json(folder / "tokenizer_config.json", snapshots.TOKENIZER_CONFIG | extra)
    return convert_model(folder, folder.with_suffix(".gguf"), "q8_0")


def rebuilt(tokens: list[str], merges: list[str], special: set[str]) -> dict[str, Any]:
    tokenizer = snapshots.tokenizer()
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    tokenizer["added_tokens"] = [
        {"id": token, "content": text, "special": True, **flags}
        for token, text in enumerate(tokens)
        if text in special
    ]
    tokenizer["model"]["vocab"] = {text: token for token, text in enumerate(tokens)}
    tokenizer["model"]["merges"] = [
        [part.replace(ESCAPED_SPACE, " ") for part in merge.split(" ")] for merge in merges
    ]
    return tokenizer


def test_tokens_types_and_merges_are_unchanged(original: Header, converted: Path) -> None:
    header = read_header(converted)
    assert len(original.value("tokenizer.ggml.tokens")) == 262144
    for name in LISTS:
        key = f"tokenizer.ggml.{name}"
        assert header.value(key) == original.value(key), name


def test_text_is_split_as_upstream_splits_it(llama_source: Path, converted: Path) -> None:
    cases = llama_source / "models" / "ggml-vocab-gemma-4.gguf"
    inputs = cases.with_suffix(".gguf.inp").read_bytes().split(b"\n__ggml_vocab_test__\n")
    outputs = cases.with_suffix(".gguf.out").read_text().splitlines()
    assert len(inputs) >= 40
    with Model(converted) as model:
        for text, ids in zip(inputs, outputs, strict=True):
            found = model.tokenize(text.decode(), add_bos=False, special=False)
            assert found == [int(one) for one in ids.split()], text
