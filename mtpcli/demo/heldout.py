"""Held-out prompts: for the figures, and a few of them for tests and benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from .corpus import WORKLOADS, Exchange, sample


def held_out_exchanges(
    workload: str, count: int, seed: int = 999, long: bool = False
) -> list[Exchange]:
    """Different prompts, none of which the training has seen."""
    r = Random(f"{seed} {workload}")
    found: dict[str, Exchange] = {}
    for _ in range(200 * count):
        if len(found) == count:
            break
        exchange = sample(r, workload, long=long, held=True)
        found.setdefault(exchange.prompt, exchange)
    return list(found.values())


def write_held_out(path: Path, count: int = 22, long: int = 3) -> None:
    """workload -> [{prompt, reference}]; where the answer is free, the reference is null."""
    prompts = {}
    for workload in WORKLOADS:
        exchanges = held_out_exchanges(workload, count)
        if workload in ("story", "echo"):
            exchanges += held_out_exchanges(workload, long, long=True)
        prompts[workload] = [
            {"prompt": e.prompt, "reference": e.answer if e.exact else None} for e in exchanges
        ]
    path.write_text(json.dumps(prompts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
