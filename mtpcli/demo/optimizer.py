"""Muon for the matrices, AdamW for the rest, sharded over worker processes, by the wall clock."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

BF16 = torch.bfloat16


def orthogonalise(g: Tensor, steps: int = 5) -> Tensor:
    """Newton-Schulz: a batch of matrices (rows <= columns) towards U V^T."""
    x = g.to(BF16)
    x = x / (x.float().norm(dim=(1, 2), keepdim=True).to(BF16) + 1e-7)
    for _ in range(steps):
        a = x @ x.transpose(1, 2)
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * (a @ a)) @ x
    return x.float()


def _upright(g: Tensor | None) -> Tensor:
    assert g is not None
    return g if g.shape[0] <= g.shape[1] else g.T


@dataclass
class Muon:
    """Momentum, orthogonalised; matrices of one shape are handled as one batch."""

    matrices: list[torch.nn.Parameter]
    lr: float = 0.02
    weight_decay: float = 0.02
    groups: dict[tuple[int, ...], list[torch.nn.Parameter]] = field(default_factory=dict)
    momentum: dict[tuple[int, ...], Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for p in self.matrices:
            self.groups.setdefault(tuple(sorted(p.shape)), []).append(p)
        self.momentum = {shape: torch.zeros(len(ps), *shape) for shape, ps in self.groups.items()}

    @torch.no_grad()
    def step(self, rate: float, mu: float) -> None:
        lr = self.lr * rate
        for shape, ps in self.groups.items():
            live = [i for i, p in enumerate(ps) if p.grad is not None and p.grad[0].any()]
            if not live:
                continue
            used = [ps[i] for i in live]
            g = torch.stack([_upright(p.grad) for p in used])
            m = torch.lerp(self.momentum[shape][live], g, 1 - mu)
            self.momentum[shape][live] = m
            for p, u in zip(used, orthogonalise(torch.lerp(g, m, mu)), strict=True):
                scale = max(1.0, p.shape[0] / p.shape[1]) ** 0.5
                step = u if p.shape[0] <= p.shape[1] else u.T
                p.mul_(1 - lr * self.weight_decay).add_(step, alpha=-lr * scale)


class Optimizer:
    """Both, for a named set of parameters."""

    def __init__(
        self,
        named: list[tuple[str, torch.nn.Parameter]],
        muon_lr: float,
        table_lr: float,
        vector_lr: float,
    ) -> None:
        def is_table(name: str) -> bool:
            return any(part in name for part in ("embed_tokens", "lm_head", "centroids"))

        tables = [p for n, p in named if is_table(n)]
        vectors = [p for n, p in named if p.ndim < 2]
        self.muon = Muon([p for n, p in named if p.ndim == 2 and not is_table(n)], muon_lr)
        groups = [
            {"params": tables, "lr": table_lr, "weight_decay": 0.01},
            {"params": vectors, "lr": vector_lr, "weight_decay": 0.0},
        ]
        self.adam = torch.optim.AdamW(
            [g for g in groups if g["params"]], betas=(0.9, 0.98), fused=True
        )
        self.base = [float(g["lr"]) for g in self.adam.param_groups]
        self.steps = 0

    def step(self, rate: float) -> None:
        for group, lr in zip(self.adam.param_groups, self.base, strict=True):
            group["lr"] = lr * rate
        self.adam.step()
        self.muon.step(rate, 0.85 + 0.1 * min(1.0, self.steps / 100))
        self.steps += 1


def learning_rate(progress: float, step: int, hold: float, warmup: int = 40) -> float:
    """Warm up by steps, hold, then fall linearly to 0 by the wall clock's progress."""
    falling = 1.0 if progress < hold else max(0.0, (1 - progress) / (1 - hold))
    return min(1.0, (step + 1) / warmup) * falling
