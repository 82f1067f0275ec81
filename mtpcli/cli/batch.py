"""`mtpcli batch`: a night's work that survives the night."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from mtpcli.cli import options
from mtpcli.cli.runtime import RUNTIME, with_runtime
from mtpcli.config import RuntimeConfig

_INPUT, _OUTPUT, _CLUSTER = "Input", "Output", "Many machines"


@with_runtime
def batch(
    inputs: Annotated[
        list[str],
        typer.Argument(
            parser=options.name,
            metavar="INPUT...",
            help="JSONL or CSV file, `-` for JSONL on standard input, a folder or pattern of text "
            "files, or several of them.",
        ),
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            parser=options.name,
            help="JSONL file, or for text files a folder: an answer per file. It appears when it "
            "is complete. Without it: standard output, and nothing to resume.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    input_format: Annotated[
        Literal["jsonl", "openai", "csv", "text"] | None,
        typer.Option("--format", help="Default: by name and content.", rich_help_panel=_INPUT),
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(
            help="Prompt made of a row's fields: 'Translate: {column}'; {text} is a file's text.",
            rich_help_panel=_INPUT,
        ),
    ] = None,
    parallel: Annotated[
        int,
        typer.Option(
            "--parallel",
            "-p",
            min=1,
            max=64,
            help="Rows generated at once, by each worker; 1 with --exact.",
        ),
    ] = 4,
    as_finished: Annotated[
        bool,
        typer.Option(
            "--as-finished", help="Do not keep the input's order.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first row that fails.")
    ] = False,
    restart: Annotated[
        bool,
        typer.Option("--restart", help="Begin anew, whatever is there.", rich_help_panel=_OUTPUT),
    ] = False,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="local|auto|HOST:PORT",
            help="Generate on a Ray cluster: a new one on this machine, the one that it belongs "
            "to, or that by its head's address.",
            rich_help_panel=_CLUSTER,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=4096,
            help="Workers on the Ray cluster, each with the whole model. Default: one per machine.",
            rich_help_panel=_CLUSTER,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all rows and count tokens, generate nothing.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Nothing on standard error but errors.")
    ] = False,
    json_summary: Annotated[
        Path | None,
        typer.Option(
            parser=options.path,
            help="Write the summary to this file, in place of that of an earlier run.",
            rich_help_panel=_OUTPUT,
        ),
    ] = None,
    system: options.System = None,
    thinking: options.Thinking = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="No chat template: continue each text as it is.")
    ] = False,
    max_tokens: options.MaxTokens = None,
    stop: options.Stop = None,
    json_schema: options.JsonSchema = None,
    grammar: options.Grammar = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    repeat_penalty: options.RepeatPenalty = None,
    presence_penalty: options.PresencePenalty = None,
    frequency_penalty: options.FrequencyPenalty = None,
    seed: Annotated[
        int,
        typer.Option(
            min=0,
            max=2**64 - 1,
            help="Each row's own seed is made of this and its number.",
            rich_help_panel="Sampling",
        ),
    ] = 0,
    model: options.Model = None,
    ctx: options.Context = 0,
    drafter: options.Drafter = None,
    no_draft: options.NoDraft = False,
    draft_depth: options.DraftDepth = options.DEPTH,
    exact: options.Exact = False,
    runtime: RuntimeConfig = RUNTIME,
) -> None:
    """Answer many prompts, several at once, and survive whatever happens.

    A row of JSONL has a `prompt` (a text) or `messages`, and may have settings
    of its own: `max_tokens`, `seed`, `stop`, `schema` (a JSON Schema),
    `temperature`, `top_k`, `top_p`, `min_p`, `repeat_penalty`,
    `presence_penalty`, `frequency_penalty`. Its record is the row with a
    `response`, or with an `error`. Requests in OpenAI's batch format are
    answered in that format.

    Finished rows are kept in OUTPUT.part. After a crash, Ctrl-C or SIGTERM the
    same command goes on where it was, and the result is the same as without
    the interruption. What all prompts begin with, a long --system or the text
    of --template before its first field, is decoded once. Exit code: 0 if
    every row has an answer, 4 if some failed, 128 + N if signal N ended it (130
    for Ctrl-C).

    Examples:

        mtpcli batch prompts.jsonl -o answers.jsonl
        mtpcli batch people.csv --template "Greet {name}." -o greetings.jsonl
        mtpcli batch notes/ --template "Summarise: {text}" -o summaries/
        mtpcli batch - < prompts.jsonl | jq -r .response.text
        mtpcli batch prompts.jsonl --dry-run
        mtpcli batch prompts.jsonl -o answers.jsonl --ray auto --workers 8
    """
    from mtpcli.batch.settings import BatchOptions
    from mtpcli.cli.batch_run import BatchCommand
    from mtpcli.config import DraftConfig
    from mtpcli.errors import UsageError
    from mtpcli.session import choose_pair

    if raw and (system or thinking):
        raise UsageError("--raw has no chat template for --system or --thinking")
    if workers and not ray:
        raise UsageError("--workers are those of a Ray cluster: say --ray local, or which")
    if json_schema and grammar:
        raise UsageError("--json-schema and --grammar exclude each other")
    if exact:
        # Beside others a row would be decoded with other numbers of rows than alone.
        parallel = 1
    if (json_schema or grammar) and thinking:
        raise UsageError("--thinking leaves the form of --json-schema and --grammar: choose one")
    given = BatchOptions(
        inputs=inputs,
        output=None if output == "-" else output,
        format=input_format,
        template=template,
        as_finished=as_finished,
        restart=restart,
        fail_fast=fail_fast,
        dry_run=dry_run,
        quiet=quiet,
        json_summary=json_summary,
        system=system,
        thinking=thinking,
        raw=raw,
        max_tokens=max_tokens,
        stop=tuple(stop or ()),
        grammar=options.grammar_text(json_schema, grammar),
        temperature=temperature,
        top_k=top_k,
        sampling={
            "top_p": top_p,
            "min_p": min_p,
            "repetition": repeat_penalty,
            "presence": presence_penalty,
            "frequency": frequency_penalty,
        },
        seed=seed,
        parallel=parallel,
        ray=ray,
        workers=workers,
    )
    paths = choose_pair(model, drafter, draft=not no_draft and not dry_run)
    if not quiet:
        options.say_which_model(paths)
    runtime = replace(runtime, n_ctx=ctx, n_seq=1 if dry_run else parallel)
    raise typer.Exit(
        BatchCommand(
            given, paths, DraftConfig(draft_depth, exact=exact and not dry_run), runtime
        ).run()
    )
