"""The drafter's forward and its two heads.

All steps of a draft are at one position, that of the last sampled token; the drafter reads the
target's keys and values of the positions before it and never writes any.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .model import (
    BF16,
    CENTROIDS,
    DRAFT_HIDDEN,
    HIDDEN,
    WINDOW,
    additive,
    drafter_layer,
    layer_weights,
    linear,
    rms,
)


def balanced_clusters(table: Tensor, count: int, rounds: int = 30, seed: int = 0) -> Tensor:
    """The cluster of each token: spherical k-means in which every cluster has the same size."""
    g = torch.Generator().manual_seed(seed)
    points = F.normalize(table.float(), dim=1)
    size = len(points) // count
    centers = points[torch.randperm(len(points), generator=g)[:count]].clone()
    cluster = torch.full((len(points),), -1)
    for _ in range(rounds):
        near = points @ centers.T
        best = near.topk(2, 1).values
        decided = (best[:, 0] - best[:, 1]).argsort(
            descending=True
        )  # the most decided choose first
        wish = near.argsort(1, descending=True).tolist()
        filled, new = [0] * count, cluster.clone()
        for token in decided.tolist():
            chosen = next(c for c in wish[token] if filled[c] < size)
            filled[chosen] += 1
            new[token] = chosen
        if torch.equal(new, cluster):
            break
        cluster = new
        centers = torch.stack(
            [F.normalize(points[cluster == c].mean(0), dim=0) for c in range(count)]
        )
    return cluster


@torch.no_grad()
def prepare(drafter: Any, table: Tensor) -> Tensor:
    """Start from the target's embeddings (their principal axes); set up the ordered head.

    Returns the cluster of each token.
    """
    axes = torch.linalg.svd(table - table.mean(0), full_matrices=False)[2][:DRAFT_HIDDEN].T
    small = table @ axes
    drafter.model.embed_tokens.weight.copy_(small)
    drafter.lm_head.weight.copy_(small)
    cluster = balanced_clusters(table, CENTROIDS)
    drafter.masked_embedding.token_ordering.copy_(
        torch.cat([(cluster == c).nonzero()[:, 0] for c in range(CENTROIDS)])
    )
    drafter.masked_embedding.centroids.weight.copy_(
        torch.stack([small[cluster == c].mean(0) for c in range(CENTROIDS)])
    )
    return cluster


def enter(token: Tensor, hidden: Tensor, table: Tensor, weight: Tensor) -> Tensor:
    """The drafter's input: the target's embedding of the token beside the hidden row."""
    e = F.embedding(token, table) * HIDDEN**0.5
    return linear(torch.cat([e.to(BF16), hidden.to(BF16)], -1), weight).float()


def leave(x: Tensor, norm: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """The normed row for the head, and the hidden row for the next step."""
    y = rms(x, norm)
    return y, linear(y, weight).float()


def draft_masks(doc: Tensor, starts: Tensor) -> dict[str, Tensor]:
    """doc [B,T], starts [B,P] -> masks [B,P,T]: positions before the start, in its conversation."""
    ago = starts[:, :, None] - torch.arange(doc.shape[1])[None, None]
    full = (ago >= 1) & (doc.gather(1, starts)[:, :, None] == doc[:, None, :])
    return {"full_attention": additive(full), "sliding_attention": additive(full & (ago < WINDOW))}


class DraftForward:
    def __init__(self, drafter: Any, compiled: bool = True) -> None:
        wrap = (lambda f: torch.compile(f, dynamic=False)) if compiled else (lambda f: f)
        self.drafter = drafter
        self.layer, self.enter, self.leave = wrap(drafter_layer), wrap(enter), wrap(leave)
        self.kinds = drafter.config.text_config.layer_types

    def step(
        self,
        token: Tensor,
        hidden: Tensor,
        table: Tensor,
        rotation: dict[str, tuple[Tensor, Tensor]],
        mask: dict[str, Tensor],
        kv: dict[str, tuple[Tensor, Tensor]],
    ) -> tuple[Tensor, Tensor]:
        """One draft step at all starts: token [B,P], hidden [B,P,H]; `table` is the target's."""
        d = self.drafter
        x = self.enter(token, hidden, table, d.pre_projection.weight)
        for kind, layer in zip(self.kinds, d.model.layers, strict=True):
            x = self.layer(x, *rotation[kind], mask[kind], *kv[kind], layer_weights(layer))
        y, after = self.leave(x, d.model.norm.weight, d.post_projection.weight)
        return y, after


def clusters_of(drafter: Any) -> Tensor:
    """The cluster of each token, from the ordering that the drafter carries."""
    order = drafter.masked_embedding.token_ordering
    cluster = torch.empty(len(order), dtype=torch.long)
    cluster[order] = torch.arange(CENTROIDS).repeat_interleave(len(order) // CENTROIDS)
    return cluster


def ordered_logits(y: Tensor, drafter: Any) -> Tensor:
    """The head that looks only into the clusters whose centroids score highest."""
    head = drafter.masked_embedding
    top = (
        linear_f32(y, head.centroids.weight)
        .topk(drafter.config.centroid_intermediate_top_k, -1)
        .indices
    )
    open_ = torch.zeros(*y.shape[:-1], CENTROIDS, dtype=torch.bool).scatter_(-1, top, True)
    cluster = clusters_of(drafter)
    return linear_f32(y, drafter.lm_head.weight).masked_fill(~open_[..., cluster], -1e9)


def linear_f32(x: Tensor, weight: Tensor) -> Tensor:
    return F.linear(x.float(), weight.float())
