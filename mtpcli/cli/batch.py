"""`mtpcli batch`: a night's work that survives the night."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mtpcli.cli import options

if TYPE_CHECKING:
    from mtpcli.batch.rows import Row
    from mtpcli.batch.run import Preparer, Run, Totals
    from mtpcli.batch.settings import BatchOptions
    from mtpcli.batch.shapes import Shape
    from mtpcli.batch.sinks import Sink
    from mtpcli.batch.source import Source
    from mtpcli.batch.stop import Stop
    from mtpcli.config import DraftConfig, RuntimeConfig
    from mtpcli.session import PairPaths, Session

_INPUT, _OUTPUT = "Input", "Output"
_SHOWN_FAILURES = 10


def batch(
    inputs: Annotated[
        list[str],
        typer.Argument(
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
        int, typer.Option("--parallel", "-p", min=1, max=64, help="Rows generated at once.")
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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check all rows and count tokens, generate nothing.")
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Nothing on standard error but errors.")
    ] = False,
    json_summary: Annotated[
        Path | None,
        typer.Option(help="Write the summary to this file.", rich_help_panel=_OUTPUT),
    ] = None,
    system: options.System = None,
    thinking: options.Thinking = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="No chat template: continue each text as it is.")
    ] = False,
    max_tokens: options.MaxTokens = None,
    stop: Annotated[
        list[str] | None, typer.Option(help="End answers before this text. Repeatable.")
    ] = None,
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
    threads: options.Threads = 0,
    drafter: options.Drafter = None,
    no_draft: options.NoDraft = False,
    draft_depth: options.DraftDepth = options.DEPTH,
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
    the interruption. Exit code: 0 if every row has an answer, 4 if some
    failed, 130 if it was interrupted.

    Examples:

        mtpcli batch prompts.jsonl -o answers.jsonl
        mtpcli batch people.csv --template "Greet {name}." -o greetings.jsonl
        mtpcli batch notes/ --template "Summarise: {text}" -o summaries/
        mtpcli batch - < prompts.jsonl | jq -r .response.text
        mtpcli batch prompts.jsonl --dry-run
    """
    from mtpcli.batch.settings import BatchOptions
    from mtpcli.config import DraftConfig, RuntimeConfig
    from mtpcli.errors import UsageError
    from mtpcli.session import choose_pair

    if raw and (system or thinking):
        raise UsageError("--raw has no chat template for --system or --thinking")
    if json_schema and grammar:
        raise UsageError("--json-schema and --grammar exclude each other")
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
    )
    paths = choose_pair(model, drafter, draft=not no_draft and not dry_run)
    if not quiet:
        options.say_which_model(paths)
    runtime = RuntimeConfig(ctx, 1 if dry_run else parallel, threads)
    raise typer.Exit(_Batch(given, paths, DraftConfig(draft_depth), runtime).run())


