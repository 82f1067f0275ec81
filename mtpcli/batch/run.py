"""The run of a batch: rows in, requests to the engine, records out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from mtpcli.batch.journal import Entry
from mtpcli.batch.rows import Ask, Row, row_seed
from mtpcli.batch.shapes import Answer, Shape, encode
from mtpcli.batch.sinks import Sink
from mtpcli.batch.stop import Stop
from mtpcli.config import SamplingConfig
from mtpcli.decode.metrics import SpeculationStats
from mtpcli.errors import InputError, MtpError
from mtpcli.prompt.stream import TextStream
from mtpcli.schema import schema_grammar

if TYPE_CHECKING:
    from mtpcli.decode.constraint import Constraint
    from mtpcli.decode.engine import Engine
    from mtpcli.decode.sequence import Request
    from mtpcli.decode.sequence import Sequence as Generation
    from mtpcli.prompt.template import Message


class Backend(Protocol):
    """What generates; `mtpcli.session.Session` is one."""

    engine: Engine
    n_ctx: int

    def chat_tokens(self, messages: Sequence[Message], *, thinking: bool = False) -> list[int]: ...
    def raw_tokens(self, text: str) -> list[int]: ...
    def constraint(self, grammar: str) -> Callable[[], Constraint]: ...
    def request(
        self,
        prompt: list[int],
        sampling: SamplingConfig,
        *,
        max_tokens: int | None = None,
        stops: Sequence[str] = (),
        raw: bool = False,
        constraint: Callable[[], Constraint] | None = None,
    ) -> tuple[Request, TextStream]: ...


@dataclass(frozen=True)
class Defaults:
    """What holds for rows that do not say otherwise.

    Attributes:
        sampling: its seed is the one that the rows' seeds are made of.
        system: a system message for conversations that have none.
        thinking: let the model think before it answers.
        raw: no chat template.
        max_tokens: limit, or None for as many as the context holds.
        stops: texts that end an answer, besides the row's own.
        grammar: what answers keep to, in GBNF, where the row has no schema of its own.
    """

    sampling: SamplingConfig
    system: str | None = None
    thinking: bool = False
    raw: bool = False
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    grammar: str | None = None


@dataclass
class Totals:
    """What has been done, as it grows.

    Attributes:
        rows: of the input, or None where that is not known before its end.
        before: rows that earlier runs had finished.
        done, failed: rows of this run.
        prompt_tokens, completion_tokens: of this run's finished rows.
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


@dataclass
class _Flight:
    """A row under way, and how many tokens it has so far."""

    row: Row
    request: Request
    stream: TextStream
    thinking: bool
    tokens: int = 0


class Preparer:
    """Makes requests of rows."""

    def __init__(self, backend: Backend, shape: Shape, defaults: Defaults) -> None:
        self._backend, self._shape, self._defaults = backend, shape, defaults
        # Most rows of an input share one schema.
        self._constraint = lru_cache(32)(backend.constraint)

    def read(self, row: Row) -> tuple[Ask, list[int], str | None]:
        """What a row asks for, its prompt's token ids, which fit the context, and its grammar.

        Raises:
            InputError: the row cannot be used.
            ModelError: the chat template fails on it.
        """
        if row.problem:
            raise InputError(row.problem)
        ask, grammar = self._shape.ask(row), self._defaults.grammar
        if ask.limits.schema is not None:
            if self._defaults.thinking:
                raise InputError("--thinking leaves the form of a schema: choose one")
            grammar = schema_grammar(ask.limits.schema)
        tokens = self._tokens(ask)
        if not tokens:
            raise InputError("the prompt is empty")
        if len(tokens) > self._backend.n_ctx:
            raise InputError(
                f"the prompt has {len(tokens)} tokens and the context {self._backend.n_ctx}: "
                "shorten it, or raise --ctx"
            )
        return ask, tokens, grammar

    def _tokens(self, ask: Ask) -> list[int]:
        system = self._defaults.system
        if isinstance(ask.prompt, str):
            if not ask.prompt.strip():
                raise InputError("the prompt is empty")
            if ask.raw or self._defaults.raw:
                return self._backend.raw_tokens(ask.prompt)
            messages: list[Message] = [{"role": "user", "content": ask.prompt}]
        elif self._defaults.raw:
            raise InputError("messages need the chat template, and --raw is without one")
        else:
            messages = ask.prompt
        if system and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": system}, *messages]
        return self._backend.chat_tokens(messages, thinking=self._defaults.thinking)

    def flight(self, row: Row) -> _Flight:
        """A row's request, its own settings before those of the run.

        Raises:
            InputError, ModelError: see `read`.
        """
        ask, tokens, grammar = self.read(row)
        base, own = self._defaults.sampling, ask.limits
        raw = ask.raw or self._defaults.raw
        chosen: dict[str, Any] = {"seed": row_seed(base.seed, row.number), **own.sampling}
        sampling = replace(base, **chosen)
        request, stream = self._backend.request(
            tokens,
            sampling,
            max_tokens=own.max_tokens or self._defaults.max_tokens,
            stops=[*self._defaults.stops, *own.stops],
            raw=raw,
            constraint=self._constraint(grammar) if grammar else None,
        )
        return _Flight(row, request, stream, self._defaults.thinking and not raw)


