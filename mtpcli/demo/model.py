"""Shapes, initialisation and a fast training forward of target and drafter.

The modules are transformers' own; only their forward is rewritten, so that a few compiled functions
serve all layers and bf16 does the matrix work. The evaluation compares it with transformers'.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import (
    Gemma4AssistantConfig,
    Gemma4AssistantForCausalLM,
    Gemma4ForCausalLM,
    Gemma4TextConfig,
)

from .tokenizer import BOS, EOS, PAD, TURN_CLOSE, VOCAB_SIZE

BF16 = torch.bfloat16
LAYERS, SHARED, PERIOD, WINDOW = 35, 20, 5, 128
HIDDEN, DRAFT_HIDDEN = 192, 128
SOFTCAP = 30.0
CENTROIDS, TOP_CENTROIDS = 64, 8
_COMMON: dict[str, Any] = {
    "vocab_size": VOCAB_SIZE, "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 64,
    "global_head_dim": 128, "sliding_window": WINDOW, "max_position_embeddings": 4096,
    "eos_token_id": [EOS, TURN_CLOSE], "bos_token_id": BOS, "pad_token_id": PAD,
}  # fmt: skip


def target_config() -> Gemma4TextConfig:
    """E2B in miniature: 4 sliding layers and a full one, 7 times; the last 20 share their KV."""
    return Gemma4TextConfig(
        hidden_size=HIDDEN, intermediate_size=256, num_hidden_layers=LAYERS,
        num_kv_shared_layers=SHARED, use_double_wide_mlp=True, final_logit_softcapping=SOFTCAP,
        hidden_size_per_layer_input=32, vocab_size_per_layer_input=VOCAB_SIZE,
        layer_types=[
            "sliding_attention" if (i + 1) % PERIOD else "full_attention" for i in range(LAYERS)
        ],
        **_COMMON,
    )  # fmt: skip


def drafter_config() -> Gemma4AssistantConfig:
    text = Gemma4TextConfig(
        hidden_size=DRAFT_HIDDEN, intermediate_size=384, num_hidden_layers=4,
        num_kv_shared_layers=4,
        layer_types=["sliding_attention"] * 3 + ["full_attention"], hidden_size_per_layer_input=0,
        vocab_size_per_layer_input=0, **_COMMON,
    )  # fmt: skip
    return Gemma4AssistantConfig(
        text_config=text, backbone_hidden_size=HIDDEN, use_ordered_embeddings=True,
        num_centroids=CENTROIDS, centroid_intermediate_top_k=TOP_CENTROIDS,
    )  # fmt: skip


def initialise(module: torch.nn.Module, seed: int = 0) -> None:
    g = torch.Generator().manual_seed(seed)
    for name, p in module.named_parameters():
        if "per_layer" in name and "embed_tokens" in name:
            p.data.normal_(0, 0.05, generator=g)
        elif "embed_tokens" in name:
            p.data.normal_(0, 0.02, generator=g)
        elif p.ndim == 2:
            p.data.normal_(0, 1 / math.sqrt(p.shape[1]), generator=g)
        elif "q_norm" in name or "k_norm" in name:
            p.data.fill_(p.numel() ** -0.25)
        elif "post_per_layer_input_norm" in name:
            p.data.fill_(0.1)
        elif "post_attention_layernorm" in name or "post_feedforward_layernorm" in name:
            p.data.fill_(0.3)
        else:
            p.data.fill_(1.0)


def new_target() -> Gemma4ForCausalLM:
    target = Gemma4ForCausalLM(target_config()).float()
    initialise(target)
    return target


def new_drafter() -> Gemma4AssistantForCausalLM:
    drafter = Gemma4AssistantForCausalLM(drafter_config()).float()
    initialise(drafter)
    return drafter


# --- the compiled pieces ------------------------------------------------------------------------


def rms(x: Tensor, weight: Tensor | None) -> Tensor:
    x = x.float()
    x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)
    return x if weight is None else x * weight


def linear(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x.to(BF16), weight.to(BF16))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat((-b, a), -1) * sin


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """q [B,T,H,D], one KV head k, v [B,S,D], additive mask [B,T,S] -> [B,T,H*D]."""
    b, t, h, d = q.shape
    scores = torch.bmm(q.reshape(b, t * h, d), k.transpose(1, 2)).view(b, t, h, -1).float()
    p = torch.softmax(scores + mask[:, :, None], -1).to(BF16)
    return torch.bmm(p.view(b, t * h, -1), v).view(b, t, h * d)


def attend_window(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """Sliding attention in chunks of a window: a chunk sees itself and the one before.

    The mask is [B*chunks, WINDOW, 2*WINDOW], see `masks`.
    """
    b, t, h, d = q.shape
    n = t // WINDOW

    def two(x: Tensor) -> Tensor:
        own = x.view(b, n, WINDOW, d)
        before = F.pad(own, (0, 0, 0, 0, 1, 0))[:, :-1]
        return torch.cat([before, own], 2).view(b * n, 2 * WINDOW, d)

    return attend(q.reshape(b * n, WINDOW, h, d), two(k), two(v), mask).view(b, t, h * d)


def feed_forward(x: Tensor, w: dict[str, Tensor]) -> Tensor:
    h = rms(x, w["pre_ffn"])
    h = F.gelu(linear(h, w["gate"]), approximate="tanh") * linear(h, w["up"])
    return x + rms(linear(h, w["down"]), w["post_ffn"])


def target_layer(
    x: Tensor, ple: Tensor, cos: Tensor, sin: Tensor, mask: Tensor,
    k: Tensor | None, v: Tensor | None, w: dict[str, Tensor],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """One decoder layer; k and v are given to a layer that shares those of an earlier one."""
    b, t, _ = x.shape
    d = w["q_norm"].shape[0]
    h = rms(x, w["pre_attn"]).to(BF16)
    q = rms(linear(h, w["q"]).view(b, t, -1, d), w["q_norm"])
    q = rotate(q, cos[None, :, None], sin[None, :, None]).to(BF16)
    if k is None or v is None:
        k = rotate(rms(linear(h, w["k"]), w["k_norm"]), cos[None], sin[None]).to(BF16)
        v = rms(linear(h, w["v"]), None).to(BF16)
    chunked = mask.shape[0] != b
    o = attend_window(q, k, v, mask) if chunked else attend(q, k, v, mask)
    x = x + rms(linear(o, w["o"]), w["post_attn"])
    x = feed_forward(x, w)
    gate = F.gelu(linear(x, w["ple_gate"]), approximate="tanh")
    x = x + rms(linear(gate * ple, w["ple_out"]), w["post_ple"])
    return x, k, v


def drafter_layer(
    x: Tensor, cos: Tensor, sin: Tensor, mask: Tensor, k: Tensor, v: Tensor, w: dict[str, Tensor]
) -> Tensor:
    """x [B,P,H] at P start positions per row; cos, sin [B,P,D]; the target's k, v."""
    b, p, _ = x.shape
    q = rms(linear(rms(x, w["pre_attn"]), w["q"]).view(b, p, -1, k.shape[-1]), w["q_norm"])
    q = rotate(q, cos[:, :, None], sin[:, :, None]).to(BF16)
    x = x + rms(linear(attend(q, k, v, mask), w["o"]), w["post_attn"])
    return feed_forward(x, w)


