"""One batch on many workers: rows are handed out here, and what comes back is written here.

Workers keep nothing that matters. When one dies, the rows that it had are handed out again, and as
a row's answer depends on the row alone, the result is the one that a single worker gives.
"""

from __future__ import annotations

import socket
from collections import Counter, deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from mtpcli.batch.job import Job
from mtpcli.batch.rows import Row
from mtpcli.batch.run import Run, Totals
from mtpcli.batch.settings import file_digest
from mtpcli.batch.worker import Backend, Outcome, Worker
from mtpcli.decode.health import DrafterHealth
from mtpcli.errors import ModelError, MtpError

_STEP_SECONDS = 0.5
_WAIT_SECONDS = 0.25
# So often may a row's worker die, or workers one after the other before any of them works.
_LIVES = 3


class WorkerDied(Exception):
    """The worker, its machine or the way to it is gone, and with it the rows that it had."""


class CrewError(MtpError):
    """Workers die again and again; rows are missing."""

    exit_code = 4


@dataclass(frozen=True)
class Facts:
    """What a worker says of itself.

    Attributes:
        host: its machine.
        same: what must be the same everywhere, by the name that people know it by.
        drafter: its drafter's name, or None.
    """

    host: str
    same: dict[str, str]
    drafter: str | None


@dataclass(frozen=True)
class Report:
    """What has happened since the last one: rows that ended, tokens of those that have not.

    And how the worker's drafter is.
    """

    outcomes: list[Outcome]
    under_way: int
    health: DrafterHealth


def same_everywhere(job: Job) -> dict[str, str]:
    """What answers depend on besides the rows: programs and files, as they are on this machine.

    Raises:
        ModelError: a file cannot be read.
    """
    from importlib.metadata import version

    files = [job.paths.target, *([job.paths.drafter] if job.paths.drafter else [])]
    programs = {name: version(name) for name in ("mtpcli", "llama-cpp-python")}
    return programs | {str(path): file_digest(path) for path in files}


class Hand:
    """A worker at the far end: takes rows, and reports what became of earlier ones."""

    def __init__(self, load: Callable[[Job], Backend] = Job.session) -> None:
        self._load = load
        self._queue: deque[Row] = deque()
        self._outcomes: list[Outcome] = []
        self._worker: Worker | None = None
        self._health = DrafterHealth()
        self._rounds: Generator[int, None, None] | None = None

    def open(self, job: Job) -> Facts:
        """Load the models.

        Raises:
            ModelError, InputError: with the machine's name, because it may be this one alone.
        """
        host = socket.gethostname()
        try:
            same = same_everywhere(job)
            backend = self._load(job)
            self._worker = job.worker(backend)
            self._health = backend.engine.health
        except MtpError as error:
            raise type(error)(f"worker on {host}: {error}") from None
        return Facts(host, same, getattr(backend, "drafter_name", None))

    def step(self, rows: Sequence[Row]) -> Report:
        """Take more rows, and generate until one is finished or half a second is over."""
        assert self._worker
        self._queue.extend(rows)
        self._rounds = self._rounds or self._worker.rounds(self._next_row, self._outcomes.append)
        end, under_way = monotonic() + _STEP_SECONDS, 0
        for tokens in self._rounds:
            under_way = tokens
            if self._outcomes or monotonic() >= end:
                break
        else:
            self._rounds = None
        outcomes, self._outcomes[:] = list(self._outcomes), []
        return Report(outcomes, under_way, self._health)

    def _next_row(self) -> Row | None:
        return self._queue.popleft() if self._queue else None


class Cluster(Protocol):
    """Where workers run. A call gives a ticket, which is done some time later."""

    def hire(self) -> Any:
        """A new worker."""
        ...

    def call(self, worker: Any, method: str, argument: Any) -> Any:
        """Call a method of a worker's `Hand`; a ticket."""
        ...

    def wait(self, tickets: list[Any], seconds: float) -> list[Any]:
        """Those that are done, at the latest after some time."""
        ...

    def result(self, ticket: Any) -> Any:
        """What the call returned or raised.

        Raises:
            WorkerDied: nobody knows.
        """
        ...

    def dismiss(self, worker: Any) -> None:
        """End a worker, if it has not ended."""
        ...


@dataclass(eq=False)
class _Member:
    """A worker as it is seen from here: its rows by number, the tokens of its last report."""

    handle: Any
    facts: Facts | None = None
    held: dict[int, Row] = field(default_factory=dict)
    under_way: int = 0


