"""What is inside the files: tensors, types and metadata of a target and a drafter."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from convert import ConvertError, convert_model
from tests import snapshots
from tests.snapshots import configure, edited

# Largest error of a value in a block, as a share of the block's largest value.
TOLERANCE = {"f32": 0.0, "bf16": 0.0, "f16": 2**-11, "q8_0": 1 / 250}
TOLERANCE |= {"q4_0": 1 / 7.9, "q4_1": 1 / 14.9, "q5_0": 1 / 15.9, "q5_1": 1 / 30.9}


class File:
    """A GGUF file read back with gguf's own reader."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        self.keys = {name: field.contents() for name, field in reader.fields.items()}
        self.types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
        self.values = {
            tensor.name: gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            for tensor in reader.tensors
        }


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return snapshots.write_target(tmp_path / "gemma-4-T2B-it")


@pytest.fixture
def drafter(tmp_path: Path) -> Path:
    return snapshots.write_drafter(tmp_path / "gemma-4-T2B-it-assistant")


def convert(snapshot: Path, outtype: str = "f32") -> File:
    return File(convert_model(snapshot, snapshot.parent / "out.gguf", outtype, force=True))


def test_every_tensor_of_a_target_is_there_under_its_new_name(target: Path) -> None:
    file = convert(target)
    source = snapshots.target_tensors()
    assert len(file.values) == len(source) + 1
    for layer in (0, 3):
        hf, out = f"model.layers.{layer}.", f"blk.{layer}."
        for old, new in {
            "input_layernorm.weight": "attn_norm.weight",
            "self_attn.q_proj.weight": "attn_q.weight",
            "self_attn.o_proj.weight": "attn_output.weight",
            "mlp.down_proj.weight": "ffn_down.weight",
            "pre_feedforward_layernorm.weight": "ffn_norm.weight",
            "post_feedforward_layernorm.weight": "post_ffw_norm.weight",
            "per_layer_projection.weight": "proj.weight",
            "layer_scalar": "layer_output_scale.weight",
        }.items():
            wanted = snapshots.widened(source[hf + old])
            np.testing.assert_array_equal(file.values[out + new], wanted)
    for old, new in {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.embed_tokens_per_layer.weight": "per_layer_token_embd.weight",
        "model.per_layer_projection_norm.weight": "per_layer_proj_norm.weight",
        "model.layers.1.self_attn.v_proj.weight": "blk.1.attn_v.weight",
        "model.layers.1.self_attn.k_norm.weight": "blk.1.attn_k_norm.weight",
    }.items():
        np.testing.assert_array_equal(file.values[new], snapshots.widened(source[old]))
    assert "blk.2.attn_k.weight" not in file.values


def test_unrotated_dimensions_stand_still(target: Path) -> None:
    factors = convert(target).values["rope_freqs.weight"]
    rotated = snapshots.HEAD_FULL // 8  # a quarter of the head's dimensions, in pairs
    np.testing.assert_array_equal(factors[:rotated], 1)
    np.testing.assert_array_equal(factors[rotated:], np.float32(1e30))
    assert len(factors) == snapshots.HEAD_FULL // 2


def test_metadata_of_a_target(target: Path) -> None:
    keys = convert(target, "q8_0").keys
    expected = {
        "general.architecture": "gemma4",
        "general.name": "Gemma 4 T2B It",
        "general.file_type": gguf.LlamaFileType.MOSTLY_Q8_0,
        "general.sampling.temp": 1.0,
        "general.sampling.top_k": 64,
        "gemma4.block_count": 4,
        "gemma4.context_length": 1024,
        "gemma4.embedding_length": snapshots.HIDDEN,
        "gemma4.feed_forward_length": [96, 96, 192, 192],
        "gemma4.attention.head_count": snapshots.HEADS,
        "gemma4.attention.head_count_kv": 1,
        "gemma4.attention.key_length": snapshots.HEAD_FULL,
        "gemma4.attention.key_length_swa": snapshots.HEAD,
        "gemma4.attention.sliding_window": 32,
        "gemma4.attention.sliding_window_pattern": [True, False, True, False],
        "gemma4.attention.shared_kv_layers": 2,
        "gemma4.embedding_length_per_layer_input": snapshots.PER_LAYER,
        "gemma4.final_logit_softcapping": 30.0,
        "gemma4.rope.freq_base": 1e6,
        "gemma4.rope.freq_base_swa": 1e4,
    }
    assert {key: keys.get(key) for key in expected} == expected
    assert keys["tokenizer.ggml.tokens"][:3] == ["<pad>", "<eos>", "<bos>"]


