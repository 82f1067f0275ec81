"""`mtpcli list` and `mtpcli remove`: the models that were pulled."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from mtpcli.cli.output import note
from mtpcli.units import bytes_text


def list_models(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show the models that were pulled.

    Prints a line each: name, size, drafter. Pulls that did not come to their end are named on
    standard error.

    Examples:

        mtpcli list
        mtpcli list --json | jq -r '.models[].name'
    """
    from mtpcli.cli.output import print_json
    from mtpcli.hub import store
    from mtpcli.sanitize import one_line

    found = store.models()
    unfinished = store.unfinished()
    if as_json:
        models = [
            {
                **pulled.as_json(),
                "folder": str(pulled.folder),
                "size": pulled.size,
                "problem": pulled.problem or None,
            }
            for pulled in found
        ]
        left = [{"name": str(reference), "size": size} for reference, size in unfinished]
        print_json({"models": models, "unfinished": left, "folder": str(store.models_folder())})
        return
    rows = [
        (
            one_line(str(pulled.reference)),
            bytes_text(pulled.size),
            one_line(pulled.problem or (f"with {pulled.drafter}" if pulled.drafter else "alone")),
        )
        for pulled in found
    ]
    width = max((len(name) for name, _, _ in rows), default=0)
    for name, size, what in rows:
        print(f"{name:{width}}  {size:>10}  {what}")
    for reference, bytes_there in unfinished:
        note(
            f"unfinished: {reference}, {bytes_text(bytes_there)} so far: "
            f"`mtpcli pull {reference}` goes on, `mtpcli remove {reference}` drops it"
        )
    if not found and not unfinished:
        note(f"no models in {store.models_folder()}: `mtpcli pull e2b` fetches one")


def remove(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As `mtpcli list` shows it.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a model that was pulled, or what an interrupted pull has left.

    Deletes only what pull made. Without a terminal to ask on it wants --yes.

    Examples:

        mtpcli remove e2b
        mtpcli remove unsloth/gemma-4-12B-it-qat-GGUF:Q4_K_XL --yes
    """
    from mtpcli.errors import UsageError
    from mtpcli.hub import names, store
    from mtpcli.sanitize import one_line

    reference = names.parse(name)
    if reference is None:
        raise UsageError(f"{name!r} is no name of a model: `mtpcli list` shows them")
    pulled = store.find(reference)
    left = [
        (model, size)
        for model, size in store.unfinished()
        if (model == pulled.reference if pulled else fits(reference, model))
    ]
    if pulled is None and not left:
        raise UsageError(f"no model {reference} was pulled: `mtpcli list` shows what was")
    if len(left) > 1:
        raise UsageError(f"{reference}: say which: {', '.join(str(model) for model, _ in left)}")
    what, size = (pulled.reference, pulled.size) if pulled else left[0]
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(f"--yes is needed to remove {what} without being asked")
        question = f"Delete {one_line(str(what))}, {bytes_text(size)}? [y/N] "
        print(question, end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            note("nothing deleted")
            return
    freed = 0
    if pulled:
        freed, foreign = store.remove(pulled)
        for path in foreign[:5]:
            note(f"{path} is not from a pull: left alone")
    for model, _ in left:
        freed += store.remove_unfinished(model)
    note(f"deleted {what}: {bytes_text(freed)} freed")


def fits(asked: Any, model: Any) -> bool:
    """Whether a model is one that a name means."""
    from mtpcli.hub.names import same_tag

    same = bool(asked.repository.lower() == model.repository.lower())
    return same and (not asked.tag or same_tag(asked.tag, model.tag))