class Run:
    """One run of a batch.

    Attributes:
        totals: what has been done.
        complete: every row of the input has its record.
        stopped_by: the failure that ended it, with `fail_fast`.
    """

    def __init__(
        self,
        preparer: Preparer,
        shape: Shape,
        sink: Sink,
        stop: Stop,
        *,
        fail_fast: bool = False,
        on_failure: Callable[[Row, str], None] = lambda row, message: None,
    ) -> None:
        self._preparer, self._shape, self._sink = preparer, shape, sink
        self._stop, self._fail_fast, self._on_failure = stop, fail_fast, on_failure
        self._flying: dict[int, _Flight] = {}
        self.totals = Totals(before=len(sink.done))
        self.stopped_by: str | None = None
        self._exhausted = False
        self._last = 0

    @property
    def complete(self) -> bool:
        """See the class."""
        return self._exhausted and not self._flying and self.stopped_by is None

    def run(self, engine: Engine, rows: Iterator[Row], progress: Callable[[Totals], None]) -> None:
        """Generate for all rows that the sink does not have, until done or asked to stop.

        Raises:
            OutputError, BrokenPipeError: the sink's.
            ModelError: llama.cpp fails.
        """
        with closing(engine.rounds(_Feed(self, rows))) as rounds:
            for sequences in rounds:
                for sequence in sequences:
                    if sequence.finish_reason:
                        self._finish(sequence)
                    else:
                        self._flying[id(sequence.request)].tokens = len(sequence.tokens)
                self.totals.under_way = sum(flight.tokens for flight in self._flying.values())
                progress(self.totals)
                if self._stop.expired:
                    break
        self.totals.under_way = 0

    def next_request(self, rows: Iterator[Row]) -> Request | None:
        """The next row's request; None if there is none, or none just now."""
        while not self._stop.requested and not self._exhausted:
            if len(self._flying) and self._span >= self._sink.window:
                return None  # the first of them takes long: wait for it
            row = next(rows, None)
            if row is None:
                self._exhausted = True
                break
            self._last = row.number
            if row.number in self._sink.done:
                continue
            try:
                flight = self._preparer.flight(row)
            except MtpError as error:
                self._fail(row, str(error))
                continue
            self._flying[id(flight.request)] = flight
            return flight.request
        return None

    @property
    def _span(self) -> int:
        """Rows from the first unfinished one to the one that was read last."""
        return self._last + 1 - self._sink.done.first_open

    def _fail(self, row: Row, message: str) -> None:
        self._on_failure(row, message)
        if self._fail_fast:
            # Without a record, so that the next run comes to it again.
            self.stopped_by = f"{row.place}: {message}"
            self._stop.request()
            return
        self._sink.add(Entry(row.number, True, encode(self._shape.failure(row, message))))
        self.totals.failed += 1

    def _finish(self, sequence: Generation) -> None:
        flight = self._flying.pop(id(sequence.request))
        totals, request = self.totals, flight.request
        answer = Answer(
            text=flight.stream.answer,
            thought=flight.stream.thought if flight.thinking else None,
            finish_reason=str(sequence.finish_reason),
            prompt_tokens=len(request.prompt),
            completion_tokens=len(sequence.tokens),
            seed=request.sampling.seed,
        )
        record = encode(self._shape.answer(flight.row, answer))
        self._sink.add(Entry(flight.row.number, False, record))
        totals.done += 1
        totals.prompt_tokens += answer.prompt_tokens
        totals.completion_tokens += answer.completion_tokens
        totals.stats.merge(sequence.stats)


class _Feed:
    """The engine's source of requests.

    It may end and go on later: the engine asks again after every round, and a row that is far
    ahead of the slowest one waits for it.
    """

    def __init__(self, run: Run, rows: Iterator[Row]) -> None:
        self._run, self._rows = run, rows

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> Request:
        request = self._run.next_request(self._rows)
        if request is None:
            raise StopIteration
        return request


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