def test_a_drafter_and_its_ordered_head(drafter: Path) -> None:
    file = convert(drafter, "q8_0")
    source = snapshots.drafter_tensors()
    assert file.keys["general.architecture"] == "gemma4-assistant"
    assert file.keys["gemma4-assistant.embedding_length_out"] == snapshots.HIDDEN
    assert file.keys["gemma4-assistant.nextn_predict_layers"] == 4
    assert file.keys["gemma4-assistant.attention.shared_kv_layers"] == 4
    assert file.keys["mtpcli.ordered_head.num_centroids"] == snapshots.CENTROIDS
    assert file.keys["mtpcli.ordered_head.top_k"] == 2
    centroids = snapshots.widened(source["masked_embedding.centroids.weight"])
    assert file.keys["mtpcli.ordered_head.centroids"] == centroids.reshape(-1).tolist()
    ordering = source["masked_embedding.token_ordering"]
    assert file.keys["mtpcli.ordered_head.token_ordering"] == ordering.tolist()
    # llama.cpp refuses a drafter file with tensors of the head.
    assert not any("mask" in name for name in file.values)
    assert {"nextn.pre_projection.weight", "nextn.post_projection.weight"} <= set(file.values)


def test_a_declared_head_that_was_not_shipped_is_no_error(tmp_path: Path) -> None:
    def edit(config: dict[str, Any], tensors: dict[str, Any]) -> None:
        del tensors["masked_embedding.centroids.weight"]
        del tensors["masked_embedding.token_ordering"]

    keys = convert(edited(tmp_path, edit, drafter=True)).keys
    assert not any(key.startswith("mtpcli.ordered_head") for key in keys)


def test_target_and_drafter_have_one_fingerprint_and_others_another(
    target: Path, drafter: Path, tmp_path: Path
) -> None:
    own = convert(target).keys["mtpcli.fingerprint"]
    assert convert(drafter).keys["mtpcli.fingerprint"] == own

    def widen_backbone(config: dict[str, Any], tensors: dict[str, Any]) -> None:
        config["backbone_hidden_size"] = 96
        tensors["pre_projection.weight"] = np.zeros((snapshots.DRAFTER_HIDDEN, 192), np.float32)
        tensors["post_projection.weight"] = np.zeros((96, snapshots.DRAFTER_HIDDEN), np.float32)

    other = edited(tmp_path, widen_backbone, drafter=True)
    assert convert(other).keys["mtpcli.fingerprint"] != own


@pytest.mark.parametrize("outtype", TOLERANCE)
def test_values_survive_within_the_precision_of_their_type(target: Path, outtype: str) -> None:
    file = convert(target, outtype)
    exact = convert(target, "f32").values
    for name, values in file.values.items():
        error = np.abs(values - exact[name]).max()
        assert error <= TOLERANCE[outtype] * np.abs(exact[name]).max(), name
    quantised = {name for name, kind in file.types.items() if kind == outtype.upper()}
    assert "blk.0.attn_q.weight" in quantised
    if outtype != "f32":
        kept = set(file.types) - quantised - {"token_embd.weight"}
        assert kept == {n for n, v in exact.items() if v.ndim == 1}


def test_the_head_of_a_four_bit_file_keeps_eight(target: Path) -> None:
    types = convert(target, "q4_0").types
    assert types["token_embd.weight"] == "Q8_0"
    assert types["per_layer_token_embd.weight"] == "Q4_0"


