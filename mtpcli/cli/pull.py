"""`mtpcli pull`: fetch a model and its drafter by name, ready to use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from mtpcli.cli.output import note


def pull(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME",
            help="e2b, e4b, 12b, 26b-a4b, 31b; OWNER/NAME on Hugging Face, with :QUANT for one"
            " of several; or kaggle:OWNER/MODEL/FRAMEWORK/VARIATION.",
        ),
    ],
    outtype: Annotated[
        str,
        typer.Option(
            "--outtype",
            "--quant",
            metavar="TYPE",
            help="Type to convert a checkpoint to, as in `mtpcli convert`; NAME:TYPE is the same.",
        ),
    ] = "q8_0",
    drafter: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Where its drafter is, if not in the usual place."),
    ] = None,
    drafter_outtype: Annotated[
        str, typer.Option(metavar="TYPE", help="Type to convert its drafter to.")
    ] = "q8_0",
    no_drafter: Annotated[
        bool, typer.Option("--no-drafter", help="Only the model itself.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option(help="Branch, tag or commit; the newest otherwise.")
    ] = None,
    keep: Annotated[
        bool, typer.Option("--keep", help="Keep the checkpoints after converting them.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Convert again what is here already.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Fetch a model and its drafter, and make them ready under a name.

    Checkpoints are converted to GGUF; GGUF files are taken as they are, the drafter among them.
    Checksums are verified. What was interrupted goes on when the command is run again.

    Prints the name that -m takes. MTPCLI_MODELS names the folder where models are kept.

    Examples:

        mtpcli pull e2b
        mtpcli pull google/gemma-4-12B-it --quant Q4_K_M
        mtpcli pull unsloth/gemma-4-12B-it-qat-GGUF:Q4_K_XL
        mtpcli generate -m e2b "Why is the sky blue?"
    """
    from mtpcli.cli.output import print_json
    from mtpcli.hub.pull import Pull, Wish
    from mtpcli.hub.remote import Hub
    from mtpcli.presets import known_type
    from mtpcli.sanitize import visible

    outtype = known_type("--outtype", outtype)
    drafter_outtype = known_type("--drafter-outtype", drafter_outtype)
    wish = Wish(outtype, drafter_outtype, drafter, no_drafter, keep, force, revision)
    try:
        with progress_bars() as progress:
            pulled = Pull(Hub(note), note, progress).run(name, wish)
    except KeyboardInterrupt:
        note("interrupted: the same command goes on from here")
        raise
    if as_json:
        print_json({**pulled.as_json(), "folder": str(pulled.folder)})
    else:
        print(visible(str(pulled.reference)))


@contextmanager
def progress_bars() -> Iterator[Callable[[str, int, int], None]]:
    """A bar on standard error per kind of work; nothing where nobody watches."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, total=total)
            bars.update(tasks[what], completed=done, total=total)

        yield show
