"""`mtpcli bench`: what drafting brings on this machine, for this file, by workload and depth."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtpcli.cli import bench_synthetic, options
from mtpcli.cli.runtime import RUNTIME, with_runtime
from mtpcli.config import RuntimeConfig

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.table import Table

    from mtpcli.bench import Result, Workload
    from mtpcli.bench_heads import Heads
    from mtpcli.session import PairPaths

_BAR = 20
_HEADINGS = (
    "workload", "mode", "tokens/s", "range", "speedup", "", "accepted by position",
    "tokens/round", "depths", "draft", "verify", "rest", "text",
)  # fmt: skip
_ACCEPTED = 6
# The columns that a narrow terminal does without, beginning with the first.
_DISPENSABLE = (5, 3, 11, 9, 10, 8, 7, _ACCEPTED)


@with_runtime
def bench(
    context: typer.Context,
    prompts: Annotated[
        Path | None,
        typer.Option(
            parser=options.path,
            help="JSON with lists of prompts by name, or text with a prompt per line.",
        ),
    ] = None,
    depths: Annotated[
        str, typer.Option(help="Fixed depths to compare, with commas between them.")
    ] = "1,3,7",
    runs: Annotated[int, typer.Option(min=1, help="Runs that count, after one that does not.")] = 3,
    per_workload: Annotated[int, typer.Option(min=1, help="Prompts of each workload.")] = 3,
    max_tokens: Annotated[int, typer.Option("--max-tokens", "-n", min=2)] = 128,
    temperature: options.Temperature = None,
    seed: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="Seed of sampled text.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="A table in Markdown.")] = False,
    plot: Annotated[
        Path | None,
        typer.Option(parser=options.path, help="Draw the speedups into this SVG file."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the SVG file.")] = False,
    model: options.Model = None,
    ctx: options.Context = 2048,
    drafter: options.Drafter = None,
    synthetic: bench_synthetic.Shape = None,
    acceptance: bench_synthetic.Acceptance = None,
    quant: bench_synthetic.Quant = None,
    remove: bench_synthetic.Remove = False,
    runtime: RuntimeConfig = RUNTIME,
) -> None:
    """Compare plain decoding, the automatic depth and fixed depths on the same prompts.

    Modes take turns on every prompt, and speedups are medians of ratios of neighbouring runs.
    Times are milliseconds per round: of the drafter's and the target's decodes, and of all the rest
    with its share. A drafter that has an ordered head is timed with and without it.

    Examples:

        mtpcli bench -m gemma-4-E2B-it-Q4_0.gguf

        mtpcli bench --prompts mine.txt --temperature 0 --markdown

        mtpcli bench --synthetic e2b --acceptance 0.5 --acceptance 0.9 --temperature 0 --runs 1
    """
    from mtpcli import bench as measure
    from mtpcli import bench_heads
    from mtpcli.cli import output
    from mtpcli.config import DraftConfig
    from mtpcli.errors import UsageError
    from mtpcli.session import Session

    modes = (measure.PLAIN, measure.AUTO, *_depths(depths))
    if as_json and markdown:
        raise UsageError("--json and --markdown exclude each other: choose one")
    bench_synthetic.check_options(context, made_up=synthetic is not None)
    if plot and plot.is_dir():
        raise UsageError(f"{plot} is a folder: name a file, such as {plot / 'speeds.svg'}")
    if plot and plot.exists() and not force:
        raise UsageError(f"{plot} exists: --force replaces it")
    if plot and not plot.parent.is_dir():
        raise UsageError(f"cannot write {plot}: {plot.parent} is not a folder")
    own = measure.load_prompts(prompts) if prompts else None
    source = (
        _made_up(synthetic, acceptance or [0.8], quant or "q4_0", remove, own)
        if synthetic is not None
        else _given(model, drafter, own)
    )
    found: list[list[Result]] = []
    say = _say if sys.stderr.isatty() else lambda message: None
    runtime = replace(runtime, n_ctx=ctx)
    with source as pairs:
        for paths, workloads in pairs:
            few = [replace(load, prompts=load.prompts[:per_workload]) for load in workloads]
            with Session(paths, DraftConfig(), runtime) as session:
                sampling = options.sampling(
                    session.sampling, seed=seed, temperature=temperature, top_k=None, top_p=None
                )
                found += measure.run(
                    session, few, modes, sampling, runs=runs, max_tokens=max_tokens,
                    progress=say,
                )  # fmt: skip
                output.warn(session.engine.health)
        say("draft steps, by head")
        # Made-up drafters differ in what they say, not in what it costs.
        heads = bench_heads.compare(pairs[0][0], runtime, sampling)
    heading = f"{paths.target.name}, temperature {sampling.temperature:g}, {runs} runs"
    rows = [_row(result, results[0]) for results in found for result in results]
    try:
        if as_json:
            output.print_json(
                {
                    "model": str(paths.target),
                    "drafters": [str(paths.drafter) for paths, _ in pairs],
                    "made_up": synthetic is not None,
                    "temperature": sampling.temperature,
                    "seed": seed,
                    "runs": runs,
                    "heads": _heads(heads) if heads else None,
                    "results": rows,
                }
            )
        elif markdown:
            _print_markdown(rows)
        else:
            _print_table(rows, heading)
        if heads and not as_json:
            typer.echo(_about_heads(_heads(heads)))
    finally:  # what took minutes is not lost with the other half
        if plot:
            from mtpcli.cli.bench_plot import write_plot

            write_plot(plot, heading, found)


@contextmanager
def _given(
    model: Path | None, drafter: Path | None, own: list[Workload] | None
) -> Iterator[list[tuple[PairPaths, list[Workload]]]]:
    """The pair that the user means, and what it is asked."""
    from mtpcli.bench import load_prompts
    from mtpcli.errors import ModelError
    from mtpcli.session import choose_pair

    workloads = own or load_prompts(_own_prompts())
    paths = choose_pair(model, drafter, draft=True)
    options.say_which_model(paths)
    if not paths.drafter:
        raise ModelError(f"no drafter that fits lies beside {paths.target}: name one by --drafter")
    yield [(paths, workloads)]


@contextmanager
def _made_up(
    shape: str, acceptances: list[float], quant: str, remove: bool, own: list[Workload] | None
) -> Iterator[list[tuple[PairPaths, list[Workload]]]]:
    """Made-up pairs, and what they are asked."""
    from mtpcli.session import PairPaths

    with bench_synthetic.made_up_pair(shape, acceptances, quant, remove) as pair:
        yield [
            (PairPaths(pair.target, drafter), bench_synthetic.workloads(pair, share, own))
            for share, drafter in pair.drafters.items()
        ]


def _depths(text: str) -> list[str]:
    from mtpcli.config import MAX_DRAFT_DEPTH
    from mtpcli.errors import UsageError

    names = [part.strip() for part in text.split(",") if part.strip()]
    if not all(name.isdecimal() and 0 < int(name) <= MAX_DRAFT_DEPTH for name in names):
        raise UsageError(f"--depths must be numbers from 1 to {MAX_DRAFT_DEPTH}, as in 1,3,7")
    return list(dict.fromkeys(str(int(name)) for name in names))


def _own_prompts() -> Path:
    from mtpcli.demo.pack import SNAPSHOTS

    return SNAPSHOTS / "heldout.json"


def _say(message: str) -> None:
    from mtpcli.cli.output import note

    note(message)


def _row(result: Result, plain: Result) -> dict[str, Any]:
    """A result as plain numbers, for JSON and for tables."""
    from mtpcli.bench import depth_counts

    rounds = result.stats.rounds or 1
    spent = result.timings

    def per_round(seconds: float) -> float:
        return round(seconds * 1e3 / rounds, 3)

    return {
        "workload": result.workload,
        "mode": result.mode,
        "tokens_per_second": round(result.speed, 1),
        "slowest": round(min(result.speeds), 1),
        "fastest": round(max(result.speeds), 1),
        "speedup": round(result.speedup(plain), 3),
        "acceptance_by_position": [
            round(share, 3) for share in result.stats.acceptance_by_position
        ],
        "tokens_per_round": round(result.stats.tokens_per_round or 0.0, 2),
        "depths": depth_counts(result.stats),
        "draft_ms": per_round(spent.draft),
        "verify_ms": per_round(spent.verify),
        "rest_ms": per_round(spent.rest),
        "rest_share": round(spent.rest / spent.decode, 4) if spent.decode else 0.0,
        "equal": result.equal,
    }


def _heads(heads: Heads) -> dict[str, float]:
    """Milliseconds of a draft step, and megabytes."""
    return {
        "ordered_ms": round(heads.ordered * 1e3, 3),
        "dense_ms": round(heads.dense * 1e3, 3),
        "ratio": round(heads.ratio, 3),
        "ordered_numpy_ms": round(heads.numpy * 1e3, 3),
        "ordered_mb": round(heads.memory / 1e6, 1),
    }


def _about_heads(heads: dict[str, float]) -> str:
    return (
        f"\nA draft step takes {heads['ordered_ms']:.2f} ms with the ordered head "
        f"({heads['ordered_numpy_ms']:.2f} of it in NumPy, {heads['ordered_mb']:.3g} MB) "
        f"and {heads['dense_ms']:.2f} ms with the dense one: ratio {heads['ratio']:.2f}."
    )


def _cells(row: dict[str, Any]) -> list[str]:
    """A row as text, in the order of the headings."""
    total = sum(row["depths"].values()) or 1
    shares = {depth: count / total for depth, count in row["depths"].items()}
    common = sorted(shares, key=lambda depth: -shares[depth])[:3]
    return [
        row["workload"],
        row["mode"],
        f"{row['tokens_per_second']:.0f}",
        f"{row['slowest']:.0f}-{row['fastest']:.0f}",
        f"{row['speedup']:.2f}x",
        "█" * max(1, round(row["speedup"] * _BAR / 3)),
        " ".join(f"{share:.2f}" for share in row["acceptance_by_position"][:7]),
        f"{row['tokens_per_round']:.2f}",
        " ".join(f"{depth}:{shares[depth]:.0%}" for depth in sorted(common)),
        f"{row['draft_ms']:.2f}",
        f"{row['verify_ms']:.2f}",
        f"{row['rest_ms']:.2f} {row['rest_share']:.0%}",
        "equal" if row["equal"] else "DIFFERS",
    ]


def _print_table(rows: list[dict[str, Any]], heading: str) -> None:
    from mtpcli.cli.output import console

    cells = [_cells(row) for row in rows]
    with console() as screen:
        boundless = screen.options.update(max_width=10_000)
        for count in range(len(_DISPENSABLE) + 1):
            table = _table(cells, heading, _DISPENSABLE[:count])
            if screen.measure(table, options=boundless).maximum <= screen.width:
                break
        screen.print(table)
        if count:
            screen.print("Some columns do not fit in here: --json and --markdown show all.")


def _table(cells: list[list[str]], heading: str, without: Sequence[int]) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from mtpcli.sanitize import visible

    table = Table(box=box.SIMPLE_HEAD, title=Text(visible(heading)))
    columns = [number for number in range(len(_HEADINGS)) if number not in without]
    for number in columns:
        table.add_column(
            _HEADINGS[number],
            justify="right" if 1 < number < 5 or 8 < number < 12 else "left",
            max_width=len(_HEADINGS[number]) if without and number == _ACCEPTED else None,
        )
    for row in cells:
        table.add_row(*(Text(visible(row[number])) for number in columns))
    return table


def _print_markdown(rows: list[dict[str, Any]]) -> None:
    from mtpcli.sanitize import visible

    def line(cells: list[str]) -> str:
        return "| " + " | ".join(visible(cell).replace("|", r"\|") for cell in cells) + " |"

    keep = [number for number, name in enumerate(_HEADINGS) if name]
    typer.echo(line([_HEADINGS[number] for number in keep]))
    typer.echo("|" + "---|" * len(keep))
    for row in rows:
        cells = _cells(row)
        typer.echo(line([cells[number] for number in keep]))
