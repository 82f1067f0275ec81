"""Tiny random Gemma 4 snapshots in pure NumPy: E2B's features at a thousandth of its width."""

from __future__ import annotations

import copy
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

VOCAB = 288
HIDDEN, PER_LAYER, HEAD, HEAD_FULL, HEADS, FEED_FORWARD = 64, 32, 16, 32, 4, 96
DRAFTER_HIDDEN = 32
CENTROIDS = 8

CONTROL = ["<|turn>", "<turn|>", "<|think|>"]
VISIBLE = ["<|channel>", "<channel|>", "<|tool_call>", "<tool_call|>", '<|"|>']
VISIBLE += ["<|tool_response>", "<tool_response|>"]
SPECIAL = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *CONTROL, *VISIBLE]
WORDS = ["\u2581", "a", "b", "ab", "\u2581ab", "<b>", "\n", "caf\u00e9", "\u2581a", "ba"]

Array = npt.NDArray[Any]
BFloat16 = npt.NDArray[np.uint16]

_ROPE = {
    "full_attention": {
        "partial_rotary_factor": 0.25,
        "rope_theta": 1000000.0,
        "rope_type": "proportional",
    },
    "sliding_attention": {"rope_theta": 10000.0, "rope_type": "default"},
}
_TEXT = {
    "model_type": "gemma4_text",
    "vocab_size": VOCAB,
    "head_dim": HEAD,
    "global_head_dim": HEAD_FULL,
    "num_key_value_heads": 1,
    "num_hidden_layers": 4,
    "max_position_embeddings": 1024,
    "rms_norm_eps": 1e-6,
    "sliding_window": 32,
    "rope_parameters": _ROPE,
    "tie_word_embeddings": True,
}
TARGET_CONFIG: dict[str, Any] = {
    **_TEXT,
    "architectures": ["Gemma4ForCausalLM"],
    "hidden_size": HIDDEN,
    "num_attention_heads": HEADS,
    "intermediate_size": FEED_FORWARD,
    "use_double_wide_mlp": True,
    "num_kv_shared_layers": 2,
    "hidden_size_per_layer_input": PER_LAYER,
    "final_logit_softcapping": 30.0,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
# Like 26B-A4B: experts, and full attention whose keys are its values, with fewer heads.
EXPERTS_CONFIG: dict[str, Any] = {
    **TARGET_CONFIG,
    "num_key_value_heads": 2,
    "attention_k_eq_v": True,
    "num_global_key_value_heads": 1,
    "use_double_wide_mlp": False,
    "num_kv_shared_layers": 0,
    "hidden_size_per_layer_input": 0,
    "enable_moe_block": True,
    "num_experts": 4,
    "top_k_experts": 2,
    "moe_intermediate_size": 32,
}
DRAFTER_CONFIG: dict[str, Any] = {
    "architectures": ["Gemma4AssistantForCausalLM"],
    "model_type": "gemma4_assistant",
    "backbone_hidden_size": HIDDEN,
    "num_centroids": CENTROIDS,
    "centroid_intermediate_top_k": 2,
    "use_ordered_embeddings": True,
    "text_config": {
        **_TEXT,
        "hidden_size": DRAFTER_HIDDEN,
        "num_attention_heads": 2,
        "intermediate_size": FEED_FORWARD,
        "hidden_size_per_layer_input": 0,
        "vocab_size_per_layer_input": 0,
        "layer_types": ["sliding_attention"] * 3 + ["full_attention"],
    },
}


def bfloat16(values: Array) -> BFloat16:
    """The upper half of float32 values, cut off: a valid BF16 checkpoint, if not the nearest."""
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def widened(bits: BFloat16) -> npt.NDArray[np.float32]:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def target_tensors(config: dict[str, Any] = TARGET_CONFIG) -> dict[str, Array]:
    """A target's tensors in BF16, by their names in a text-only checkpoint."""
    rng = np.random.default_rng(1)

    def make(*shape: int) -> Array:
        return bfloat16(rng.normal(0, 0.02, shape))

    layers, per_layer = config["num_hidden_layers"], config["hidden_size_per_layer_input"]
    tensors = {
        "model.embed_tokens.weight": make(VOCAB, HIDDEN),
        "model.norm.weight": make(HIDDEN),
    }
    if per_layer:
        tensors |= {
            "model.embed_tokens_per_layer.weight": make(VOCAB, layers * per_layer),
            "model.per_layer_model_projection.weight": make(layers * per_layer, HIDDEN),
            "model.per_layer_projection_norm.weight": make(per_layer),
        }
    for layer in range(layers):
        tensors |= _target_layer(make, config, layer)
    return tensors


def _target_layer(make: Any, config: dict[str, Any], layer: int) -> dict[str, Array]:
    full = config["layer_types"][layer] == "full_attention"
    shares = layer >= config["num_hidden_layers"] - config["num_kv_shared_layers"]
    head = HEAD_FULL if full else HEAD
    per_layer = config["hidden_size_per_layer_input"]
    k_eq_v = config.get("attention_k_eq_v", False)
    kv_heads = config["num_key_value_heads"]
    if full and k_eq_v:
        kv_heads = config["num_global_key_value_heads"]
    wide = FEED_FORWARD * (2 if shares and config["use_double_wide_mlp"] else 1)
    prefix = f"model.layers.{layer}."
    tensors = _layer(make, prefix, HIDDEN, HEADS * head, head, wide)
    shapes: dict[str, tuple[int, ...]] = {}
    if per_layer:
        shapes["per_layer_input_gate.weight"] = (per_layer, HIDDEN)
        shapes["per_layer_projection.weight"] = (HIDDEN, per_layer)
        shapes["post_per_layer_input_norm.weight"] = (HIDDEN,)
    if not shares:
        shapes["self_attn.k_proj.weight"] = (kv_heads * head, HIDDEN)
        shapes["self_attn.k_norm.weight"] = (head,)
        if not (full and k_eq_v):
            shapes["self_attn.v_proj.weight"] = (kv_heads * head, HIDDEN)
    if config.get("enable_moe_block"):
        experts, narrow = config["num_experts"], config["moe_intermediate_size"]
        shapes |= {
            "router.proj.weight": (experts, HIDDEN),
            "router.scale": (HIDDEN,),
            "router.per_expert_scale": (experts,),
            "experts.gate_up_proj": (experts, 2 * narrow, HIDDEN),
            "experts.down_proj": (experts, HIDDEN, narrow),
            "pre_feedforward_layernorm_2.weight": (HIDDEN,),
            "post_feedforward_layernorm_1.weight": (HIDDEN,),
            "post_feedforward_layernorm_2.weight": (HIDDEN,),
        }
    return tensors | {prefix + name: make(*shape) for name, shape in shapes.items()}


def drafter_tensors() -> dict[str, Array]:
    """A drafter's tensors in BF16, with an ordered head."""
    rng = np.random.default_rng(2)

    def make(*shape: int) -> Array:
        return bfloat16(rng.normal(0, 0.02, shape))

    tensors = {
        "masked_embedding.centroids.weight": make(CENTROIDS, DRAFTER_HIDDEN),
        "masked_embedding.token_ordering": rng.permutation(VOCAB).astype(np.int64),
        "model.embed_tokens.weight": make(VOCAB, DRAFTER_HIDDEN),
        "model.norm.weight": make(DRAFTER_HIDDEN),
        "pre_projection.weight": make(DRAFTER_HIDDEN, 2 * HIDDEN),
        "post_projection.weight": make(HIDDEN, DRAFTER_HIDDEN),
    }
    for layer in range(4):
        head = HEAD_FULL if layer == 3 else HEAD
        prefix = f"model.layers.{layer}."
        tensors |= _layer(make, prefix, DRAFTER_HIDDEN, 2 * head, head, FEED_FORWARD)
    return tensors


def _layer(
    make: Any, prefix: str, hidden: int, query: int, head: int, wide: int
) -> dict[str, Array]:
    shapes = {
        "input_layernorm.weight": (hidden,),
        "layer_scalar": (1,),
        "mlp.down_proj.weight": (hidden, wide),
        "mlp.gate_proj.weight": (wide, hidden),
        "mlp.up_proj.weight": (wide, hidden),
        "post_attention_layernorm.weight": (hidden,),
        "post_feedforward_layernorm.weight": (hidden,),
        "pre_feedforward_layernorm.weight": (hidden,),
        "self_attn.o_proj.weight": (hidden, query),
        "self_attn.q_norm.weight": (head,),
        "self_attn.q_proj.weight": (query, hidden),
    }
    return {prefix + name: make(*shape) for name, shape in shapes.items()}


def safetensors(tensors: dict[str, Array]) -> bytes:
    """A safetensors file; uint16 arrays are written as BF16."""
    dtypes = {"uint16": "BF16", "float16": "F16", "float32": "F32", "int64": "I64", "uint8": "U8"}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, array in tensors.items():
        span = [offset, offset + array.nbytes]
        shape, dtype = list(array.shape), dtypes[array.dtype.name]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": span}
        offset += array.nbytes
    return with_header(header, b"".join(array.tobytes() for array in tensors.values()))


def with_header(header: dict[str, Any], data: bytes) -> bytes:
    """A safetensors file with this header, sound or not."""
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def tokenizer() -> dict[str, Any]:
    """A `tokenizer.json` with all kinds of tokens; the last one is added beyond the vocabulary."""
    texts = [*SPECIAL, *(f"<0x{byte:02X}>" for byte in range(256)), *WORDS]
    vocab = {text: token_id for token_id, text in enumerate(texts)}
    vocab |= {f"w{token_id}": token_id for token_id in range(len(vocab), VOCAB - 1)}
    added = [{"id": vocab[text], "content": text, "special": True} for text in SPECIAL]
    added.append({"id": VOCAB - 1, "content": "<b>bold</b>", "special": False})
    for token in added:
        token |= {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    merges = [["a", "b"], ["\u2581", "a"], ["\u2581", "ab"], ["b", "a"]]
    decoder = [
        {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"},
        "pre_tokenizer": None,
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": decoder},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": "<unk>",
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": True,
            "byte_fallback": True,
            "ignore_merges": False,
            "vocab": vocab,
            "merges": merges,
        },
    }


TOKENIZER_CONFIG = {
    "tokenizer_class": "GemmaTokenizer",
    "bos_token": "<bos>",
    "eos_token": "<eos>",
    "unk_token": "<unk>",
    "pad_token": "<pad>",
    "mask_token": "<mask>",
    "sot_token": "<|turn>",
    "eot_token": "<turn|>",
    "extra_special_tokens": ["<|think|>", *VISIBLE],
}
GENERATION_CONFIG = {
    "do_sample": True,
    "temperature": 1.0,
    "top_k": 64,
    "top_p": 0.95,
    "bos_token_id": 2,
    "eos_token_id": [1, 6],
}


def write_snapshot(
    folder: Path, config: dict[str, Any], tensors: dict[str, Array], *, shards: int = 1
) -> Path:
    """Write a whole snapshot; with several shards also their index."""
    folder.mkdir(parents=True)
    write_json(folder / "config.json", config)
    write_tokenizer(folder)
    if shards == 1:
        (folder / "model.safetensors").write_bytes(safetensors(tensors))
        return folder
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(tensors.items())[shard::shards])
        (folder / name).write_bytes(safetensors(part))
        weight_map |= dict.fromkeys(part, name)
    write_json(folder / "model.safetensors.index.json", {"weight_map": weight_map})
    return folder


def write_tokenizer(folder: Path, **generation: Any) -> None:
    """All of a snapshot that is neither configuration nor weights."""
    write_json(folder / "tokenizer.json", tokenizer())
    write_json(folder / "tokenizer_config.json", TOKENIZER_CONFIG)
    write_json(folder / "generation_config.json", {**GENERATION_CONFIG, **generation})
    (folder / "chat_template.jinja").write_text("{{ bos_token }}{{ messages }}")


def write_target(folder: Path, **changes: Any) -> Path:
    """A target's snapshot, with some of its configuration changed."""
    return write_snapshot(folder, {**TARGET_CONFIG, **changes}, target_tensors())


def write_drafter(folder: Path, **changes: Any) -> Path:
    """A drafter's snapshot that fits `write_target`; changes are made to its `text_config`."""
    config = copy.deepcopy(DRAFTER_CONFIG)
    config["text_config"] |= changes
    return write_snapshot(folder, config, drafter_tensors())


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


Edit = Callable[[dict[str, Any], dict[str, Any]], Any]
"""Changes a configuration and tensors."""


def edited(tmp_path: Path, edit: Edit, drafter: bool = False) -> Path:
    """A snapshot after `edit(config, tensors)`."""
    config = copy.deepcopy(DRAFTER_CONFIG if drafter else TARGET_CONFIG)
    tensors = drafter_tensors() if drafter else target_tensors()
    edit(config, tensors)
    return write_snapshot(tmp_path / "edited", config, tensors)


def configure(**changes: Any) -> Edit:
    return lambda config, tensors: config.update(changes)
