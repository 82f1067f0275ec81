"""`mtpcli verify`: is the text with the drafter the text without it, here and with these files?"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtpcli.cli import options
from mtpcli.cli.runtime import RUNTIME, with_runtime
from mtpcli.config import RuntimeConfig

if TYPE_CHECKING:
    from mtpcli.decode.exact import RowReport
    from mtpcli.proof import Texts

TEXTS_DIFFER = 5


@with_runtime
def verify(
    model: Annotated[
        Path | None,
        typer.Argument(
            metavar="TARGET",
            parser=options.path,
            help="Target GGUF file. Without it: $MTPCLI_MODEL, else the embedded demo pair.",
            envvar="MTPCLI_MODEL",
            show_envvar=False,
        ),
    ] = None,
    drafter: Annotated[
        Path | None,
        typer.Argument(
            metavar="DRAFTER",
            parser=options.path,
            callback=options.drafter_of_config,
            help="Drafter GGUF file. Without it: the one that fits.",
        ),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            parser=options.path, help="JSON with lists of prompts, or text with one per line."
        ),
    ] = None,
    count: Annotated[
        int, typer.Option("--count", min=1, help="How many prompts, of those that there are.")
    ] = 12,
    max_tokens: Annotated[
        int, typer.Option("--max-tokens", "-n", min=1, help="Tokens of each answer.")
    ] = 96,
    seeds: Annotated[
        int, typer.Option(min=0, help="Sampled texts of each prompt, beside the greedy one.")
    ] = 2,
    exact: options.Exact = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    ctx: options.Context = 2048,
    runtime: RuntimeConfig = RUNTIME,
) -> None:
    """Prove it: compare logits bit by bit, then texts with and without the drafter.

    First the same tokens are decoded one by one and 2 to 16 at once, at several places of the
    context. Then every prompt is answered without drafts and with drafts of 1 to 15 tokens.
    Exit code: 0 if every text is equal, 5 if one differs.

    Examples:

        mtpcli verify gemma-4-E2B-it-Q8_0.gguf

        mtpcli verify gemma-4-E2B-it-Q4_K_M.gguf --exact --prompts mine.txt --seeds 5
    """
    from mtpcli.bench import load_prompts
    from mtpcli.cli import output
    from mtpcli.config import DraftConfig
    from mtpcli.errors import ModelError
    from mtpcli.proof import compare_texts, held_out_prompts
    from mtpcli.session import Session, choose_pair

    if prompts:
        lists = [load.prompts for load in load_prompts(prompts)]
        texts = [text for each in lists for text in each if isinstance(text, str)][:count]
    else:
        texts = held_out_prompts(count)
    paths = choose_pair(model, drafter, draft=True)
    options.say_which_model(paths)
    if not paths.drafter:
        raise ModelError(
            f"no drafter that fits lies beside {paths.target}: name it after the target"
        )
    progress = options.progress()
    draft = DraftConfig(1, exact=exact)
    with Session(paths, draft, replace(runtime, n_ctx=ctx), progress) as session:
        rows = session.rows or session.compare_rows(progress)
        found = compare_texts(
            session, texts, [None, *range(seeds)], max_tokens=max_tokens, progress=progress
        )
        used = session.threads
    differ = sum(len(each.first_differences) for each in found)
    verdict = _verdict(rows, found, exact=exact)
    if as_json:
        record = _record(rows, found)
        head = {"model": str(paths.target), "drafter": str(paths.drafter), "threads": used}
        output.print_json(
            {**head, "exact": exact, **record, "lossless": not differ, "verdict": verdict}
        )
    else:
        _print_tables(rows, found, f"{paths.target.name}, {used} threads, context {ctx}")
        typer.echo(verdict)
    if differ:
        raise typer.Exit(TEXTS_DIFFER)


def _verdict(rows: RowReport, found: list[Texts], *, exact: bool) -> str:
    """One line: are the texts equal, and what follows from it."""
    texts, equal = sum(each.texts for each in found), sum(each.equal for each in found)
    exact_rows = rows.exact_rows()
    if equal < texts:
        remedy = (
            "this is a bug in mtpcli: please report it"
            if exact
            else f"--exact keeps to {options.row_counts(exact_rows)} and makes them equal"
        )
        return f"DIFFERENT: {texts - equal} of {texts} texts differ with the drafter; {remedy}"
    verdict = f"LOSSLESS: {texts} of {texts} texts are equal with and without the drafter"
    if exact:
        return f"{verdict} (--exact: {options.row_counts(exact_rows)})"
    if rows.identical(max(rows.difference)) and len(rows.classes) == 1:
        return f"{verdict}, and all row counts give the same bits"
    return f"{verdict}; row counts differ in their last bits, only --exact keeps near-ties apart"


def _record(rows: RowReport, found: list[Texts]) -> dict[str, Any]:
    """The findings as plain values."""
    return {
        "places": list(rows.places),
        "rows": [
            {"rows": count, "identical": rows.identical(count), "largest_difference": value}
            for count, value in rows.difference.items()
            if count > 1
        ],
        "same_bits": [list(each) for each in rows.classes],
        "exact_rows": list(rows.exact_rows()),
        "texts": [
            {
                "seed": each.seed,
                "greedy": each.seed is None,
                "texts": each.texts,
                "equal": each.equal,
                "tokens": each.tokens,
                "drafted": each.drafted,
                "accepted": each.accepted,
                "first_differences": [
                    {"prompt": prompt, "token": token}
                    for prompt, token in each.first_differences.items()
                ],
            }
            for each in found
        ],
    }


def _print_tables(rows: RowReport, found: list[Texts], heading: str) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from mtpcli.cli.output import console
    from mtpcli.sanitize import visible

    table = Table(box=box.SIMPLE_HEAD, title=Text(visible(heading)))
    for name in ("rows at once", "same bits as one by one", "largest difference of a logit"):
        table.add_column(name)
    for same, counts in _runs(rows):
        largest = max(rows.difference[count] for count in counts)
        yes = "yes" if same else "no"
        none = "0" if same else "0 here, but not always"
        table.add_row(_range(counts), yes, f"{largest:.2g}" if largest else none)
    texts = Table(box=box.SIMPLE_HEAD)
    for name in ("sampling", "texts", "equal", "tokens", "drafted", "accepted", "first difference"):
        texts.add_column(name)
    for each in found:
        places = [f"prompt {prompt}: {at}" for prompt, at in each.first_differences.items()]
        shown = ", ".join(places[:3]) + (", ..." if len(places) > 3 else "")
        name = "greedy" if each.seed is None else f"seed {each.seed}"
        numbers = (each.texts, each.equal, each.tokens, each.drafted, each.accepted)
        texts.add_row(name, *map(str, numbers), shown)
    with console() as screen:
        screen.print(table)
        screen.print(texts)


def _runs(rows: RowReport) -> list[tuple[bool, list[int]]]:
    """Neighbouring row counts of the same finding."""
    runs: list[tuple[bool, list[int]]] = []
    for count in sorted(rows.difference)[1:]:
        same = rows.identical(count)
        if runs and runs[-1][0] == same:
            runs[-1][1].append(count)
        else:
            runs.append((same, [count]))
    return runs


def _range(counts: list[int]) -> str:
    return f"{counts[0]}..{counts[-1]}" if len(counts) > 1 else str(counts[0])