@pytest.mark.parametrize(
    ("dtype", "kind"), [(np.uint16, "BF16"), (np.float16, "F16"), (np.float32, "F32")]
)
def test_auto_keeps_the_type_of_the_checkpoint(tmp_path: Path, dtype: Any, kind: str) -> None:
    def edit(config: dict[str, Any], tensors: dict[str, Any]) -> None:
        for name, bits in tensors.items():
            tensors[name] = bits if dtype is np.uint16 else snapshots.widened(bits).astype(dtype)

    file = convert(edited(tmp_path, edit), "auto")
    assert file.types["blk.0.attn_q.weight"] == kind
    assert file.types["blk.0.attn_norm.weight"] == "F32"


def test_rows_that_cannot_be_cut_into_blocks_become_f16(tmp_path: Path) -> None:
    def edit(config: dict[str, Any], tensors: dict[str, Any]) -> None:
        config.update(intermediate_size=40, use_double_wide_mlp=False)
        for layer in range(4):
            mlp = f"model.layers.{layer}.mlp."
            tensors[mlp + "down_proj.weight"] = np.ones((snapshots.HIDDEN, 40), np.float32)
            for name in ("gate_proj.weight", "up_proj.weight"):
                tensors[mlp + name] = np.ones((40, snapshots.HIDDEN), np.float32)

    file = convert(edited(tmp_path, edit), "q8_0")
    assert file.types["blk.0.ffn_down.weight"] == "F16"
    assert file.types["blk.0.ffn_up.weight"] == "Q8_0"
    assert file.keys["gemma4.feed_forward_length"] == 40


def test_f16_refuses_values_beyond_its_range(tmp_path: Path) -> None:
    def edit(config: dict[str, Any], tensors: dict[str, Any]) -> None:
        name = "model.layers.0.mlp.up_proj.weight"
        tensors[name] = snapshots.widened(tensors[name]).copy()
        tensors[name][3, 3] = 1e5

    with pytest.raises(ConvertError, match=r"mlp\.up_proj\.weight: a value is too large for f16"):
        convert(edited(tmp_path, edit), "f16")


def test_key_value_tensors_of_sharing_layers_are_kept_where_they_are(tmp_path: Path) -> None:
    def edit(config: dict[str, Any], tensors: dict[str, Any]) -> None:
        for name in ("k_proj", "v_proj", "k_norm"):
            for layer in (0, 1):
                source = tensors[f"model.layers.{layer}.self_attn.{name}.weight"]
                tensors[f"model.layers.{layer + 2}.self_attn.{name}.weight"] = source

    values = convert(edited(tmp_path, edit)).values
    np.testing.assert_array_equal(values["blk.3.attn_k.weight"], values["blk.1.attn_k.weight"])


def test_a_head_of_its_own(tmp_path: Path) -> None:
    def edit(config: dict[str, Any], tensors: dict[str, Any]) -> None:
        config["tie_word_embeddings"] = False
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"][::-1].copy()

    file = convert(edited(tmp_path, edit), "q4_0")
    assert file.types["output.weight"] == "Q8_0"
    assert file.types["token_embd.weight"] == "Q4_0"


@pytest.mark.parametrize(
    ("prefix", "other"), [("model.language_model.", "model."), ("language_model.model.", "")]
)
def test_text_of_a_multimodal_checkpoint(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, prefix: str, other: str
) -> None:
    def edit(config: dict[str, Any], tensors: dict[str, Any]) -> None:
        text = dict(config)
        config.clear()
        config["architectures"] = ["Gemma4ForConditionalGeneration"]
        config["text_config"] = {k: v for k, v in text.items() if k != "architectures"}
        for name in list(tensors):
            tensors[name.replace("model.", prefix, 1)] = tensors.pop(name)
        tensors[other + "vision_tower.patch.weight"] = np.zeros((250, 1000), np.float32)
        tensors[other + "embed_audio.scale"] = np.zeros(2, np.uint8)

    with caplog.at_level(logging.INFO, "convert"):
        file = convert(edited(tmp_path, edit))
    assert len(file.values) == len(snapshots.target_tensors()) + 1
    assert "left out vision and audio (1.0 MB)" in caplog.text


