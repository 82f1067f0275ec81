"""`mtpcli convert`: Hugging Face snapshots of a target and its drafter become GGUF files."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from mtpcli.cli import options
from mtpcli.cli.output import note
from mtpcli.errors import UsageError


def convert(
    target: Annotated[
        Path,
        typer.Argument(
            parser=options.path,
            metavar="TARGET_DIR",
            help="Snapshot of the model, as downloaded; or a drafter's GGUF file of the old"
            " architecture gemma4_assistant, to be rewritten.",
        ),
    ],
    out_dir: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            parser=options.path,
            metavar="OUT_DIR",
            help="Folder for the GGUF files.",
        ),
    ],
    drafter: Annotated[
        Path | None,
        typer.Option(
            "--drafter",
            parser=options.path,
            metavar="DRAFTER_DIR",
            help="Snapshot of its MTP drafter.",
        ),
    ] = None,
    outtype: Annotated[
        str,
        typer.Option(metavar="TYPE", help="Type of the matrices; auto keeps the snapshot's own."),
    ] = "auto",
    drafter_outtype: Annotated[
        str, typer.Option(metavar="TYPE", help="The same for the drafter.")
    ] = "q8_0",
    force: Annotated[bool, typer.Option("--force", help="Replace files that exist.")] = False,
) -> None:
    """Pack Hugging Face snapshots into GGUF files, without torch.

    Types: auto f32 f16 bf16 q8_0 q4_0 q4_1 q5_0 q5_1, or a preset of llama.cpp such as Q4_K_M.

    Prints the files written.

    Examples:

        mtpcli convert gemma-4-E4B-it --drafter gemma-4-E4B-it-assistant -o models
        mtpcli convert gemma-4-E4B-it -o models --outtype Q4_K_M --force
    """
    from convert import rewrite_drafter
    from mtpcli.presets import convert_pair, known_type

    outtype = known_type("--outtype", outtype)
    drafter_outtype = known_type("--drafter-outtype", drafter_outtype)
    if target.is_file() and (drafter is not None or outtype != "auto"):
        raise UsageError(f"{target}: an old drafter file is rewritten alone, and keeps its types")
    with _notes_from_converter(), progress_bar("convert") as progress:
        if target.is_file():
            paths = [rewrite_drafter(target, out_dir, force=force, progress=progress)]
        else:
            paths = convert_pair(
                target, drafter, out_dir, outtype, drafter_outtype, force=force, progress=progress
            )
    for path in paths:
        print(path)


@contextmanager
def _notes_from_converter() -> Iterator[None]:
    """Pass what the converter logs on to standard error."""

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            note(record.getMessage())

    logger, handler = logging.getLogger("convert"), Notes()
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """A bar on standard error while files are written; nothing where nobody watches."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = BarColumn(), DownloadColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