class _Batch:
    """Puts the parts of one run together."""

    def __init__(
        self, given: BatchOptions, paths: PairPaths, draft: DraftConfig, runtime: RuntimeConfig
    ) -> None:
        self._given, self._paths, self._draft, self._runtime = given, paths, draft, runtime
        self._failures = 0
        self._told = False

    def run(self) -> int:
        """Do it all; the exit code."""
        from mtpcli.batch.rows import Template
        from mtpcli.batch.settings import settings
        from mtpcli.batch.shapes import choose_shape
        from mtpcli.batch.sinks import open_sink, spool_folder
        from mtpcli.batch.source import open_source

        given = self._given
        template = None if given.template is None else Template(given.template)
        spool = None if given.dry_run else spool_folder(given.output)
        source = open_source(given.inputs, given.format, spool)
        shape = choose_shape(source.kind, source.columns, template, self._paths.target.name)
        with ExitStack() as stack:
            sink = None
            rows = None
            if not given.dry_run:
                measure = source.measure()
                rows = measure.rows if measure else None
                digest = measure.digest if measure else None
                depends = settings(
                    given, source.kind, digest, self._paths, self._draft, self._runtime
                )
                sink = open_sink(given, source, depends)
                stack.callback(sink.close)
            session = stack.enter_context(self._session())
            preparer = self._preparer(session, shape)
            if sink is None:
                return self._survey(preparer, source)
            return self._generate(session, preparer, shape, sink, source, rows)

    def _session(self) -> Session:
        from mtpcli.session import Session

        return Session(self._paths, self._draft, self._runtime)

    def _preparer(self, session: Session, shape: Shape) -> Preparer:
        from mtpcli.batch.run import Defaults, Preparer

        given = self._given
        sampling = options.sampling(
            session.sampling,
            seed=given.seed,
            temperature=given.temperature,
            top_k=given.top_k,
            **given.sampling,
        )
        if given.grammar is not None:
            session.constraint(given.grammar)  # a mistake in it is not the rows'
        if not given.raw:
            # A model without a chat template fails here, instead of once per row.
            session.chat_tokens([{"role": "user", "content": "?"}])
        return Preparer(
            session,
            shape,
            Defaults(
                sampling,
                given.system,
                given.thinking,
                given.raw,
                given.max_tokens,
                given.stop,
                given.grammar,
            ),
        )

    def _generate(
        self,
        session: Session,
        preparer: Preparer,
        shape: Shape,
        sink: Sink,
        source: Source,
        rows: int | None,
    ) -> int:
        from mtpcli.batch.run import Run
        from mtpcli.batch.stop import Stop
        from mtpcli.cli.batch_progress import BatchProgress

        given = self._given
        if len(sink.done) and not given.quiet:
            _say(f"going on: {len(sink.done)} rows are finished already")
        shown = not given.quiet and sys.stderr.isatty()
        with Stop() as stop:
            run = Run(
                preparer,
                shape,
                sink,
                stop,
                fail_fast=given.fail_fast,
                on_failure=self._on_failure,
            )
            run.totals.rows = rows
            bar = BatchProgress(run.totals, session.drafter_name, shown=shown)

            def progress(totals: Totals) -> None:
                if stop.signal and not self._told:
                    self._told = True
                    _say("rows under way have a few seconds; a second signal ends at once")
                bar.update(totals)

            with _telling_what_is_kept(sink), bar:
                run.run(session.engine, source.rows(), progress)
                if run.complete:
                    sink.finish()
        return self._report(run, sink, stop, session.drafter_name)

    def _report(self, run: Run, sink: Sink, stop: Stop, drafter: str | None) -> int:
        from mtpcli.batch.sinks import write_json
        from mtpcli.cli.batch_progress import summary, summary_line

        given = self._given
        if given.json_summary:
            figures = summary(run.totals, sink.failed, drafter)
            figures |= {
                "complete": run.complete,
                "output": given.output,
                "model": str(self._paths.target),
            }
            write_json(given.json_summary, figures)
        if not given.quiet:
            _say(summary_line(run.totals, sink.failed, drafter))
        if run.complete:
            return 4 if sink.failed else 0
        why = f"stopped at {run.stopped_by}" if run.stopped_by else "interrupted"
        _say(f"{why}; {_kept(sink)}")
        return 130 if stop.signal else 4

    def _survey(self, preparer: Preparer, source: Source) -> int:
        from mtpcli.batch.run import survey
        from mtpcli.batch.sinks import write_json
        from mtpcli.batch.stop import Stop
        from mtpcli.cli.batch_progress import SurveyProgress

        given = self._given
        shown = not given.quiet and sys.stderr.isatty()
        with Stop() as stop, SurveyProgress(shown=shown) as progress:
            found = survey(preparer, source.rows(), stop, self._on_failure, progress.update)
        if given.json_summary:
            write_json(
                given.json_summary,
                {
                    "dry_run": True,
                    "rows": found.rows,
                    "failed": found.failed,
                    "prompt_tokens": found.prompt_tokens,
                    "longest_prompt": found.longest,
                    "complete": stop.signal is None,
                    "model": str(self._paths.target),
                },
            )
        if not given.quiet:
            _say(
                f"{found.rows} rows, {found.failed} of them would fail; {found.prompt_tokens} "
                f"tokens of prompts, the longest has {found.longest}"
            )
        if stop.signal:
            return 130
        return 4 if found.failed else 0

    def _on_failure(self, row: Row, message: str) -> None:
        self._failures += 1
        if self._given.quiet or self._failures > _SHOWN_FAILURES:
            return
        _say(f"{row.place}: {message}")
        if self._failures == _SHOWN_FAILURES:
            _say("more failures are not shown")


@contextmanager
def _telling_what_is_kept(sink: Sink) -> Iterator[None]:
    """Say it with whatever ends the run early."""
    from mtpcli.batch.journal import OutputError

    try:
        yield
    except KeyboardInterrupt:  # the second signal
        _say(f"interrupted; {_kept(sink)}")
        raise
    except OutputError as error:
        if sink.journal is None:
            raise
        raise OutputError(
            f"{error}; {len(sink.done)} finished rows are kept in {sink.journal}: make room, and "
            "run the same command again"
        ) from None


def _kept(sink: Sink) -> str:
    if sink.journal is None or not len(sink.done):
        return "nothing is kept"
    return (
        f"{len(sink.done)} finished rows are kept in {sink.journal}: run the same command again "
        "(without --restart) to go on"
    )


def _say(message: str) -> None:
    """A note; work goes on when nobody can read it any more."""
    from mtpcli.cli import output

    with suppress(OSError):
        output.note(message)
