"""`mtpcli demo`: three prompts with and without the drafter, in turn, and what it brings."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtpcli.cli import options
from mtpcli.cli.runtime import RUNTIME, with_runtime
from mtpcli.config import RuntimeConfig

if TYPE_CHECKING:
    from mtpcli.bench import Result

# A story is sampled as Gemma 4 recommends; where there is one right answer, it is greedy.
_PROMPTS = {
    "story": ("Write a short story about a curious fox named Mia who finds a lantern.", None),
    "json": ("Extract the data as JSON: Oscar, a pilot from Lisbon, is 41 years old.", 0.0),
    "echo": (
        "Echo: Bruno fixed the rusty compass in the tower. The brave seal painted a blue clock. "
        "In the harbor there are 32 buttons. The tall bear fixed a strange coin.",
        0.0,
    ),
}

_NUMBERS = ("plain", "drafted", "speedup")


@with_runtime
def demo(
    runs: Annotated[int, typer.Option(min=1, help="Runs of each prompt and mode.")] = 5,
    seed: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="Seed of sampled text.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    model: options.Model = None,
    drafter: options.Drafter = None,
    draft_depth: options.DraftDepth = options.DEPTH,
    runtime: RuntimeConfig = RUNTIME,
) -> None:
    """Three prompts with and without the drafter: the same text, faster.

    Plain and drafted runs take turns, so that a busy machine slows both.

    Examples:

        mtpcli demo
        mtpcli demo -m models/gemma-4-E4B-it-Q8_0.gguf --runs 3 --json
    """
    from mtpcli import bench
    from mtpcli.cli import output
    from mtpcli.config import DraftConfig
    from mtpcli.errors import ModelError, UsageError
    from mtpcli.session import Session, choose_pair

    if draft_depth == 0:
        raise UsageError("--draft-depth 0 leaves nothing to compare: take 1 to 15")
    paths = choose_pair(model, drafter, draft=True)
    options.say_which_model(paths)
    if not paths.drafter:
        raise ModelError(f"no drafter that fits lies beside {paths.target}: name one by --drafter")
    mode = bench.AUTO if draft_depth is None else str(draft_depth)
    workloads = [
        bench.Workload(name, [prompt], temperature)
        for name, (prompt, temperature) in _PROMPTS.items()
    ]
    with Session(paths, DraftConfig(), replace(runtime, n_ctx=1024)) as session:
        sampling = replace(session.sampling, seed=seed)
        found = bench.run(
            session, workloads, [bench.PLAIN, mode], sampling, runs=runs, max_tokens=256
        )
        output.warn(session.engine.health)
    rows = [_row(plain, drafted) for plain, drafted in found]
    if as_json:
        output.print_json(
            {"model": str(paths.target), "drafter": str(paths.drafter), "prompts": rows}
        )
    else:
        _show(rows)
    if not all(row["equal"] for row in rows):
        output.note(
            "texts differ: on this file and machine, batches do not give the bits of single rows"
        )
        raise typer.Exit(1)


def _row(plain: Result, drafted: Result) -> dict[str, Any]:
    prompt, temperature = _PROMPTS[plain.workload]
    return {
        "name": plain.workload,
        "prompt": prompt,
        "temperature": "recommended" if temperature is None else temperature,
        "text": plain.texts[0],
        "equal": plain.equal and drafted.equal,
        "plain_tokens_per_second": round(plain.speed, 1),
        "drafted_tokens_per_second": round(drafted.speed, 1),
        "speedup": round(drafted.speedup(plain), 3),
        "draft_depth": drafted.mode,
        "acceptance_by_position": [
            round(share, 4) for share in drafted.stats.acceptance_by_position
        ],
        "tokens_per_round": round(drafted.stats.tokens_per_round or 0.0, 3),
    }


def _show(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from mtpcli.cli.output import console
    from mtpcli.sanitize import visible

    table = Table(
        box=box.SIMPLE_HEAD,
        caption="tokens per second; share accepted by position in the draft",
    )
    for heading in ("prompt", "sampling", "plain", "drafted", "speedup", "accepted", "text"):
        table.add_column(heading, justify="right" if heading in _NUMBERS else "left", no_wrap=True)
    for row in rows:
        table.add_row(
            row["name"],
            "greedy" if row["temperature"] == 0 else "sampled",
            f"{row['plain_tokens_per_second']:.0f}",
            f"{row['drafted_tokens_per_second']:.0f}",
            f"{row['speedup']:.2f}x",
            " ".join(f"{share:.2f}" for share in row["acceptance_by_position"][:4]),
            "equal" if row["equal"] else "DIFFERS",
        )
    with console() as screen:
        for row in rows:
            screen.print(Text(f"> {row['prompt']}", style="bold"))
            screen.print(Text(visible(row["text"])))
            screen.print()
        screen.print(table)
