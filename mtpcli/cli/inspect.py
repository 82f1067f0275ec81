"""`mtpcli inspect`: what GGUF files hold, and whether two of them belong together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtpcli.cli import options
from mtpcli.units import bytes_text, count_text

if TYPE_CHECKING:
    from rich.table import Table

# Characters of a property's name, and those that a file's values want at least.
_LABEL, _COLUMN = 15, 20


def inspect_files(
    files: Annotated[
        list[Path],
        typer.Argument(
            parser=options.path,
            help="GGUF files, or models by name. Given two, also whether they are a pair.",
        ),
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object instead of a table.")
    ] = False,
) -> None:
    """Show what GGUF files hold, and whether a target and a drafter fit each other.

    A target named alone is checked with the drafter beside it.
    Two files that do not fit end with exit code 3.

    Examples:

        mtpcli inspect models/gemma-4-E4B-it-Q8_0.gguf
        mtpcli inspect target.gguf drafter.gguf --json | jq .pair
    """
    from mtpcli.cli.output import print_json
    from mtpcli.errors import ModelError
    from mtpcli.hub.store import local_file
    from mtpcli.llama.gguf import read_metadata
    from mtpcli.summary import summarize, summarize_pair

    headers = [read_metadata(local_file(path)) for path in files]
    summaries = [summarize(header) for header in headers]
    pair = summarize_pair(headers)
    misfit = pair["problem"] if pair and len(files) == 2 else None
    if as_json:
        print_json({"files": summaries, "pair": pair})
    else:
        _print_table(summaries, None if misfit else pair)
    if misfit:
        raise ModelError(misfit)


def _print_table(summaries: list[dict[str, Any]], pair: dict[str, Any] | None) -> None:
    from rich.text import Text

    from mtpcli.cli.output import console
    from mtpcli.sanitize import visible

    with console() as screen:
        beside = max(1, (screen.width - _LABEL) // _COLUMN)
        for start in range(0, len(summaries), beside):
            if start:
                screen.print()
            screen.print(_table(summaries[start : start + beside]))
        if pair and pair["fits"]:
            fit = f"{Path(pair['drafter']).name} drafts for {Path(pair['target']).name}"
            screen.print(Text(f"\n{visible(fit)}", style="green"))
        elif pair:
            screen.print(Text(f"\n{visible(pair['problem'])}", style="red"))


def _table(summaries: list[dict[str, Any]]) -> Table:
    """One column per file, one row per property that any of them has."""
    from rich.table import Table
    from rich.text import Text

    from mtpcli.sanitize import one_line

    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    for _ in summaries:
        table.add_column(overflow="fold")
    columns = [_rows(summary) for summary in summaries]
    for label in columns[0]:
        cells = [column[label] for column in columns]
        if any(cells):
            # Text, because a name out of a file may hold markup.
            table.add_row(label, *(Text(one_line(cell or "-")) for cell in cells))
    return table


def _rows(summary: dict[str, Any]) -> dict[str, str]:
    """Label to text; empty for what the file does not say. The labels are always the same."""
    s = summary
    sliding, shared = s["sliding_layers"], s["shared_kv_layers"]
    sampling = {"temperature": "temperature", "top_k": "top-k", "top_p": "top-p"}
    head = s["ordered_head"]
    return {
        "file": s["path"],
        "kind": f"{s['kind']} ({s['architecture'] or 'no architecture'})",
        "usable": f"no: {s['problem']}" if s["problem"] else "yes",
        "name": s["name"] or "",
        "size": bytes_text(s["size_bytes"]),
        "parameters": count_text(s["parameters"]),
        "tensors": _join(
            _some(s["tensors"], "{}"),
            *(f"{kind['type']} {kind['share']:.1%}" for kind in s["tensor_types"]),
        ),
        "context": _some(s["context_length"], "{} tokens"),
        "vocabulary": _some(s["vocabulary"], "{} tokens"),
        "layers": _join(
            _some(s["layers"], "{}"),
            _some(sliding, "{} sliding"),
            _some(shared, "{} reuse keys and values"),
        ),
        "window": _some(s["sliding_window"], "{} tokens"),
        "hidden size": _join(
            _some(s["hidden_size"], "{}"),
            _some(s["per_layer_input_size"], "per layer {}"),
            _some(s["target_hidden_size"], "its target's {}"),
        ),
        "heads": _join(_some(s["heads"], "{}"), _some(s["kv_heads"], "key-value {}")),
        "head size": _join(
            _some(s["head_size"], "{}"), _some(s["sliding_head_size"], "sliding {}")
        ),
        "experts": _join(_some(s["experts"], "{}"), _some(s["experts_used"], "{} per token")),
        "sampling": _join(
            *(_some(s["sampling"][key], f"{name} {{}}") for key, name in sampling.items())
        ),
        "chat template": "yes" if s["chat_template"] else "no",
        "ordered head": (
            _join(_some(head["centroids"], "{} centroids"), _some(head["top_k"], "top {}"))
            if head
            else ("no" if s["kind"] == "drafter" else "")
        ),
    }


def _some(value: Any, pattern: str) -> str:
    """`pattern` with the value in it; empty for None and 0."""
    if isinstance(value, list):
        value = "/".join(map(str, dict.fromkeys(value)))
    return pattern.format(value) if value else ""


def _join(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
