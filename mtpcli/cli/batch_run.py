"""One `mtpcli batch`, from its options to its exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from mtpcli.cli import options
from mtpcli.decode.health import DrafterHealth

if TYPE_CHECKING:
    from mtpcli.batch.job import Job
    from mtpcli.batch.rows import Row
    from mtpcli.batch.run import Run, Totals
    from mtpcli.batch.settings import BatchOptions
    from mtpcli.batch.shapes import Shape
    from mtpcli.batch.sinks import Sink
    from mtpcli.batch.source import Source
    from mtpcli.batch.stop import Stop
    from mtpcli.batch.worker import Preparer, Worker
    from mtpcli.config import DraftConfig, RuntimeConfig
    from mtpcli.session import PairPaths, Session

_SHOWN_FAILURES = 10


class BatchCommand:
    """Puts the parts of one run together."""

    def __init__(
        self, given: BatchOptions, paths: PairPaths, draft: DraftConfig, runtime: RuntimeConfig
    ) -> None:
        self._given, self._paths, self._draft, self._runtime = given, paths, draft, runtime
        self._health = DrafterHealth()
        self._failures = 0
        self._told = False

    def run(self) -> int:
        """Do it all; the exit code."""
        from mtpcli.batch.rows import Template
        from mtpcli.batch.settings import settings
        from mtpcli.batch.shapes import choose_shape
        from mtpcli.batch.sinks import check_summary, open_sink, spool_folder
        from mtpcli.batch.source import open_source

        given = self._given
        template = None if given.template is None else Template(given.template)
        spool = None if given.dry_run else spool_folder(given.output)
        source = open_source(given.inputs, given.format, spool)
        check_summary(given, source)
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
            job = self._job(shape)
            if sink is None:
                session = stack.enter_context(job.session())
                return self._survey(job.preparer(session), source)
            if given.ray is not None:
                return self._generate_on_ray(given.ray, job, sink, source, rows)
            session = stack.enter_context(job.session())
            if not given.quiet:
                options.say_exact_rows(session)
            worker = job.worker(session)
            self._health = session.engine.health
            return self._generate(
                sink, source, rows, lambda run, progress: _by(run, worker, session, progress)
            )

    def _job(self, shape: Shape) -> Job:
        from mtpcli.batch.job import Job
        from mtpcli.batch.worker import Defaults, worth_keeping
        from mtpcli.llama.gguf import read_metadata
        from mtpcli.session import recommended_sampling

        given = self._given
        sampling = options.sampling(
            recommended_sampling(read_metadata(self._paths.target).metadata),
            seed=given.seed,
            temperature=given.temperature,
            top_k=given.top_k,
            **given.sampling,
        )
        defaults = Defaults(
            sampling,
            given.system,
            given.thinking,
            given.raw,
            given.max_tokens,
            given.stop,
            given.grammar,
        )
        # Not with exact rows, whose numbers must be those of the row alone.
        keeper = worth_keeping(defaults, shape) and not (given.dry_run or self._draft.exact)
        runtime = replace(self._runtime, keeper=keeper)
        return Job(self._paths, self._draft, runtime, shape, defaults)

    def _generate_on_ray(
        self, address: str, job: Job, sink: Sink, source: Source, rows: int | None
    ) -> int:
        from mtpcli.batch.crew import Crew
        from mtpcli.batch.ray_cluster import RayCluster
        from mtpcli.llama.lib import default_threads

        given = self._given
        with RayCluster(address, given.workers, job.runtime.threads, default_threads()) as cluster:
            if not given.quiet:
                _say(f"{cluster.workers} workers on Ray, {cluster.threads} threads each")
            job = job.abroad(cluster.threads)
            crew = Crew(cluster, job, cluster.workers, on_death=_say)
            self._health = crew.health

            def generate(run: Run, progress: Callable[[Totals], None]) -> str | None:
                crew.run(run, progress)
                return crew.drafter

            return self._generate(sink, source, rows, generate)

    def _generate(
        self,
        sink: Sink,
        source: Source,
        rows: int | None,
        generate: Callable[[Run, Callable[[Totals], None]], str | None],
    ) -> int:
        """Let something generate a run, which returns the drafter's name; the exit code."""
        from mtpcli.batch.run import Run
        from mtpcli.batch.stop import Stop
        from mtpcli.cli.batch_progress import BatchProgress

        given = self._given
        if len(sink.done) and not given.quiet:
            _say(f"going on: {len(sink.done)} rows are finished already")
        shown = not given.quiet and sys.stderr.isatty()
        self._warn()
        with Stop() as stop:
            run = Run(
                source.rows(),
                sink,
                stop,
                fail_fast=given.fail_fast,
                on_failure=self._on_failure,
            )
            run.totals.rows = rows
            bar = BatchProgress(run.totals, shown=shown)

            def progress(totals: Totals) -> None:
                if stop.signal and not self._told:
                    self._told = True
                    _say("rows under way have a few seconds; a second signal ends at once")
                self._warn()
                bar.update(totals)

            with _telling_what_is_kept(sink), bar:
                drafter = generate(run, progress)
                if run.complete:
                    sink.finish()
        return self._report(run, sink, stop, drafter)

    def _report(self, run: Run, sink: Sink, stop: Stop, drafter: str | None) -> int:
        from mtpcli.batch.sinks import write_json
        from mtpcli.cli.batch_progress import summary, summary_line

        given = self._given
        if given.json_summary:
            figures = summary(run.totals, sink.failed, drafter, self._health)
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
        return 128 + stop.signal if stop.signal else 4

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
            return 128 + stop.signal
        return 4 if found.failed else 0

    def _warn(self) -> None:
        for news in self._health.news():
            if not self._given.quiet:
                _say(f"warning: {news}")

    def _on_failure(self, row: Row, message: str) -> None:
        self._failures += 1
        if self._given.quiet or self._failures > _SHOWN_FAILURES:
            return
        _say(f"{row.place}: {message}")
        if self._failures == _SHOWN_FAILURES:
            _say("more failures are not shown")


def _by(
    run: Run, worker: Worker, session: Session, progress: Callable[[Totals], None]
) -> str | None:
    run.run(worker, progress)
    return session.drafter_name


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
