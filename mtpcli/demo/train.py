"""`python -m mtpcli.demo.train --out DIR`: the embedded pair from nothing, on two CPU cores.

Needs the `train` extra (torch, transformers, tokenizers). The steps: corpus and tokenizer, target,
drafter, snapshots, held-out prompts, figures.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import torch

from .corpus import render, stream
from .dataset import Encoder, build
from .evaluate import evaluate, load_template
from .heldout import write_held_out
from .model import new_drafter, new_target
from .snapshot import save_snapshot
from .tokenizer import load_tokenizer, save_tokenizer, train_tokenizer
from .train_drafter import train_drafter
from .train_target import train_target

TEMPLATE = Path(__file__).parent / "target" / "chat_template.jinja"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="gets target/, drafter/, heldout.json, figures.md"
    )
    parser.add_argument("--work", type=Path, help="rows and checkpoints (default: OUT/work)")
    parser.add_argument("--minutes", type=float, default=90, help="for the target (default: 90)")
    parser.add_argument(
        "--drafter-minutes", type=float, default=20, help="for the drafter (default: 20)"
    )
    parser.add_argument(
        "--workers", type=int, default=2, help="processes, one thread each (default: 2)"
    )
    parser.add_argument(
        "--tokens", type=float, default=14e6, help="size of the corpus (default: 14e6)"
    )
    parser.add_argument(
        "--cases", type=int, default=60, help="held-out prompts per workload for the figures"
    )
    options = parser.parse_args()
    out, work = options.out, options.work or options.out / "work"
    work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # the workers fork: no thread pool may be alive in this process

    template = load_template(TEMPLATE)
    contents = train_tokenizer(render(template, c) for c in itertools.islice(stream(99), 30_000))
    save_tokenizer(contents, work)
    short = int(options.tokens * 0.83)
    build(Encoder(load_tokenizer(work), template), work, short, int(options.tokens) - short)

    target = new_target()
    target.load_state_dict(torch.load(train_target(work, work, options.minutes, options.workers)))
    target.to(torch.bfloat16).float()  # the drafter learns from what is shipped
    drafter = new_drafter()
    drafter.load_state_dict(
        torch.load(train_drafter(target, work, work, options.drafter_minutes, options.workers))
    )
    save_snapshot(target, contents, out / "target", TEMPLATE)
    save_snapshot(drafter, contents, out / "drafter", None)
    write_held_out(out / "heldout.json")
    (out / "figures.md").write_text(
        evaluate(out, options.cases, out / "samples.txt"), encoding="utf-8"
    )
    print(json.dumps({"out": str(out), "figures": str(out / "figures.md")}))


if __name__ == "__main__":
    main()