def test_experts_and_keys_that_are_values(tmp_path: Path) -> None:
    config = snapshots.EXPERTS_CONFIG
    source = snapshots.target_tensors(config)
    file = convert(snapshots.write_snapshot(tmp_path / "experts", config, source), "q8_0")
    assert len(file.values) == len(source) + 1
    assert file.keys["gemma4.attention.head_count_kv"] == [2, 1, 2, 1]
    assert file.keys["gemma4.expert_count"] == 4
    assert file.keys["gemma4.expert_used_count"] == 2
    assert file.keys["gemma4.expert_feed_forward_length"] == 32
    assert file.keys["general.size_label"].startswith("4x")
    assert "blk.1.attn_v.weight" not in file.values
    assert file.types["blk.0.ffn_gate_up_exps.weight"] == "Q8_0"
    for old, new in {
        "router.proj.weight": "ffn_gate_inp.weight",
        "router.scale": "ffn_gate_inp.scale",
        "router.per_expert_scale": "ffn_down_exps.scale",
        "post_feedforward_layernorm_2.weight": "post_ffw_norm_2.weight",
    }.items():  # all kept in f32, so all exact
        wanted = snapshots.widened(source[f"model.layers.2.{old}"])
        np.testing.assert_array_equal(file.values[f"blk.2.{new}"], wanted)
    down = snapshots.widened(source["model.layers.2.experts.down_proj"])
    np.testing.assert_allclose(file.values["blk.2.ffn_down_exps.weight"], down, atol=1e-3)


def in_other_dialect(config: dict[str, Any]) -> dict[str, Any]:
    """Say by `per_layer_config` what `config` says by `global` keys."""
    other = {key: value for key, value in config.items() if "global" not in key}
    special = {"head_dim": config["global_head_dim"]}
    if config.get("attention_k_eq_v"):
        special["num_key_value_heads"] = config["num_global_key_value_heads"]
    other["per_layer_config"] = {"1": special, "3": special}
    return other


@pytest.mark.parametrize("config", [snapshots.TARGET_CONFIG, snapshots.EXPERTS_CONFIG])
def test_both_dialects_of_the_configuration_give_one_file(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    tensors = snapshots.target_tensors(config)
    one, two = (
        convert_model(
            snapshots.write_snapshot(tmp_path / name / "model", dialect, tensors),
            tmp_path / f"{name}.gguf",
        )
        for name, dialect in (("one", config), ("two", in_other_dialect(config)))
    )
    assert one.read_bytes() == two.read_bytes()


def test_suppressed_tokens_of_a_unified_model(tmp_path: Path) -> None:
    unified = configure(architectures=["Gemma4UnifiedForConditionalGeneration"])
    folder = edited(tmp_path, unified)
    snapshots.write_json(folder / "generation_config.json", {"suppress_tokens": [7, 9]})
    assert convert(folder).keys["tokenizer.ggml.suppress_tokens"] == [7, 9]
    snapshots.write_json(folder / "generation_config.json", {"suppress_tokens": [288]})
    with pytest.raises(ConvertError, match="`suppress_tokens` must list token ids"):
        convert(folder)


def test_null_means_the_default(tmp_path: Path) -> None:
    nothing = configure(tie_word_embeddings=None, attention_k_eq_v=None, rms_norm_eps=None)
    file = convert(edited(tmp_path, nothing))
    assert file.keys["gemma4.attention.layer_norm_rms_epsilon"] == pytest.approx(1e-6)


def test_licence_and_base_model_come_from_the_card(target: Path) -> None:
    card = "---\nlicense: apache-2.0\nbase_model: google/gemma-4-T2B\n---\n# A model\n"
    (target / "README.md").write_text(card)
    keys = convert(target).keys
    assert keys["general.license"] == "apache-2.0"
    assert keys["general.base_model.0.repo_url"] == "https://huggingface.co/google/gemma-4-T2B"
