"""The run of a batch: which rows are handed out, and what becomes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from time import monotonic

from mtpcli.batch.journal import Entry
from mtpcli.batch.rows import Row
from mtpcli.batch.sinks import Sink
from mtpcli.batch.stop import Stop
from mtpcli.batch.worker import Outcome, Preparer, Worker
from mtpcli.decode.metrics import SpeculationStats
from mtpcli.errors import MtpError


@dataclass
class Totals:
    """What has been done, as it grows.

    Attributes:
        rows: of the input, or None where that is not known before its end.
        before: rows that earlier runs had finished.
        done, failed: rows of this run.
        prompt_tokens, completion_tokens: of this run's finished rows.
        reused_tokens: of the prompts, which had been decoded for another row.
        under_way: tokens of rows that are not finished yet.
        stats: drafts of finished rows.
        started: the clock when it began, in seconds.
    """

    rows: int | None = None
    before: int = 0
    done: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reused_tokens: int = 0
    under_way: int = 0
    stats: SpeculationStats = field(default_factory=SpeculationStats)
    started: float = field(default_factory=monotonic)

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return monotonic() - self.started

    @property
    def tokens_per_second(self) -> float:
        """Generated tokens over all the time, prompts included."""
        return (self.completion_tokens + self.under_way) / max(1e-9, self.seconds)


class Run:
    """One run of a batch: it alone hands out rows and writes what became of them.

    Attributes:
        totals: what has been done.
        complete: every row of the input has its record.
        stopped_by: the failure that ended it, with `fail_fast`.
        stop: whether to end early.
    """

    def __init__(
        self,
        rows: Iterator[Row],
        sink: Sink,
        stop: Stop,
        *,
        fail_fast: bool = False,
        on_failure: Callable[[Row, str], None] = lambda row, message: None,
    ) -> None:
        self._rows, self._sink, self.stop = rows, sink, stop
        self._fail_fast, self._on_failure = fail_fast, on_failure
        self.totals = Totals(before=len(sink.done))
        self.stopped_by: str | None = None
        self._out: set[int] = set()
        self._exhausted = False
        self._last = 0

    @property
    def complete(self) -> bool:
        """See the class."""
        return self._exhausted and not self._out and self.stopped_by is None

    def run(self, worker: Worker, progress: Callable[[Totals], None]) -> None:
        """Generate for all rows that the sink does not have, until done or asked to stop.

        Raises:
            OutputError, BrokenPipeError: the sink's.
            ModelError: llama.cpp fails.
        """
        with closing(worker.rounds(self.next_row, self.settle)) as rounds:
            for under_way in rounds:
                self.totals.under_way = under_way
                progress(self.totals)
                if self.stop.expired:
                    break
        self.totals.under_way = 0

    def next_row(self) -> Row | None:
        """The next row to generate; None if there is none, or none just now."""
        while not self.stop.requested and not self._exhausted:
            if self._out and self._span >= self._sink.window:
                return None  # the first of them takes long: wait for it
            row = next(self._rows, None)
            if row is None:
                self._exhausted = True
                break
            self._last = row.number
            if row.number not in self._sink.done:
                self._out.add(row.number)
                return row
        return None

    @property
    def _span(self) -> int:
        """Rows from the first unfinished one to the one that was read last."""
        return self._last + 1 - self._sink.done.first_open

    def settle(self, outcome: Outcome) -> None:
        """Write and count what became of a row."""
        row, totals = outcome.row, self.totals
        self._out.remove(row.number)
        if outcome.problem is not None:
            self._on_failure(row, outcome.problem)
            if self._fail_fast:
                # Without a record, so that the next run comes to it again.
                self.stopped_by = self.stopped_by or f"{row.place}: {outcome.problem}"
                self.stop.request()
                return
        self._sink.add(Entry(row.number, outcome.problem is not None, outcome.record))
        if outcome.problem is not None:
            totals.failed += 1
            return
        totals.done += 1
        totals.prompt_tokens += outcome.prompt_tokens
        totals.completion_tokens += outcome.completion_tokens
        totals.reused_tokens += outcome.reused_tokens
        totals.stats.merge(outcome.stats)


@dataclass
class Survey:
    """What a dry run finds: rows, those that would fail, tokens of all prompts, of the longest."""

    rows: int = 0
    failed: int = 0
    prompt_tokens: int = 0
    longest: int = 0


def survey(
    preparer: Preparer,
    rows: Iterator[Row],
    stop: Stop,
    on_failure: Callable[[Row, str], None],
    progress: Callable[[Survey], None],
) -> Survey:
    """Parse all rows and count their tokens; generate nothing."""
    found = Survey()
    for row in rows:
        if stop.requested:
            break
        found.rows += 1
        try:
            count = len(preparer.read(row)[1])
        except MtpError as error:
            found.failed += 1
            on_failure(row, str(error))
        else:
            found.prompt_tokens += count
            found.longest = max(found.longest, count)
        if found.rows % 64 == 0:
            progress(found)
    return found
