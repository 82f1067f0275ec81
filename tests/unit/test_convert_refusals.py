"""What the converter refuses, and why it says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert import ConvertError, convert_model
from tests import snapshots
from tests.snapshots import Edit, configure, edited


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return snapshots.write_target(tmp_path / "gemma-4-T2B-it")


def convert(snapshot: Path, outtype: str = "f32") -> None:
    convert_model(snapshot, snapshot.parent / "out.gguf", outtype)


def remove(name: str) -> Edit:
    return lambda config, tensors: tensors.pop(name)


def put(name: str, *shape: int, dtype: Any = np.float32) -> Edit:
    return lambda config, tensors: tensors.update({name: np.zeros(shape, dtype)})


@pytest.mark.parametrize(
    "by_layer",
    [
        {"1": {"head_dim": 32}},
        {"1": {"head_dim": 32}, "3": {"head_dim": 64}},
        {"0": {"head_dim": 8}, "1": {"head_dim": 32}, "3": {"head_dim": 32}},
        {"1": {"head_dim": 32, "sliding_window": 1}, "3": {"head_dim": 32, "sliding_window": 1}},
        {"1": 32, "3": 32},
        {"x": {}},
    ],
)
def test_refuses_layers_that_llama_cpp_cannot_tell_apart(
    tmp_path: Path, by_layer: dict[str, Any]
) -> None:
    def edit(config: dict[str, Any], tensors: dict[str, Any]) -> None:
        del config["global_head_dim"]
        config["per_layer_config"] = by_layer

    with pytest.raises(ConvertError, match="per_layer_config"):
        convert(edited(tmp_path, edit))


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (remove("model.norm.weight"), r"tensor model\.norm\.weight is missing"),
        (remove("model.layers.1.self_attn.k_proj.weight"), "k_proj.weight is missing"),
        (remove("model.layers.3.layer_scalar"), "layer_scalar is missing"),
        (put("model.layers.0.mlp.extra.weight", 2), "tensor model.layers.0.mlp.extra.weight"),
        (put("model.layers.4.input_layernorm.weight", snapshots.HIDDEN), "belongs to no part"),
        (put("model.norm.weight", 65), r"has shape \[65\], config.json makes it \[64\]"),
        (put("model.norm.weight", 64, dtype=np.uint8), "is U8; BF16, F16 and F32"),
        (put("model.language_model.norm.weight", 64), "under two names"),
        (configure(hidden_size=128), "config.json makes it"),
        (configure(vocab_size=289), "has 288 tokens, config.json says 289|makes it"),
        (configure(architectures=["LlamaForCausalLM"]), "'LlamaForCausalLM' is not one of"),
        (configure(architectures=None), "architecture None is not one of"),
        (configure(hidden_size="64"), "`hidden_size` must be an integer >= 1, is '64'"),
        (configure(hidden_size=0), "`hidden_size` must be an integer"),
        (configure(num_hidden_layers=10**9), "`num_hidden_layers` is 1000000000"),
        (configure(num_hidden_layers=5), "`layer_types` has 4 entries for 5 layers"),
        (configure(layer_types=["chunked"] * 4), "`layer_types` must list"),
        (configure(layer_types=["sliding_attention"] * 4), "must be full_attention"),
        (configure(num_key_value_heads=3), "multiple"),
        (configure(num_kv_shared_layers=4), "must leave a layer"),
        (configure(rms_norm_eps="small"), "`rms_norm_eps` must be a number"),
        (configure(use_double_wide_mlp=1), "`use_double_wide_mlp` must be true or false"),
        (configure(rope_parameters=[]), "`rope_parameters` must be an object"),
        (configure(rope_parameters={"full_attention": {"rope_type": "yarn"}}), "proportional"),
        (configure(enable_moe_block=True), "`num_experts` must be an integer"),
        (configure(attention_k_eq_v=True), "v_proj.weight belongs to no part"),
        (configure(use_bidirectional_attention="all"), "not supported"),
        (configure(hidden_activation="silu"), "`hidden_activation` must be gelu_pytorch_tanh"),
    ],
)
def test_refuses_targets_that_contradict_themselves(
    tmp_path: Path, edit: Edit, complaint: str
) -> None:
    with pytest.raises(ConvertError, match=complaint):
        convert(edited(tmp_path, edit))


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (remove("pre_projection.weight"), r"tensor pre_projection\.weight is missing"),
        (remove("masked_embedding.token_ordering"), "token_ordering is missing"),
        (remove("masked_embedding.centroids.weight"), "centroids.weight is missing"),
        (
            put("masked_embedding.token_ordering", snapshots.VOCAB, dtype=np.int64),
            "must name each token exactly once",
        ),
        (put("masked_embedding.token_ordering", 8, dtype=np.int64), "has shape"),
        (put("masked_embedding.centroids.weight", 8, 33), "has shape"),
        (configure(num_centroids=7), "has shape"),
        (
            lambda config, tensors: (
                configure(num_centroids=7)(config, tensors),
                put("masked_embedding.centroids.weight", 7, 32)(config, tensors),
            ),
            "do not divide a vocabulary of 288",
        ),
        (configure(centroid_intermediate_top_k=9), "do not divide"),
        (configure(backbone_hidden_size=snapshots.DRAFTER_HIDDEN), "hidden size of its target"),
        (configure(backbone_hidden_size=None), "`backbone_hidden_size` must be"),
    ],
)
def test_refuses_drafters_that_contradict_themselves(
    tmp_path: Path, edit: Edit, complaint: str
) -> None:
    with pytest.raises(ConvertError, match=complaint):
        convert(edited(tmp_path, edit, drafter=True))


@pytest.mark.parametrize(
    ("name", "text", "complaint"),
    [
        ("config.json", "{", "config.json: not valid JSON"),
        ("config.json", "[]", "config.json: a JSON object is expected"),
        ("generation_config.json", "{]", "generation_config.json: not valid JSON"),
        ("generation_config.json", '{"top_k": "many"}', "general.sampling.top_k: 'many' is no"),
        ("README.md", "---\na: [\n---\n", "README.md: no usable model card"),
    ],
)
def test_refuses_files_that_make_no_sense(
    target: Path, name: str, text: str, complaint: str
) -> None:
    (target / name).write_text(text)
    with pytest.raises(ConvertError, match=complaint):
        convert(target)


def test_refuses_what_is_no_snapshot(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="not a folder"):
        convert(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConvertError, match=r"config\.json: not found"):
        convert(tmp_path / "empty")


def test_refuses_unknown_outtypes(target: Path) -> None:
    with pytest.raises(ConvertError, match="'q3_k' is not one of auto, f32"):
        convert(target, "q3_k")