def embed(ids: Tensor, table: Tensor, ple: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Token embeddings, and the per-layer inputs [B,T,layers,width]."""
    x = F.embedding(ids, table) * HIDDEN**0.5
    width = ple["norm"].shape[0]
    projected = linear(x, ple["projection"]).float() * HIDDEN**-0.5
    projected = rms(projected.view(*ids.shape, -1, width), ple["norm"])
    looked_up = F.embedding(ids, ple["table"]).view(*ids.shape, -1, width) * width**0.5
    return x, ((projected + looked_up) * 2**-0.5).to(BF16)


def capped_logits(h: Tensor, table: Tensor) -> Tensor:
    return SOFTCAP * torch.tanh(linear(h, table).float() / SOFTCAP)


def cross_entropy(h: Tensor, table: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Weighted sum, not mean: micro-batches are added up before they are divided."""
    losses = F.cross_entropy(capped_logits(h, table), labels, reduction="none")
    return (losses * weight).sum()


# --- putting them together ------------------------------------------------------------------------


def layer_weights(layer: Any) -> dict[str, Tensor]:
    attention, mlp = layer.self_attn, layer.mlp
    w = {
        "pre_attn": layer.input_layernorm.weight, "q": attention.q_proj.weight,
        "q_norm": attention.q_norm.weight, "o": attention.o_proj.weight,
        "post_attn": layer.post_attention_layernorm.weight,
        "pre_ffn": layer.pre_feedforward_layernorm.weight, "gate": mlp.gate_proj.weight,
        "up": mlp.up_proj.weight, "down": mlp.down_proj.weight,
        "post_ffn": layer.post_feedforward_layernorm.weight,
    }  # fmt: skip
    if not attention.is_kv_shared_layer:
        w |= {
            "k": attention.k_proj.weight,
            "v": attention.v_proj.weight,
            "k_norm": attention.k_norm.weight,
        }
    if getattr(layer, "hidden_size_per_layer_input", 0):
        w |= {
            "ple_gate": layer.per_layer_input_gate.weight,
            "ple_out": layer.per_layer_projection.weight,
            "post_ple": layer.post_per_layer_input_norm.weight,
        }  # fmt: skip
    return w


def additive(allowed: Tensor) -> Tensor:
    return torch.zeros(allowed.shape).masked_fill_(~allowed, -1e4)


def masks(doc: Tensor) -> dict[str, Tensor]:
    """Causal masks inside conversations; the sliding one in chunks when that is smaller."""
    b, t = doc.shape
    i = torch.arange(t)
    ago = i[:, None] - i[None, :]
    full = (doc[:, :, None] == doc[:, None, :]) & (ago >= 0)
    sliding = full & (ago < WINDOW)
    if t <= 2 * WINDOW or t % WINDOW:
        return {"full_attention": additive(full), "sliding_attention": additive(sliding)}
    n = t // WINDOW
    padded = F.pad(sliding, (WINDOW, 0))  # [B, T, WINDOW + T]
    chunks = [
        padded[:, c * WINDOW : (c + 1) * WINDOW, c * WINDOW : (c + 2) * WINDOW] for c in range(n)
    ]
    chunked = torch.stack(chunks, 1).reshape(b * n, WINDOW, 2 * WINDOW)
    return {"full_attention": additive(full), "sliding_attention": additive(chunked)}


def rotations(model: Any, length: int) -> dict[str, tuple[Tensor, Tensor]]:
    positions = torch.arange(length)[None]
    tables = {
        t: model.rotary_emb(torch.zeros(1), positions, t) for t in set(model.config.layer_types)
    }
    return {t: (cos[0], sin[0]) for t, (cos, sin) in tables.items()}


class TargetForward:
    """The target's forward over rows of packed conversations, with any subset of its blocks."""

    def __init__(self, target: Gemma4ForCausalLM, compiled: bool = True) -> None:
        self.model = target.model
        wrap = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        self.layer, self.embed = wrap(target_layer), wrap(embed)
        self.norm, self.loss_of = wrap(rms), wrap(cross_entropy)
        self.active = list(range(LAYERS))
        self._rotations: dict[int, dict[str, tuple[Tensor, Tensor]]] = {}

    def hidden(self, ids: Tensor, doc: Tensor) -> tuple[Tensor, dict[str, tuple[Tensor, Tensor]]]:
        """Hidden rows after the final norm, and the last keys and values of each kind of layer."""
        m, t = self.model, ids.shape[1]
        if t not in self._rotations:
            self._rotations[t] = rotations(m, t)
        mask, rotation = masks(doc), self._rotations[t]
        ple = {
            "projection": m.per_layer_model_projection.weight,
            "norm": m.per_layer_projection_norm.weight,
            "table": m.embed_tokens_per_layer.weight,
        }
        x, inputs = self.embed(ids, m.embed_tokens.weight, ple)
        kv: dict[str, tuple[Tensor, Tensor]] = {}
        for i in self.active:
            layer, kind = m.layers[i], m.config.layer_types[i]
            shared = layer.self_attn.is_kv_shared_layer
            k, v = kv[kind] if shared else (None, None)
            x, k, v = self.layer(
                x, inputs[:, :, i], *rotation[kind], mask[kind], k, v, layer_weights(layer)
            )
            if not shared:
                kv[kind] = (k, v)
        return self.norm(x, m.norm.weight), kv

    def loss(self, ids: Tensor, doc: Tensor, weight: Tensor) -> Tensor:
        """Sum over tokens of weight times loss; a token's weight is at the token itself."""
        h, _ = self.hidden(ids, doc)
        inside = doc[:, 1:] == doc[:, :-1]
        rows = h[:, :-1].reshape(-1, HIDDEN).to(BF16)
        labels, w = ids[:, 1:].reshape(-1), (weight[:, 1:] * inside).reshape(-1)
        return self.loss_of(rows, self.model.embed_tokens.weight, labels, w)
