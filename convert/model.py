"""From a configuration to the tensors a checkpoint must have and the keys its GGUF file carries."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import gguf
import numpy as np
import numpy.typing as npt

from convert import names
from convert.errors import ConvertError
from convert.hf_config import ModelConfig
from convert.safetensors import StoredTensor

TARGET_ARCH = "gemma4"
DRAFTER_ARCH = "gemma4-assistant"
FINGERPRINT_KEY = "mtpcli.fingerprint"
NEVER = 1e30  # a divisor of frequencies that stops a dimension from rotating


@dataclass(frozen=True)
class TensorSpec:
    """A tensor the checkpoint must (or may) have, and its name in the GGUF file."""

    hf: str
    gguf: str
    shape: tuple[int, ...]
    required: bool = True


def architecture(config: ModelConfig) -> str:
    """The value of `general.architecture`."""
    return DRAFTER_ARCH if config.is_drafter else TARGET_ARCH


def tensor_specs(config: ModelConfig) -> list[TensorSpec]:
    """Every weight of the model, in the order in which the file holds them."""
    dims = _global_dims(config)
    specs = list(_specs(names.GLOBAL, dims))
    if config.is_drafter:
        specs += _specs(names.DRAFTER_GLOBAL, dims)
    else:
        specs += _specs(names.UNTIED_HEAD, dims, required=not config.tied)
    if config.per_layer_input:
        specs += _specs(names.PER_LAYER_GLOBAL, dims)
    for layer in range(config.layers):
        dims = _global_dims(config) | _layer_dims(config, layer)
        specs += _specs(names.LAYER, dims, layer)
        if not config.is_drafter:
            owns_cells = layer < config.first_shared_layer
            specs += _specs(names.KEY, dims, layer, required=owns_cells)
            if config.sliding[layer] or not config.k_eq_v:
                specs += _specs(names.VALUE, dims, layer, required=owns_cells)
        if config.per_layer_input:
            specs += _specs(names.PER_LAYER_INPUT, dims, layer)
        if config.experts:
            specs += _specs(names.EXPERTS, dims, layer)
    return specs


def _specs(
    rows: Iterable[names.Row], dims: dict[str, int], layer: int | None = None, required: bool = True
) -> Iterator[TensorSpec]:
    hf, out = ("", "") if layer is None else (f"model.layers.{layer}.", f"blk.{layer}.")
    for row in rows:
        shape = tuple(dims[symbol] for symbol in row.shape)
        yield TensorSpec(hf + row.hf, out + row.gguf, shape, required)


def _global_dims(config: ModelConfig) -> dict[str, int]:
    return {
        "one": 1,
        "vocab": config.vocab,
        "hidden": config.hidden,
        "ple": config.per_layer_input,
        "ple_all": config.per_layer_input * config.layers,
        "backbone": config.backbone_hidden,
        "backbone_twice": config.backbone_hidden * 2,
        "experts": config.experts,
        "expert_ff": config.expert_feed_forward,
        "expert_ff_twice": config.expert_feed_forward * 2,
    }


def _layer_dims(config: ModelConfig, layer: int) -> dict[str, int]:
    head = config.head_dim_of(layer)
    return {
        "head": head,
        "q": config.heads * head,
        "kv": config.kv_heads[layer] * head,
        "ff": config.feed_forward_of(layer),
    }


def match(
    specs: list[TensorSpec], stored: dict[str, StoredTensor], config: ModelConfig
) -> list[tuple[TensorSpec, StoredTensor]]:
    """Pair every tensor of the model with one of the checkpoint.

    Args:
        stored: the checkpoint's tensors by canonical name, without those that others took.

    Raises:
        ConvertError: one is missing, unknown, or of another shape than the configuration says.
    """
    known = {spec.hf for spec in specs}
    for name, tensor in stored.items():
        if name not in known:
            raise ConvertError(
                f"{tensor.file}: tensor {tensor.name} belongs to no part of a"
                f" {config.architecture} with this config.json"
            )
    pairs = []
    for spec in specs:
        if spec.hf in stored:
            pairs.append((spec, _checked(stored[spec.hf], spec.shape, config)))
        elif spec.required:
            raise ConvertError(f"{config.path.parent}: tensor {spec.hf} is missing")
    return pairs


def _checked(tensor: StoredTensor, shape: tuple[int, ...], config: ModelConfig) -> StoredTensor:
    if tensor.shape != shape:
        raise ConvertError(
            f"{tensor.file}: tensor {tensor.name} has shape {list(tensor.shape)},"
            f" {config.path.name} makes it {list(shape)}"
        )
    return tensor


def rope_factors(config: ModelConfig) -> npt.NDArray[np.float32]:
    """Frequency divisors of full attention (float32, half of its head dimension).

    Gemma 4 rotates only the first part of each half of a head; ggml rotates all, so the rest is
    slowed down to a standstill. llama.cpp applies the factors to full-attention layers only.
    """
    half = config.head_dim_full // 2
    rotated = int(config.head_dim_full * config.rope_partial_full / 2)
    factors = np.ones(half, np.float32)
    factors[rotated:] = NEVER
    return factors


def add_hyperparameters(meta: gguf.GGUFWriter, config: ModelConfig) -> None:
    """Add the keys from which llama.cpp builds the model."""
    arch = architecture(config)
    meta.add_block_count(config.layers)
    meta.add_context_length(config.context)
    meta.add_embedding_length(config.hidden)
    meta.add_head_count(config.heads)
    kv_heads = config.kv_heads
    meta.add_head_count_kv(list(kv_heads) if config.kv_heads_by_layer else kv_heads[0])
    meta.add_key_length(config.head_dim_full)
    meta.add_value_length(config.head_dim_full)
    meta.add_key_length_swa(config.head_dim)
    meta.add_value_length_swa(config.head_dim)
    meta.add_rope_dimension_count(config.head_dim_full)
    meta.add_rope_dimension_count_swa(config.head_dim)
    meta.add_rope_freq_base(config.rope_theta_full)
    meta.add_rope_freq_base_swa(config.rope_theta_sliding)
    meta.add_layer_norm_rms_eps(config.rms_eps)
    meta.add_sliding_window(config.sliding_window)
    meta.add_sliding_window_pattern(config.sliding)
    meta.add_shared_kv_layers(config.shared_kv_layers)
    meta.add_embedding_length_per_layer_input(config.per_layer_input)
    if config.double_wide:
        widths = [config.feed_forward_of(layer) for layer in range(config.layers)]
        meta.add_feed_forward_length(widths)
    else:
        meta.add_feed_forward_length(config.feed_forward)
    if config.experts:
        meta.add_expert_count(config.experts)
        meta.add_expert_used_count(config.experts_used)
        meta.add_expert_feed_forward_length(config.expert_feed_forward)
    if config.softcap:
        meta.add_final_logit_softcapping(config.softcap)
    if config.is_drafter:
        meta.add_uint32(f"{arch}.embedding_length_out", config.backbone_hidden)
        meta.add_uint32(f"{arch}.nextn_predict_layers", config.layers)


def fingerprint(config: ModelConfig, tokens: list[str]) -> str:
    """What a drafter and its target have in common, as 16 hexadecimal digits.

    The first 8 bytes of a SHA-256 over compact JSON of four things: the SHA-256 of the tokens
    (UTF-8, each ended by a zero byte), the target's hidden size, and the shape [heads, dimension]
    of a cell of its sliding and of its full-attention layers, which the drafter reads. Equal
    fingerprints mean that the two can run together, not that one was trained for the other.
    """
    vocabulary = hashlib.sha256()
    for token in tokens:
        vocabulary.update(token.encode() + b"\0")
    shared = [
        vocabulary.hexdigest(),
        config.backbone_hidden or config.hidden,
        config.cell(sliding=True),
        config.cell(sliding=False),
    ]
    return hashlib.sha256(json.dumps(shared, separators=(",", ":")).encode()).hexdigest()[:16]
