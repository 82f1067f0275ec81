"""Training the drafter on the target's own distribution, eight draft steps deep."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import Gemma4ForCausalLM

from .dataset import MODEL, Rows
from .drafting import DraftForward, clusters_of, draft_masks, prepare
from .model import BF16, TargetForward, capped_logits, new_drafter, rotations
from .workers import Rates, Team, compile_settings, one_thread, train

STEPS = 8
HARD, CLUSTER = 0.1, 0.15  # weights beside the soft labels: the target's argmax, the right clusters
SHAPES = {"short": (256, 3, 64), "long": (1024, 1, 192)}  # length, rows, start positions per row
LONG_SHARE = 4  # one micro-batch in four has long rows


def choose_starts(role: Tensor, doc: Tensor, count: int, g: torch.Generator) -> Tensor:
    """Start positions [B,count]: the model wrote this token and writes the next one."""
    inside = doc[:, 1:] == doc[:, :-1]
    wanted = ((role[:, 1:] == MODEL) & (role[:, :-1] == MODEL) & inside).float()
    wanted = F.pad(wanted, (0, 1)) + 1e-6
    wanted[:, 0] = 0
    wanted[:, -STEPS - 1 :] = 0
    return torch.multinomial(wanted, count, generator=g).sort(1).values


def draft_loss(
    y: Tensor, head: Tensor, centroids: Tensor, goal: Tensor, members: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Sums over start positions: the loss, and where the drafter's first choice is the target's."""
    logits = F.linear(y.to(BF16), head.to(BF16)).float()
    logq = torch.log_softmax(logits, -1)
    best = goal.argmax(-1)
    soft = -(goal * logq).sum(-1)
    hard = -logq.gather(1, best[:, None])[:, 0]
    log_clusters = torch.log_softmax(F.linear(y.to(BF16), centroids.to(BF16)).float(), -1)
    cluster = -((goal @ members) * log_clusters).sum(-1)
    agree = (logits.argmax(-1) == best).float()
    return ((soft + HARD * hard + CLUSTER * cluster) * weight).sum(), (agree * weight).sum()


class _Teacher:
    """Rows, start positions and everything the drafter reads from the target."""

    def __init__(self, target: Gemma4ForCausalLM, data: Path, seed: int) -> None:
        self.forward = TargetForward(target)
        self.table = target.model.embed_tokens.weight
        self.rows = {
            name: Rows.load(data / f"rows{length}.npz") for name, (length, _, _) in SHAPES.items()
        }
        self.order = {
            name: np.random.default_rng(11).permutation(len(rows.ids))
            for name, rows in self.rows.items()
        }
        self.g = torch.Generator().manual_seed(seed)
        self.rotation = rotations(target.model, 1024)

    @torch.no_grad()
    def batch(self, index: int) -> dict[str, Any]:
        name = "long" if index % LONG_SHARE == LONG_SHARE - 1 else "short"
        _, count, starts = SHAPES[name]
        rows, order = self.rows[name], self.order[name]
        chosen = order[np.arange(index * count, (index + 1) * count) % len(order)]
        ids, doc, role = (
            torch.from_numpy(a[chosen].astype(np.int64)) for a in (rows.ids, rows.doc, rows.role)
        )
        h, kv = self.forward.hidden(ids, doc)
        p = choose_starts(role, doc, starts, self.g)
        return {
            "ids": ids,
            "doc": doc,
            "role": role,
            "starts": p,
            "kv": kv,
            "mask": draft_masks(doc, p),
            "hidden": h.gather(1, (p - 1)[:, :, None].expand(-1, -1, h.shape[-1])),
            "rows": h,
            "rotation": {kind: (cos[p], sin[p]) for kind, (cos, sin) in self.rotation.items()},
        }

    @torch.no_grad()
    def goal(self, rows: Tensor, at: Tensor) -> Tensor:
        """The target's distribution of the token after position `at` [B,P] -> [B*P,V]."""
        h = rows.gather(1, at[:, :, None].expand(-1, -1, rows.shape[-1]))
        return torch.softmax(capped_logits(h, self.table), -1).flatten(0, 1)


