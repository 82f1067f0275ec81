"""Scripts of what may happen to sequences in one engine; each must have the text it has alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from mtpcli.config import SamplingConfig
from mtpcli.decode.depth import FixedDepth
from mtpcli.decode.engine import Engine
from mtpcli.decode.sequence import Request, Sequence
from tests.fakes import Whim

# What happens, some of it more often. A number says to which, or how much.
_EVENTS = (
    *["start"] * 4,
    *["step"] * 6,
    *["some step"] * 3,
    *["go on"] * 2,
    "cancel",
    "pause",
    "depth",
    *["save"] * 2,
    *["restore"] * 2,
)
# The same scripts each time, however slow the machine is.
STEADY = settings(
    derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
Script = list[tuple[str, int]]
SCRIPTS: st.SearchStrategy[Script] = st.lists(
    st.tuples(st.sampled_from(_EVENTS), st.integers(0, 999)), min_size=20, max_size=70
)


@dataclass(frozen=True)
class Job:
    """What one sequence is to generate.

    Attributes:
        prompt: token ids.
        sampling: how.
        limit: tokens, or None for as many as the context holds.
        stop_after: a token behind which it stops, or None.
        formed: it keeps to a grammar.
    """

    prompt: tuple[int, ...]
    sampling: SamplingConfig
    limit: int | None
    stop_after: int | None = None
    formed: bool = False


class Interleaving:
    """Plays a script, and compares after every step.

    Attributes:
        finished: how many sequences came to their ends.
        reused: how many cells of earlier sequences were used again.
    """

    def __init__(
        self,
        engine: Engine,
        jobs: list[Job],
        request: Callable[[Job, bool], Request],
        alone: Callable[[Job], list[int]],
        n_ctx: int,
    ) -> None:
        """`request` makes a job's request, with reuse or not; `alone` gives its tokens."""
        self._engine, self._jobs, self._n_ctx = engine, jobs, n_ctx
        self._request, self._alone = request, alone
        self._held: list[tuple[Sequence, Job]] = []
        self._past: list[Sequence] = []
        self._saved: tuple[list[int], bytes] | None = None
        self._slots = engine.free_slots
        self.finished = self.reused = 0

    def play(self, script: Script) -> None:
        """Do it all, and let what is under way then come to its end."""
        events: dict[str, Callable[[int], None]] = {
            "start": lambda n: self._start(self._jobs[n % len(self._jobs)], n % 3 == 0),
            "step": lambda n: self._step(self._held),
            "some step": lambda n: self._step(
                [pair for at, pair in enumerate(self._held) if n >> at & 1]
            ),
            "go on": self._go_on,
            "cancel": self._cancel,
            "pause": self._pause,
            "depth": self._depth,
            "save": self._save,
            "restore": self._restore,
        }
        for event, number in script:
            events[event](number)
        while self._held:
            self._step(self._held)
        assert self._engine.free_slots == self._slots

    def _start(self, job: Job, reuse: bool) -> None:
        if self._engine.free_slots:
            sequence = self._engine.start(self._request(job, reuse))
            self.reused += sequence.reused
            self._held.append((sequence, job))
            self._check([self._held[-1]])

    def _step(self, pairs: list[tuple[Sequence, Job]]) -> None:
        if pairs:
            self._engine.step(sorted((one for one, _ in pairs), key=lambda one: one.slot))
            self._check(list(pairs))

    def _check(self, pairs: list[tuple[Sequence, Job]]) -> None:
        for sequence, job in pairs:
            expected = self._alone(job)
            assert sequence.tokens == expected[: len(sequence.tokens)]
            if sequence.finish_reason:
                assert sequence.tokens == expected
                self.finished += 1
                self._release(sequence)

    def _release(self, sequence: Sequence) -> None:
        self._engine.release(sequence)
        self._held = [pair for pair in self._held if pair[0] is not sequence]
        self._past.append(sequence)

    def _go_on(self, number: int) -> None:
        """A turn after an earlier one, or after a part of it: the rest was taken back."""
        if self._past:
            before = self._past[number % len(self._past)]
            text = [*before.request.prompt, *before.tokens]
            kept = len(text) - number % 3 * (len(text) // 3)
            job = self._jobs[number % len(self._jobs)]
            prompt = (*text[:kept], *job.prompt[-1 - number % 2 :])[: self._n_ctx]
            self._start(replace(job, prompt=prompt), reuse=True)

    def _cancel(self, number: int) -> None:
        if self._held:
            self._release(self._held[number % len(self._held)][0])

    def _pause(self, number: int) -> None:
        if self._held:
            sequence = self._held[number % len(self._held)][0]
            sequence.drafting = not sequence.drafting

    def _depth(self, number: int) -> None:
        policy: Any = FixedDepth(number % 8) if number % 3 else Whim(number)
        self._engine.policy = policy

    def _save(self, _number: int) -> None:
        if self._engine.free_slots:
            self._saved = self._engine.save()

    def _restore(self, _number: int) -> None:
        if self._saved and self._engine.free_slots:
            assert self._engine.restore(*self._saved)