class Crew:
    """A number of workers; those that die are replaced.

    Attributes:
        drafter: their drafter's name, or None; known when one of them has begun.
        health: of their drafters, each thing as the first of them found it.
        deaths: how many have died.
    """

    def __init__(
        self,
        cluster: Cluster,
        job: Job,
        size: int,
        *,
        on_death: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._cluster, self._job, self._size, self._on_death = cluster, job, size, on_death
        self._same = same_everywhere(job)
        # One more than a worker generates at once: it never waits for the next one to come.
        self._most = job.runtime.n_seq + 1
        self._members: dict[Any, _Member] = {}  # by the ticket of the call that is under way
        self._idle: list[_Member] = []
        self._again: deque[Row] = deque()
        self._lost: Counter[int] = Counter()
        self._stillborn = 0
        self.drafter: str | None = None
        self.health = DrafterHealth()
        self.deaths = 0

    def run(self, run: Run, progress: Callable[[Totals], None]) -> None:
        """Generate for all rows of a run, until done or asked to stop.

        Raises:
            ModelError: a worker cannot load the models, or has others than this machine.
            CrewError: workers die again and again.
            OutputError, BrokenPipeError: the sink's.
        """
        for _ in range(self._size):
            self._hire()
        while not run.stop.expired:
            self._hand_out(run)
            if run.complete or not self._members or (run.stop.requested and not self._busy):
                break
            for ticket in self._cluster.wait(list(self._members), _WAIT_SECONDS):
                self._hear(run, self._members.pop(ticket), ticket)
            working = [*self._members.values(), *self._idle]
            run.totals.under_way = sum(member.under_way for member in working)
            progress(run.totals)
        run.totals.under_way = 0

    @property
    def _busy(self) -> bool:
        return any(member.held for member in (*self._members.values(), *self._idle))

    def _hire(self) -> None:
        handle = self._cluster.hire()
        self._members[self._cluster.call(handle, "open", self._job)] = _Member(handle)

    def _hand_out(self, run: Run) -> None:
        """Give every worker that waits what it has room for, in turn."""
        more: dict[_Member, list[Row]] = {member: [] for member in self._idle}
        hungry = list(self._idle)
        while hungry:
            # Evenly: at the end of a batch nobody shall hold rows while others hold none.
            member = min(hungry, key=lambda one: len(one.held))
            if len(member.held) >= self._most:
                break
            row = self._next_row(run)
            if row is None:
                break
            member.held[row.number] = row
            more[member].append(row)
        for member, rows in more.items():
            if member.held:
                self._idle.remove(member)
                self._members[self._cluster.call(member.handle, "step", rows)] = member

    def _next_row(self, run: Run) -> Row | None:
        if self._again:
            return None if run.stop.requested else self._again.popleft()
        return run.next_row()

    def _hear(self, run: Run, member: _Member, ticket: Any) -> None:
        try:
            heard = self._cluster.result(ticket)
        except WorkerDied as death:
            self._bury(run, member, str(death))
            return
        self._idle.append(member)
        if member.facts is None:
            self._welcome(member, heard)
            return
        self._stillborn = 0
        member.under_way = heard.under_way
        self.health.hear(heard.health, f"worker on {member.facts.host}")
        for outcome in heard.outcomes:
            del member.held[outcome.row.number]
            self._lost.pop(outcome.row.number, None)
            run.settle(outcome)

    def _welcome(self, member: _Member, facts: Facts) -> None:
        for name, value in self._same.items():
            if facts.same.get(name) != value:
                raise ModelError(
                    f"worker on {facts.host} has another {name} than this machine "
                    f"({facts.same.get(name)}, here {value}): make them the same, or the answers "
                    "are not"
                )
        member.facts, self.drafter = facts, facts.drafter

    def _bury(self, run: Run, member: _Member, reason: str) -> None:
        """Take a dead worker's rows back, and hire another one."""
        self.deaths += 1
        self._cluster.dismiss(member.handle)
        rows = [member.held[number] for number in sorted(member.held)]
        self._again.extend(rows)
        self._lost.update(row.number for row in rows)
        where = f" on {member.facts.host}" if member.facts else ""
        again = f"; its {len(rows)} rows are handed out again" if rows else ""
        self._on_death(f"a worker{where} died{again}: {reason}")
        tired = [row.place for row in rows if self._lost[row.number] >= _LIVES]
        if tired:
            raise CrewError(
                f"{_LIVES} workers died one after the other over {', '.join(tired)}: give them "
                f"more memory, or take {'them' if len(tired) > 1 else 'it'} out"
            )
        if member.facts is None:
            self._stillborn += 1
            if self._stillborn >= max(_LIVES, self._size + 1):
                raise CrewError(
                    f"workers die before they begin ({reason}): is there memory for "
                    f"{self._size} of them?"
                )
        if not run.stop.requested:
            self._hire()
