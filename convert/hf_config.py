"""`config.json` of a Gemma 4 snapshot, checked and flattened.

Defaults are those of transformers' `Gemma4TextConfig` and `Gemma4UnifiedTextConfig`; what a file
leaves out means the same here. Layers of full attention differ from the others in two dialects:
by keys with `global` in their name, or by `per_layer_config`, which maps layers to what is special
about them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.errors import ConvertError
from convert.jsonfile import read_object

UNIFIED_TARGET = "Gemma4UnifiedForConditionalGeneration"
UNIFIED_DRAFTER = "Gemma4UnifiedAssistantForCausalLM"
TARGETS = ("Gemma4ForCausalLM", "Gemma4ForConditionalGeneration", UNIFIED_TARGET)
DRAFTERS = ("Gemma4AssistantForCausalLM", UNIFIED_DRAFTER)
LAYER_TYPES = ("sliding_attention", "full_attention")
ACTIVATION = "gelu_pytorch_tanh"  # llama.cpp has it built in
MAX_LAYERS = 1000  # far beyond any member of the family; a damaged file must not exhaust memory


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a target or a drafter. Lengths are in elements, per layer where the name says so.

    Attributes:
        sliding: for each layer, whether its attention is limited to the sliding window.
        kv_heads: key-value heads, by layer; `kv_heads_by_layer` if the file told them apart.
        k_eq_v: in full attention the keys are the values too.
        shared_kv_layers: how many of the last layers read the cells of earlier ones; all of a
            drafter's layers read its target's.
        double_wide: the shared layers' feed-forward width is doubled.
        per_layer_input: width of the per-layer embedding, 0 without.
        softcap: final logit soft capping, 0 without.
        experts: experts beside the feed-forward network, 0 without; `experts_used` per token.
        backbone_hidden: hidden size of the drafter's target, 0 for a target.
        centroids, centroid_top_k: the ordered head as declared; the tensors may be missing.
    """

    path: Path
    architecture: str
    vocab: int
    hidden: int
    sliding: tuple[bool, ...]
    heads: int
    kv_heads: tuple[int, ...]
    head_dim: int
    head_dim_full: int
    feed_forward: int
    sliding_window: int
    context: int
    shared_kv_layers: int
    kv_heads_by_layer: bool = False
    k_eq_v: bool = False
    double_wide: bool = False
    experts: int = 0
    experts_used: int = 0
    expert_feed_forward: int = 0
    per_layer_input: int = 0
    rms_eps: float = 1e-6
    softcap: float = 0.0
    rope_theta_full: float = 1e6
    rope_theta_sliding: float = 1e4
    rope_partial_full: float = 0.25
    tied: bool = True
    backbone_hidden: int = 0
    centroids: int = 0
    centroid_top_k: int = 0

    @property
    def is_drafter(self) -> bool:
        return self.architecture in DRAFTERS

    @property
    def layers(self) -> int:
        return len(self.sliding)

    @property
    def first_shared_layer(self) -> int:
        return self.layers - self.shared_kv_layers

    def cell(self, sliding: bool) -> tuple[int, int] | None:
        """Heads and dimension of the key-value cells that a drafter reads, by kind of attention.

        They are those of the last layer of the kind that has cells of its own, which for a
        drafter are its target's. None: there is no such layer.
        """
        layers = self.layers if self.is_drafter else self.first_shared_layer
        for layer in reversed(range(layers)):
            if self.sliding[layer] == sliding:
                return self.kv_heads[layer], self.head_dim_of(layer)
        return None

    def head_dim_of(self, layer: int) -> int:
        return self.head_dim if self.sliding[layer] else self.head_dim_full

    def feed_forward_of(self, layer: int) -> int:
        wide = self.double_wide and layer >= self.first_shared_layer
        return self.feed_forward * (2 if wide else 1)


