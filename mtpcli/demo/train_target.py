"""Training the target: half its depth first, then all of it, then long rows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import Gemma4ForCausalLM

from .dataset import Rows
from .model import LAYERS, PERIOD, TargetForward, new_target
from .workers import Rates, Team, compile_settings, one_thread, train

ALL_BLOCKS = tuple(range(LAYERS // PERIOD))
HALF_BLOCKS = (0, 2, 4)  # block 2 holds the keys and values that the shared layers read
# A block that joins later starts as a copy of a trained one of its kind, with little say.
COPIED_FROM = {1: 0, 3: 4, 5: 4, 6: 4}
JOINING_GAIN = 0.1
DEPTH_AT, LONG_AT = 0.55, 0.82  # parts of the time after which all blocks train, and rows get long
ROLE_WEIGHT = torch.tensor([0.0, 0.1, 1.0, 0.0])
CHECKPOINT_SECONDS = 180


@dataclass(frozen=True)
class Phase:
    length: int
    rows: int


SHORT, LONG = Phase(256, 3), Phase(1024, 1)


def block_layers(blocks: tuple[int, ...]) -> list[int]:
    return [b * PERIOD + i for b in blocks for i in range(PERIOD)]


@torch.no_grad()
def add_blocks(target: Gemma4ForCausalLM) -> None:
    layers = target.model.layers
    for new, old in COPIED_FROM.items():
        for i in range(PERIOD):
            to, source = layers[new * PERIOD + i], layers[old * PERIOD + i]
            given = dict(source.named_parameters())
            for name, p in to.named_parameters():
                p.copy_(given[name])
                if name.startswith("post_"):
                    p.mul_(JOINING_GAIN)


class _Batches:
    def __init__(self, path: Path, phase: Phase, seed: int) -> None:
        self.rows, self.count = Rows.load(path), phase.rows
        self.order = np.random.default_rng(seed).permutation(len(self.rows.ids))

    def __call__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        at = np.arange(index * self.count, (index + 1) * self.count) % len(self.order)
        chosen = self.order[at]
        ids, doc, role = (
            torch.from_numpy(a[chosen].astype(np.int64))
            for a in (self.rows.ids, self.rows.doc, self.rows.role)
        )
        return ids, doc, ROLE_WEIGHT[role]


def train_target(
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
    target = new_target()
    checkpoint = work / "target.pt"
    if resume_at:
        target.load_state_dict(torch.load(checkpoint))
    rates = Rates(muon=0.02, table=4e-3, vector=2e-3, hold=0.45)
    team = Team(target, workers, micro_batches, minutes, rates)
    print(f"target: {sum(p.numel() for p in target.parameters()):,} parameters", flush=True)

    def worker(rank: int) -> None:
        one_thread()
        compile_settings()
        forward = TargetForward(target)
        batches = {
            p: _Batches(data / f"rows{p.length}.npz", p, seed=7 + int(1000 * resume_at))
            for p in (SHORT, LONG)
        }

        def micro(index: int, progress: float) -> Tensor:
            ids, doc, weight = batches[LONG if progress >= LONG_AT else SHORT](index)
            loss = forward.loss(ids, doc, weight)
            loss.backward()
            return torch.tensor([float(weight.sum()), float(loss.detach()), ids.numel()])

        started = time.time()
        for warm in (0.0, 1.0):  # compile both shapes before the clock starts
            micro(0, warm)
        target.zero_grad(set_to_none=True)
        print(f"worker {rank}: compiled in {time.time() - started:.0f} s", flush=True)
        forward.active = block_layers(HALF_BLOCKS if resume_at < DEPTH_AT else ALL_BLOCKS)
        if resume_at and rank == 0:
            team.began.value = time.time() - resume_at * team.seconds

        def before(progress: float) -> None:
            if progress >= DEPTH_AT and len(forward.active) < LAYERS:
                team.barrier.wait()
                if rank == 0:
                    add_blocks(target)
                    print("all blocks train from here on", flush=True)
                team.barrier.wait()
                forward.active = block_layers(ALL_BLOCKS)

        log = _Log(checkpoint, target)
        train(team, rank, micro, log, before)

    team.run(worker)
    return checkpoint


class _Log:
    """Called after each step by the first worker: prints now and then, saves every few minutes."""

    def __init__(self, checkpoint: Path, target: Gemma4ForCausalLM) -> None:
        self.checkpoint, self.target = checkpoint, target
        self.saved = self.began = time.time()
        self.tokens = 0.0
        self.loss = 0.0

    def __call__(self, step: int, progress: float, sums: Tensor) -> None:
        loss = float(sums[1] / sums[0])
        self.loss = loss if step == 1 else 0.95 * self.loss + 0.05 * loss
        self.tokens += float(sums[2])
        now = time.time()
        if step % 20 == 0:
            print(
                f"step {step} at {progress:.3f}: loss {self.loss:.4f}, "
                f"{self.tokens / 1e6:.2f} M tokens, "
                f"{self.tokens / (now - self.began):.0f} tokens/s, {now - self.began:.0f} s",
                flush=True,
            )
        if now - self.saved > CHECKPOINT_SECONDS or progress >= 1:
            torch.save(self.target.state_dict(), self.checkpoint.with_suffix(".tmp"))
            self.checkpoint.with_suffix(".tmp").rename(self.checkpoint)
            self.saved = now
