"""What generates a batch's answers: one engine, rows in, outcomes out."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Protocol

from mtpcli.batch.rows import Ask, Limits, Row, row_seed
from mtpcli.batch.shapes import Answer, Shape, encode
from mtpcli.config import SamplingConfig
from mtpcli.decode.metrics import SpeculationStats
from mtpcli.decode.shared import LEAST
from mtpcli.errors import InputError, MtpError
from mtpcli.prompt.stream import TextStream
from mtpcli.schema import schema_grammar

if TYPE_CHECKING:
    from mtpcli.decode.constraint import Constraint
    from mtpcli.decode.engine import Engine
    from mtpcli.decode.sequence import Request
    from mtpcli.decode.sequence import Sequence as Generation
    from mtpcli.prompt.template import Message

NextRow = Callable[[], Row | None]

# Prompts that differ from their first character on, and are drawn to what stands before it in
# different ways.
_PROBES = ("a", " a", "\na", "7", ",", "\u4e00")


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


def worth_keeping(defaults: Defaults, shape: Shape) -> bool:
    """Whether prompts may begin with so much of the settings that it is worth to keep its cells."""
    text = (defaults.system or "") + shape.head
    return len(text.encode(errors="replace")) >= LEAST


@dataclass
class Flight:
    """A row under way, and how many tokens it has so far."""

    row: Row
    request: Request
    stream: TextStream
    thinking: bool
    tokens: int = 0


@dataclass(frozen=True)
class Outcome:
    """What became of a row.

    Attributes:
        row: of the input.
        record: the row's line of the output, without its end.
        problem: why it failed; None if it has an answer.
        prompt_tokens, completion_tokens: of the answer.
        reused_tokens: of the prompt, which had been decoded for another row.
        stats: its drafts.
    """

    row: Row
    record: bytes
    problem: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    reused_tokens: int = 0
    stats: SpeculationStats = field(default_factory=SpeculationStats)


class Preparer:
    """Makes requests of rows."""

    def __init__(self, backend: Backend, shape: Shape, defaults: Defaults) -> None:
        self._backend, self._shape, self._defaults = backend, shape, defaults
        # Most rows of an input share one schema.
        self._constraint = lru_cache(32)(backend.constraint)

    def check(self) -> None:
        """See what no row could mend, so that it fails here instead of once per row.

        Raises:
            InputError: a mistake in the grammar.
            ModelError: the model has no chat template.
        """
        if self._defaults.grammar is not None:
            self._backend.constraint(self._defaults.grammar)
        if not self._defaults.raw:
            self._backend.chat_tokens([{"role": "user", "content": "?"}])

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

    def beginning(self) -> list[int]:
        """The tokens that prompts begin with, whatever their rows say.

        They follow from the settings alone. A row that begins otherwise, with a system message of
        its own or with text that makes one token with what stands before it, is none the worse.
        """
        asks = [Ask(self._shape.head + probe, Limits()) for probe in _PROBES]
        try:
            places = zip(*(self._tokens(ask) for ask in asks), strict=False)
        except MtpError:
            return []  # whatever it is, rows will say it
        return [place[0] for place in takewhile(lambda place: len(set(place)) == 1, places)]

    def flight(self, row: Row) -> Flight:
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
        return Flight(row, request, stream, self._defaults.thinking and not raw)


class Worker:
    """Generates for as many rows at once as its engine holds sequences."""

    def __init__(self, preparer: Preparer, shape: Shape, engine: Engine) -> None:
        self._preparer, self._shape, self._engine = preparer, shape, engine
        self._flying: dict[int, Flight] = {}

    def rounds(
        self, next_row: NextRow, settle: Callable[[Outcome], None]
    ) -> Generator[int, None, None]:
        """Generate for all rows, each starting as soon as there is room.

        Args:
            next_row: the next one; None if there is none, or none just now: it is asked again
                after every round.
            settle: told what became of each, as soon as it is known.

        Yields:
            After every round how many tokens there are of rows that are not finished.

        Raises:
            ModelError: llama.cpp fails.
        """
        try:
            with closing(self._engine.rounds(_Feed(self, next_row, settle))) as rounds:
                for sequences in rounds:
                    for sequence in sequences:
                        if sequence.finish_reason:
                            settle(self._outcome(sequence))
                        else:
                            self._flying[id(sequence.request)].tokens = len(sequence.tokens)
                    yield sum(flight.tokens for flight in self._flying.values())
        finally:
            self._flying.clear()

    def next_request(self, next_row: NextRow, settle: Callable[[Outcome], None]) -> Request | None:
        """The request of the next row that can be used; None if there is none."""
        while row := next_row():
            try:
                flight = self._preparer.flight(row)
            except MtpError as error:
                problem = str(error)
                settle(Outcome(row, encode(self._shape.failure(row, problem)), problem))
                continue
            self._flying[id(flight.request)] = flight
            return flight.request
        return None

    def _outcome(self, sequence: Generation) -> Outcome:
        flight = self._flying.pop(id(sequence.request))
        request = flight.request
        answer = Answer(
            text=flight.stream.answer,
            thought=flight.stream.thought if flight.thinking else None,
            finish_reason=str(sequence.finish_reason),
            prompt_tokens=len(request.prompt),
            completion_tokens=len(sequence.tokens),
            seed=request.sampling.seed,
        )
        return Outcome(
            flight.row,
            encode(self._shape.answer(flight.row, answer)),
            None,
            answer.prompt_tokens,
            answer.completion_tokens,
            sequence.reused,
            sequence.stats,
        )


class _Feed:
    """The engine's source of requests.

    It may end and go on later: the engine asks again after every round.
    """

    def __init__(
        self, worker: Worker, next_row: NextRow, settle: Callable[[Outcome], None]
    ) -> None:
        self._worker, self._next_row, self._settle = worker, next_row, settle

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> Request:
        request = self._worker.next_request(self._next_row, self._settle)
        if request is None:
            raise StopIteration
        return request
