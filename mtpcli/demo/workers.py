"""Two single-threaded workers instead of two threads: one barrier per step, not one per operation.

A worker that loses its core for a moment takes fewer micro-batches; nobody else has to wait for it.
Parameters and gradients lie in shared memory, and each worker runs the optimizer on its part.
"""

from __future__ import annotations

import multiprocessing as mp
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .optimizer import Optimizer, learning_rate

Named = list[tuple[str, torch.nn.Parameter]]


def shards(named: Named, count: int) -> list[Named]:
    """Split by size: the largest first, each to the part with the least so far."""
    parts: list[Named] = [[] for _ in range(count)]
    load = [0] * count
    for name, p in sorted(named, key=lambda item: -item[1].numel()):
        least = load.index(min(load))
        parts[least].append((name, p))
        load[least] += p.numel()
    return parts


@dataclass
class Rates:
    muon: float
    table: float
    vector: float
    hold: float


class Team:
    """What the workers share. Create it before they start, with the module in shared memory."""

    def __init__(
        self,
        module: torch.nn.Module,
        workers: int,
        micro_batches: int,
        minutes: float,
        rates: Rates,
    ) -> None:
        context = mp.get_context("fork")
        self.workers, self.micro_batches = workers, micro_batches
        self.seconds, self.rates = minutes * 60, rates
        module.share_memory()
        self.named: Named = [(n, p) for n, p in module.named_parameters() if p.requires_grad]
        self.grads = [
            [torch.zeros_like(p).share_memory_() for _, p in self.named] for _ in range(workers)
        ]
        self.next = context.Value("q", 0)
        self.barrier = context.Barrier(workers, timeout=900)
        self.began = context.Value("d", 0.0)
        self.sums = torch.zeros(workers, 16, dtype=torch.float64).share_memory_()
        self.parts = shards(self.named, workers)
        self.context = context

    def progress(self) -> float:
        return (time.time() - self.began.value) / self.seconds if self.began.value else 0.0

    def take(self) -> int:
        with self.next.get_lock():
            self.next.value += 1
            return int(self.next.value) - 1

    def run(self, worker: Callable[[int], None]) -> None:
        """Run `worker(rank)` in every process, rank 0 in this one's child too."""
        processes = [
            self.context.Process(target=worker, args=(rank,)) for rank in range(self.workers)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
            if process.exitcode:
                raise RuntimeError(f"a training worker ended with {process.exitcode}")


def train(
    team: Team,
    rank: int,
    micro: Callable[[int, float], Tensor],
    after: Callable[[int, float, Tensor], None],
    before: Callable[[float], None] = lambda progress: None,
) -> None:
    """The loop of one worker.

    `micro(index, progress)` runs forward and backward of one micro-batch and returns a row of sums:
    the first is what gradients are divided by. `after(step, progress, sums)` is called by rank 0
    with the sums over all micro-batches of the step. `before(progress)` may change what is trained.
    """
    mine = team.parts[rank]
    optimizer = Optimizer(mine, team.rates.muon, team.rates.table, team.rates.vector)
    place = {name: i for i, (name, _) in enumerate(team.named)}
    local = team.grads[rank]
    step, goal = 0, 0
    progress = 0.0
    while progress < 1:
        before(progress)
        for (_, p), g in zip(team.named, local, strict=True):
            p.grad = g
            g.zero_()
        team.sums[rank].zero_()
        goal += team.micro_batches
        while True:
            index = team.take()
            if index >= goal:
                break
            sums = micro(index, progress)
            team.sums[rank, : len(sums)] += sums.double()
        team.barrier.wait()
        total = team.sums.sum(0)
        rate = learning_rate(progress, step, team.rates.hold)
        with torch.no_grad():
            for name, p in mine:
                grad = sum(
                    (team.grads[w][place[name]] for w in range(1, team.workers)),
                    team.grads[0][place[name]],
                )
                p.grad = grad / total[0].clamp(min=1).float()
        optimizer.step(rate)
        if rank == 0:
            # The workers took one ticket each beyond the goal; the next step starts at the goal.
            team.next.value = goal
            if not team.began.value:
                team.began.value = time.time()
        step += 1
        team.barrier.wait()
        if rank == 0:
            progress_now = team.progress()
            team.sums[0, 15] = progress_now
            after(step, progress_now, total)
        team.barrier.wait()
        progress = float(team.sums[0, 15])


def one_thread() -> None:
    """Call first in every worker: intra-op threads would only fight each other."""
    torch.set_num_threads(1)


def compile_settings() -> None:
    import torch._dynamo
    import torch._inductor.config

    dynamo: Any = torch._dynamo.config
    dynamo.cache_size_limit = 64
    inductor: Any = torch._inductor.config
    inductor.cpp.threads = 1
