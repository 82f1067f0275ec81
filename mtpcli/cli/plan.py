"""`mtpcli plan`: what a model will do on this machine, before it is downloaded."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from mtpcli.cli import options

if TYPE_CHECKING:
    from mtpcli.plan.report import Report, Speed


def plan(
    name: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="E2B, E4B, 12B, 26B-A4B or 31B; a repository such as google/gemma-4-E2B-it; a"
            " checkpoint's folder; a GGUF file, or a pulled model's name.",
        ),
    ],
    quant: Annotated[
        str | None,
        typer.Option(
            metavar="TYPE",
            help="Type of its matrices, as in `mtpcli convert`. Default: Q4_0; a file's own.",
        ),
    ] = None,
    ctx: options.Context = 0,
    threads: options.Threads = 0,
    acceptance: Annotated[
        list[float] | None,
        typer.Option(
            min=0.0,
            max=1.0,
            help="Share of right drafts to tell the speed at; again for more;"
            " 0.5, 0.7, 0.9 if none.",
        ),
    ] = None,
    no_measure: Annotated[
        bool, typer.Option("--no-measure", help="Only memory and disk: an answer at once.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Tell what a model will do here: whether it fits, its speed with and without MTP, what to do.

    A few layers of its real shape are made of random weights, timed, and added up.
    That takes about a minute, and some GB of disk and memory. Nothing is downloaded.

    Examples:

        mtpcli plan E2B

        mtpcli plan google/gemma-4-31B-it --quant Q4_K_M --ctx 32768

        mtpcli plan models/gemma-4-E4B-it-Q8_0.gguf --json
    """
    from mtpcli.cli.output import print_json
    from mtpcli.plan import ACCEPTANCES
    from mtpcli.plan import plan as make

    with _progress_bar() as progress:
        report = make(
            name,
            quant,
            n_ctx=ctx,
            threads=threads,
            acceptances=acceptance or ACCEPTANCES,
            measured=not no_measure,
            progress=progress,
        )
    if as_json:
        print_json(report.as_json())
    else:
        _print(report)


@contextmanager
def _progress_bar() -> Iterator[Callable[[str, float], None] | None]:
    """A bar on standard error; nothing where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("looking", total=1.0)
        yield lambda what, share: bar.update(task, description=what, completed=share)


def _print(report: Report) -> None:
    from rich.table import Table
    from rich.text import Text

    from mtpcli.cli.output import console
    from mtpcli.sanitize import one_line

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for label, text in _rows(report):
        table.add_row(label, Text(one_line(text)))  # a file's name may hold markup
    with console() as screen:
        screen.print(table)
        screen.print()
        for sentence in report.advice:
            screen.print(Text(one_line(sentence)))
        screen.print(Text(f"\nNext: {one_line(report.next_command)}"))


def _rows(report: Report) -> Iterator[tuple[str, str]]:
    from mtpcli.units import bytes_text, count_text

    memory, disk = report.memory, report.disk
    yield (
        "model",
        f"{report.name}, {report.quant}, {count_text(report.parameters)} parameters",
    )
    parts = {
        "weights": memory.weights,
        f"keys and values of {report.n_ctx} tokens": memory.kv,
        "drafter": memory.drafter,
        "computing": memory.compute,
        "program": memory.program,
    }
    sizes = " + ".join(f"{what} {bytes_text(size)}" for what, size in parts.items() if size)
    yield "memory", f"{bytes_text(memory.total)} = {sizes}"
    need = f"files {bytes_text(disk.files)}"
    if disk.checkpoint:
        need = f"download {bytes_text(disk.checkpoint)}, {need}"
    yield "disk", f"{need}, free {bytes_text(disk.free)}"
    if report.speed:
        yield from _speed_rows(report.speed, report.threads)


def _speed_rows(speed: Speed, threads: int) -> Iterator[tuple[str, str]]:
    from mtpcli.units import bytes_text

    yield "prompt", f"{speed.prompt:.1f} tokens/s"
    yield "plain decoding", f"{speed.plain:.1f} tokens/s"
    for rate in speed.rates:
        depth = f"depth {rate.depth}" if rate.depth else "no drafts"
        yield (
            f"MTP, {rate.acceptance:.0%} accepted",
            f"{rate.tokens_per_second:.1f} tokens/s, {rate.speedup:.2f}x, {depth}",
        )
    verify = {rows: speed.verify_ms[rows] for rows in (1, 2, 4, 8, 16) if rows in speed.verify_ms}
    times = ", ".join(f"{rows}: {ms:.1f}" for rows, ms in verify.items())
    yield "verify, ms by rows", times
    if speed.rates:
        yield "draft step", f"{speed.draft_ms:.2f} ms"
    yield (
        "estimated from",
        f"{speed.layers} layers of random weights, {bytes_text(speed.sample_bytes)}, "
        f"{threads} threads, in {speed.seconds:.0f} s",
    )