class _Fields:
    """Typed access to a JSON object; every complaint names the file and the key."""

    def __init__(self, values: dict[str, Any], path: Path) -> None:
        self.values = values
        self.path = path

    def whole(self, key: str, default: int | None = None, least: int = 1) -> int:
        """An integer of at least `least`; without a default the key is required."""
        value = self.values.get(key)
        if value is None:
            value = default
        if type(value) is not int or not least <= value < 2**31:
            raise ConvertError(f"{self.path}: `{key}` must be an integer >= {least}, is {value!r}")
        return value

    def number(self, key: str, default: float) -> float:
        value = self.values.get(key)
        if value is None:
            return default
        if type(value) not in (int, float) or not 0 <= value < 1e30:
            raise ConvertError(f"{self.path}: `{key}` must be a number, is {value!r}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        value = self.values.get(key)
        if value is None:
            return default
        if type(value) is not bool:
            raise ConvertError(f"{self.path}: `{key}` must be true or false, is {value!r}")
        return value

    def object(self, key: str) -> _Fields:
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise ConvertError(f"{self.path}: `{key}` must be an object, is {value!r}")
        return _Fields(value or {}, self.path)


def read_config(folder: Path) -> ModelConfig:
    """Read and check `config.json` of a snapshot.

    Raises:
        ConvertError: no snapshot, another architecture, or values that make no model.
    """
    if not folder.is_dir():
        raise ConvertError(f"{folder}: not a folder; point to a Hugging Face snapshot of Gemma 4")
    path = folder / "config.json"
    top = read_object(path)
    architectures = top.get("architectures")
    architecture = architectures[0] if isinstance(architectures, list) and architectures else None
    if architecture not in TARGETS + DRAFTERS:
        raise ConvertError(
            f"{path}: architecture {architecture!r} is not one of {', '.join(TARGETS + DRAFTERS)}"
        )
    text = _Fields({**top, **_Fields(top, path).object("text_config").values}, path)
    config = _build(architecture, text)
    _check(config, text)
    return config


def _build(architecture: str, text: _Fields) -> ModelConfig:
    drafter = architecture in DRAFTERS
    unified = architecture in (UNIFIED_TARGET, UNIFIED_DRAFTER)
    sliding = _layer_kinds(text, text.whole("num_hidden_layers"))
    shared = text.whole("num_kv_shared_layers", 0, least=0)
    moe = text.flag("enable_moe_block", False)
    rope = text.object("rope_parameters")
    head_dim_full, kv_heads_full = _full_attention(text, sliding)
    kv_heads = text.whole("num_key_value_heads")
    return ModelConfig(
        path=text.path,
        architecture=architecture,
        vocab=text.whole("vocab_size"),
        hidden=text.whole("hidden_size"),
        sliding=sliding,
        heads=text.whole("num_attention_heads"),
        kv_heads=tuple(kv_heads if slides else kv_heads_full or kv_heads for slides in sliding),
        kv_heads_by_layer=kv_heads_full is not None,
        k_eq_v=text.flag("attention_k_eq_v", False),
        head_dim=text.whole("head_dim", 256),
        head_dim_full=head_dim_full,
        feed_forward=text.whole("intermediate_size"),
        double_wide=text.flag("use_double_wide_mlp", False),
        experts=text.whole("num_experts") if moe else 0,
        experts_used=text.whole("top_k_experts") if moe else 0,
        expert_feed_forward=text.whole("moe_intermediate_size") if moe else 0,
        shared_kv_layers=len(sliding) if drafter else shared,
        per_layer_input=text.whole(
            "hidden_size_per_layer_input", 0 if drafter or unified else 256, least=0
        ),
        sliding_window=text.whole("sliding_window", 1024 if unified else 512),
        context=text.whole("max_position_embeddings", 262144 if unified else 131072),
        rms_eps=text.number("rms_norm_eps", 1e-6),
        softcap=text.number("final_logit_softcapping", 0.0),
        rope_theta_full=rope.object("full_attention").number("rope_theta", 1e6),
        rope_theta_sliding=rope.object("sliding_attention").number("rope_theta", 1e4),
        rope_partial_full=rope.object("full_attention").number("partial_rotary_factor", 0.25),
        tied=text.flag("tie_word_embeddings", True),
        backbone_hidden=text.whole("backbone_hidden_size") if drafter else 0,
        centroids=text.whole("num_centroids", 2048) if drafter else 0,
        centroid_top_k=text.whole("centroid_intermediate_top_k", 32) if drafter else 0,
    )


def _layer_kinds(text: _Fields, layers: int) -> tuple[bool, ...]:
    """For each layer, whether it slides. Without `layer_types` every sixth and the last do not."""
    if layers > MAX_LAYERS:
        raise ConvertError(f"{text.path}: `num_hidden_layers` is {layers}, at most {MAX_LAYERS}")
    kinds = text.values.get("layer_types")
    if kinds is None:
        return tuple((layer + 1) % 6 != 0 and layer + 1 != layers for layer in range(layers))
    if not isinstance(kinds, list) or any(kind not in LAYER_TYPES for kind in kinds):
        raise ConvertError(f"{text.path}: `layer_types` must list {' or '.join(LAYER_TYPES)}")
    if len(kinds) != layers:
        raise ConvertError(
            f"{text.path}: `layer_types` has {len(kinds)} entries for {layers} layers"
        )
    if kinds[-1] != "full_attention":
        raise ConvertError(f"{text.path}: the last of `layer_types` must be full_attention")
    return tuple(kind == "sliding_attention" for kind in kinds)


def _full_attention(text: _Fields, sliding: tuple[bool, ...]) -> tuple[int, int | None]:
    """Head dimension and key-value heads of full attention; None: heads as in other layers."""
    by_layer = text.object("per_layer_config").values
    head_dim = text.values.get("global_head_dim")
    if head_dim is not None or text.values.get("per_layer_config") is None:
        named = text.values.get("num_global_key_value_heads") is not None
        # transformers gives full attention its own heads only where keys are values.
        heads = named and text.flag("attention_k_eq_v", False)
        kv_heads = text.whole("num_global_key_value_heads") if heads else None
        return text.whole("global_head_dim", 512), kv_heads
    full = [str(layer) for layer, slides in enumerate(sliding) if not slides]
    special = by_layer.get(full[0], {})
    if (
        not isinstance(special, dict)
        or not set(special) <= {"head_dim", "num_key_value_heads"}
        or any(by_layer.get(layer, {}) != special for layer in full)
        or not set(by_layer) <= set(full)
    ):
        raise ConvertError(
            f"{text.path}: `per_layer_config` must give all layers of full attention, and no"
            " others, the same `head_dim` and `num_key_value_heads`: llama.cpp can do no other"
        )
    fields = _Fields(special, text.path)
    kv_heads = fields.whole("num_key_value_heads") if "num_key_value_heads" in special else None
    return fields.whole("head_dim", text.whole("head_dim", 256)), kv_heads


def _check(config: ModelConfig, text: _Fields) -> None:
    """Refuse what is contradictory, or what llama.cpp's Gemma 4 cannot express."""
    rope = text.object("rope_parameters").object("full_attention").values
    problems = {
        "`num_attention_heads` must be a multiple of `num_key_value_heads`": (
            any(config.heads % kv_heads != 0 for kv_heads in config.kv_heads)
        ),
        "`head_dim` and `global_head_dim` must be even": (
            config.head_dim % 2 != 0 or config.head_dim_full % 2 != 0
        ),
        "`num_kv_shared_layers` must leave a layer with cells of its own": (
            not config.is_drafter and config.shared_kv_layers >= config.layers
        ),
        f"`hidden_activation` must be {ACTIVATION}": (
            text.values.get("hidden_activation") not in (None, ACTIVATION)
        ),
        "full attention must have `rope_type` proportional": (
            rope.get("rope_type", "proportional") != "proportional"
        ),
        "`partial_rotary_factor` of full attention must be at most 1": config.rope_partial_full > 1,
        "a drafter cannot have the hidden size of its target": (
            config.is_drafter and config.hidden == config.backbone_hidden
        ),
        "a drafter cannot have per-layer embeddings": (
            config.is_drafter and config.per_layer_input > 0
        ),
        "a drafter's head must be its token embedding (`tie_word_embeddings`)": (
            config.is_drafter and not config.tied
        ),
        "a drafter cannot have experts": config.is_drafter and config.experts > 0,
        "`top_k_experts` must be at most `num_experts`": config.experts_used > config.experts,
        "`use_bidirectional_attention` = all is not supported": (
            text.values.get("use_bidirectional_attention") == "all"
        ),
    }
    for problem, found in problems.items():
        if found:
            raise ConvertError(f"{config.path}: {problem}")