def train_drafter(
    target: Gemma4ForCausalLM,
    data: Path,
    work: Path,
    minutes: float,
    workers: int = 2,
    micro_batches: int = 2,
    resume_at: float = 0.0,
) -> Path:
    """Returns the checkpoint: a state dict in float32.

    `resume_at` takes up the checkpoint in `work` again, at that part of `minutes`.
    """
    target.requires_grad_(False)
    table = target.model.embed_tokens.weight.data
    drafter = new_drafter()
    cluster = prepare(drafter, table)
    checkpoint = work / "drafter.pt"
    if resume_at:
        drafter.load_state_dict(torch.load(checkpoint))
        cluster = clusters_of(drafter)
    members = F.one_hot(cluster).float()
    team = Team(
        drafter,
        workers,
        micro_batches,
        minutes,
        Rates(muon=0.02, table=1.5e-3, vector=2e-3, hold=0.3),
    )
    print(f"drafter: {sum(p.numel() for p in drafter.parameters()):,} parameters", flush=True)

    def worker(rank: int) -> None:
        one_thread()
        compile_settings()
        teacher = _Teacher(target, data, seed=3 + rank)
        forward = DraftForward(drafter)
        loss_of = torch.compile(draft_loss, dynamic=False)

        def micro(index: int, progress: float) -> Tensor:
            b = teacher.batch(index)
            p, ids, doc, role = b["starts"], b["ids"], b["doc"], b["role"]
            hidden, valid = b["hidden"], (role.gather(1, p) == MODEL).float()
            loss, sums = torch.zeros(()), torch.zeros(3 + STEPS)
            for j in range(STEPS):
                token = ids.gather(1, p + j)
                y, hidden = forward.step(token, hidden, table, b["rotation"], b["mask"], b["kv"])
                after = p + j + 1
                valid = valid * (
                    (role.gather(1, after) == MODEL) & (doc.gather(1, after) == doc.gather(1, p))
                )
                part, agree = loss_of(
                    y.flatten(0, 1),
                    drafter.lm_head.weight,
                    drafter.masked_embedding.centroids.weight,
                    teacher.goal(b["rows"], p + j),
                    members,
                    valid.flatten(),
                )
                loss = loss + part
                sums[0] += valid.sum()
                sums[3 + j] = agree.detach() / valid.sum().clamp(min=1) / micro_batches
            loss.backward()
            sums[1], sums[2] = loss.detach(), ids.numel()
            return sums

        started = time.time()
        for warm in (0, LONG_SHARE - 1):
            micro(warm, 0.0)
        drafter.zero_grad(set_to_none=True)
        print(f"worker {rank}: compiled in {time.time() - started:.0f} s", flush=True)
        if resume_at and rank == 0:
            team.began.value = time.time() - resume_at * team.seconds
        train(team, rank, micro, _Log(checkpoint, drafter))

    team.run(worker)
    return checkpoint


class _Log:
    def __init__(self, checkpoint: Path, drafter: torch.nn.Module) -> None:
        self.checkpoint, self.drafter = checkpoint, drafter
        self.began = self.saved = time.time()
        self.mean = torch.zeros(1 + STEPS, dtype=torch.float64)
        self.tokens = 0.0

    def __call__(self, step: int, progress: float, sums: Tensor) -> None:
        now = torch.cat([(sums[1] / sums[0])[None], sums[3 : 3 + STEPS]])
        self.mean = now if step == 1 else 0.95 * self.mean + 0.05 * now
        self.tokens += float(sums[2])
        seconds = time.time() - self.began
        if step % 20 == 0:
            agree = " ".join(f"{x:.3f}" for x in self.mean[1:])
            print(
                f"step {step} at {progress:.3f}: loss {float(self.mean[0]):.4f}, "
                f"agreement {agree}, "
                f"{self.tokens / 1e6:.2f} M tokens, {seconds:.0f} s",
                flush=True,
            )
        if time.time() - self.saved > 120 or progress >= 1:
            torch.save(self.drafter.state_dict(), self.checkpoint.with_suffix(".tmp"))
            self.checkpoint.with_suffix(".tmp").rename(self.checkpoint)
            self.saved = time.time()
