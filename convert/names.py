"""Names and shapes of a checkpoint's tensors, and what they are called in a GGUF file.

Hugging Face names are those of a text-only model; `canonical` brings the others to that form.
Shapes are symbols that `convert.model` fills in from the configuration. GGUF names are those that
llama.cpp's architectures `gemma4` and `gemma4-assistant` load.
"""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """One tensor: its name in the checkpoint and in GGUF, its dimensions (outermost first)."""

    hf: str
    gguf: str
    shape: tuple[str, ...]


GLOBAL = (
    Row("model.embed_tokens.weight", "token_embd.weight", ("vocab", "hidden")),
    Row("model.norm.weight", "output_norm.weight", ("hidden",)),
)
# Only in checkpoints whose output head is not the token embedding.
UNTIED_HEAD = (Row("lm_head.weight", "output.weight", ("vocab", "hidden")),)
PER_LAYER_GLOBAL = (
    Row("model.embed_tokens_per_layer.weight", "per_layer_token_embd.weight", ("vocab", "ple_all")),
    Row(
        "model.per_layer_model_projection.weight",
        "per_layer_model_proj.weight",
        ("ple_all", "hidden"),
    ),
    Row("model.per_layer_projection_norm.weight", "per_layer_proj_norm.weight", ("ple",)),
)
DRAFTER_GLOBAL = (
    Row("pre_projection.weight", "nextn.pre_projection.weight", ("hidden", "backbone_twice")),
    Row("post_projection.weight", "nextn.post_projection.weight", ("backbone", "hidden")),
)

# Per layer; the checkpoint says `model.layers.N.` before these, GGUF says `blk.N.`.
LAYER = (
    Row("input_layernorm.weight", "attn_norm.weight", ("hidden",)),
    Row("self_attn.q_proj.weight", "attn_q.weight", ("q", "hidden")),
    Row("self_attn.q_norm.weight", "attn_q_norm.weight", ("head",)),
    Row("self_attn.o_proj.weight", "attn_output.weight", ("hidden", "q")),
    Row("post_attention_layernorm.weight", "post_attention_norm.weight", ("hidden",)),
    Row("pre_feedforward_layernorm.weight", "ffn_norm.weight", ("hidden",)),
    Row("mlp.gate_proj.weight", "ffn_gate.weight", ("ff", "hidden")),
    Row("mlp.up_proj.weight", "ffn_up.weight", ("ff", "hidden")),
    Row("mlp.down_proj.weight", "ffn_down.weight", ("hidden", "ff")),
    Row("post_feedforward_layernorm.weight", "post_ffw_norm.weight", ("hidden",)),
    Row("layer_scalar", "layer_output_scale.weight", ("one",)),
)
# Layers that share another layer's cells do not use these, but released checkpoints carry them.
KEY = (
    Row("self_attn.k_proj.weight", "attn_k.weight", ("kv", "hidden")),
    Row("self_attn.k_norm.weight", "attn_k_norm.weight", ("head",)),
)
VALUE = (Row("self_attn.v_proj.weight", "attn_v.weight", ("kv", "hidden")),)
# Experts stand beside the layer's ordinary feed-forward network, gate and up in one tensor.
EXPERTS = (
    Row("router.proj.weight", "ffn_gate_inp.weight", ("experts", "hidden")),
    Row("router.scale", "ffn_gate_inp.scale", ("hidden",)),
    Row("router.per_expert_scale", "ffn_down_exps.scale", ("experts",)),
    Row(
        "experts.gate_up_proj", "ffn_gate_up_exps.weight", ("experts", "expert_ff_twice", "hidden")
    ),
    Row("experts.down_proj", "ffn_down_exps.weight", ("experts", "hidden", "expert_ff")),
    Row("pre_feedforward_layernorm_2.weight", "pre_ffw_norm_2.weight", ("hidden",)),
    Row("post_feedforward_layernorm_1.weight", "post_ffw_norm_1.weight", ("hidden",)),
    Row("post_feedforward_layernorm_2.weight", "post_ffw_norm_2.weight", ("hidden",)),
)
PER_LAYER_INPUT = (
    Row("per_layer_input_gate.weight", "inp_gate.weight", ("ple", "hidden")),
    Row("per_layer_projection.weight", "proj.weight", ("hidden", "ple")),
    Row("post_per_layer_input_norm.weight", "post_norm.weight", ("hidden",)),
)

# The ordered head of a drafter: no tensor of the GGUF file, see `convert.assistant`.
HEAD_CENTROIDS = "masked_embedding.centroids.weight"
HEAD_ORDERING = "masked_embedding.token_ordering"

# Encoders of pictures and sound; text runs without them.
OTHER_MODALITIES = (
    "vision_tower.",
    "vision_embedder.",
    "embed_vision.",
    "audio_tower.",
    "embed_audio.",
)


def is_text(name: str) -> bool:
    """Whether a tensor belongs to the language model."""
    return not name.removeprefix("model.").startswith(OTHER_MODALITIES)


def canonical(name: str) -> str:
    """The name a tensor has in a text-only checkpoint.

    Multimodal checkpoints put `language_model` into the path, after `model` today and before it
    in earlier versions of transformers.
    """
    if name.startswith("language_model."):
        return name.removeprefix("language_model.")
    return name.replace("model.language_model.", "model.", 1)
