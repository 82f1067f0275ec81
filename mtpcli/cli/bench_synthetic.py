"""`mtpcli bench --synthetic`: the options, and the made-up pairs they mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mtpcli.bench import Workload
    from mtpcli.synthetic import MadeUpPair

_PANEL = "Made-up weights"
_REPEATED = 160  # tokens of an answer that its prompt holds already

Shape = Annotated[
    str | None,
    typer.Option(
        "--synthetic",
        metavar="e2b|e4b|12b|26b-a4b|31b",
        help="In place of a model, a full-size pair of random weights, made in the cache.",
        rich_help_panel=_PANEL,
    ),
]
Acceptance = Annotated[
    list[float] | None,
    typer.Option(
        min=0.0,
        max=1.0,
        help="Share of its drafted tokens that are right; again for another pair. Default: 0.8.",
        rich_help_panel=_PANEL,
    ),
]
Quant = Annotated[
    str | None,
    typer.Option(metavar="TYPE", help="Its target's type. Default: q4_0.", rich_help_panel=_PANEL),
]
Remove = Annotated[
    bool, typer.Option("--remove", help="Delete the files afterwards.", rich_help_panel=_PANEL)
]

_OWN = {
    "acceptance": "a model's own is measured",
    "quant": "a model has the type it has",
    "remove": "other files stay",
}


def check_options(context: typer.Context, *, made_up: bool) -> None:
    """See that what was asked for goes together; what the config file sets may lie idle.

    Raises:
        UsageError: options of made-up weights with a model, or without --synthetic.
    """
    from mtpcli.errors import UsageError

    def given(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is not None and source.name == "COMMANDLINE"

    for name in ("model", "drafter"):
        if made_up and given(name):
            raise UsageError(f"--{name} and --synthetic exclude each other: choose one")
    for name, why in _OWN.items():
        if not made_up and given(name):
            raise UsageError(f"--{name} goes with --synthetic: {why}")


@contextmanager
def made_up_pair(
    shape: str, acceptances: Sequence[float], quant: str, remove: bool
) -> Iterator[MadeUpPair]:
    """The files, built if they are not there, with a word about what they are."""
    from mtpcli.cli.convert import progress_bar
    from mtpcli.cli.output import note
    from mtpcli.synthetic import made_up_pair as build

    with progress_bar("building") as progress:
        pair = build(shape, acceptances, quant.lower(), progress=progress)
    size = f"{pair.size / 1e9:.1f} GB in {pair.target.parent}"
    note(f"the weights are made up: the speeds are real, the text is not ({size})")
    try:
        yield pair
    finally:
        if remove:
            pair.remove()


def workloads(
    pair: MadeUpPair, acceptance: float, own: Sequence[Workload] | None
) -> list[Workload]:
    """What a made-up pair is asked: the user's prompts, or letters and a text it has just read.

    Its answer depends on the last character only, so that each letter gets one of its own.
    """
    from mtpcli.bench import Workload
    from mtpcli.synthetic import answer_tokens, letter_tokens

    name = f"made up, acceptance {acceptance:.2f}"
    if own is not None:
        return [replace(workload, name=f"{workload.name} ({name})") for workload in own]
    letters = "abcdefghijklmnopqrstuvwxyz"
    found = [Workload(name, [f"Prompt {letter}" for letter in letters])]
    if acceptance == max(pair.drafters):
        # Words of a prompt would fall apart into characters: they are given as tokens.
        size = pair.shape.vocabulary
        prompts = [
            (*answer_tokens(size, letter, _REPEATED), *letter_tokens(letter))
            for letter in letters[:4]
        ]
        found.append(Workload(f"made up, repeated text, acceptance {acceptance:.2f}", prompts))
    return found
