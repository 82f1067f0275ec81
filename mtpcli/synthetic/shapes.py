"""Shapes of the Gemma 4 family: what a target and its drafter of each size look like.

Taken from the configurations of the released checkpoints and of their drafters. The feed-forward
width of 12B is from a public printout of its configuration, and makes 11.9 billion parameters.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from convert.hf_config import ModelConfig

_SOURCE = Path("made-up")
_SOFTCAP = 30.0


@dataclass(frozen=True)
class Shape:
    """A target and its drafter. Widths are in elements.

    Attributes:
        name: as people write it, `E2B`.
        period: every so many layers one attends to everything, the others to a window.
        full_kv_heads: key-value heads of those layers; 0 is as many as the others have, with
            values of their own. Otherwise their keys are their values too.
        per_layer: width of the per-layer embedding, 0 without.
        double_wide: layers that share another one's cells have twice the feed-forward width.
        experts: how many, how many of them a token uses, their feed-forward width.
        drafter_*: of the drafter, which has three sliding layers and a full one.
        clusters, top_k: the drafter's ordered head; 0 without.
    """

    name: str
    layers: int
    period: int
    hidden: int
    heads: int
    kv_heads: int
    feed_forward: int
    window: int
    context: int
    drafter_hidden: int
    drafter_heads: int
    drafter_feed_forward: int
    full_kv_heads: int = 0
    shared_layers: int = 0
    per_layer: int = 0
    double_wide: bool = False
    experts: tuple[int, int, int] = (0, 0, 0)
    clusters: int = 0
    top_k: int = 0
    vocabulary: int = 262144
    head_dim: int = 256
    full_head_dim: int = 512

    def target(self) -> ModelConfig:
        """The target's configuration, as the converter knows it."""
        sliding = _sliding(self.layers, self.period)
        experts, used, width = self.experts
        return ModelConfig(
            path=_SOURCE,
            architecture="Gemma4ForCausalLM",
            vocab=self.vocabulary,
            hidden=self.hidden,
            sliding=sliding,
            heads=self.heads,
            kv_heads=self._kv_heads(sliding),
            kv_heads_by_layer=bool(self.full_kv_heads),
            k_eq_v=bool(self.full_kv_heads),
            head_dim=self.head_dim,
            head_dim_full=self.full_head_dim,
            feed_forward=self.feed_forward,
            double_wide=self.double_wide,
            sliding_window=self.window,
            context=self.context,
            shared_kv_layers=self.shared_layers,
            per_layer_input=self.per_layer,
            experts=experts,
            experts_used=used,
            expert_feed_forward=width,
            softcap=_SOFTCAP,
            tied=False,
        )

    def drafter(self) -> ModelConfig:
        """Its drafter's."""
        sliding = _sliding(4, 4)
        return ModelConfig(
            path=_SOURCE,
            architecture="Gemma4AssistantForCausalLM",
            vocab=self.vocabulary,
            hidden=self.drafter_hidden,
            sliding=sliding,
            heads=self.drafter_heads,
            kv_heads=self._kv_heads(sliding),
            kv_heads_by_layer=bool(self.full_kv_heads),
            k_eq_v=bool(self.full_kv_heads),
            head_dim=self.head_dim,
            head_dim_full=self.full_head_dim,
            feed_forward=self.drafter_feed_forward,
            sliding_window=self.window,
            context=self.context,
            shared_kv_layers=len(sliding),
            backbone_hidden=self.hidden,
            centroids=self.clusters,
            centroid_top_k=self.top_k,
        )

    def _kv_heads(self, sliding: tuple[bool, ...]) -> tuple[int, ...]:
        full = self.full_kv_heads or self.kv_heads
        return tuple(self.kv_heads if slides else full for slides in sliding)


def _sliding(layers: int, period: int) -> tuple[bool, ...]:
    return tuple((layer + 1) % period != 0 and layer + 1 != layers for layer in range(layers))


_ALL = (
    Shape(
        "E2B", layers=35, period=5, hidden=1536, heads=8, kv_heads=1, feed_forward=6144,
        window=512, context=131072, shared_layers=20, per_layer=256, double_wide=True,
        drafter_hidden=256, drafter_heads=4, drafter_feed_forward=2048, clusters=2048, top_k=32,
    ),
    Shape(
        "E4B", layers=42, period=6, hidden=2560, heads=8, kv_heads=2, feed_forward=10240,
        window=512, context=131072, shared_layers=18, per_layer=256,
        drafter_hidden=256, drafter_heads=4, drafter_feed_forward=2048, clusters=2048, top_k=32,
    ),
    Shape(
        "12B", layers=48, period=6, hidden=3840, heads=16, kv_heads=8, full_kv_heads=1,
        feed_forward=15360, window=1024, context=262144,
        drafter_hidden=1024, drafter_heads=16, drafter_feed_forward=8192,
    ),
    Shape(
        "26B-A4B", layers=30, period=6, hidden=2816, heads=16, kv_heads=8, full_kv_heads=2,
        feed_forward=2112, window=1024, context=262144, experts=(128, 8, 704),
        drafter_hidden=1024, drafter_heads=16, drafter_feed_forward=8192,
    ),
    Shape(
        "31B", layers=60, period=6, hidden=5376, heads=32, kv_heads=16, full_kv_heads=4,
        feed_forward=21504, window=1024, context=262144,
        drafter_hidden=1024, drafter_heads=32, drafter_feed_forward=8192,
    ),
)  # fmt: skip
SHAPES = {shape.name.lower(): shape for shape in _ALL}
