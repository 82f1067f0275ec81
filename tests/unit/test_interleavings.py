"""Sequences never mix: whatever runs beside them, comes and goes, each has its own text."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mtpcli.config import SamplingConfig
from mtpcli.decode.depth import FixedDepth
from mtpcli.decode.drafters.base import Draft, DraftRequest, GoOn
from mtpcli.decode.engine import Engine
from mtpcli.decode.sequence import Request
from mtpcli.errors import ModelError
from tests.fakes import END, FakeConstraint, FakeDrafter, FakeTarget, ListStream
from tests.interleaving import SCRIPTS, STEADY, Interleaving, Job, Script

N_CTX = 48
JOBS = [
    Job((3, 1, 4), SamplingConfig(temperature=0), 12),
    Job((3, 1, 4, 1, 5), SamplingConfig(seed=1), None),
    Job((3, 1, 4, 1, 5), SamplingConfig(seed=2), 9, stop_after=17),
    Job((7, 7, 7, 7, 7, 7), SamplingConfig(temperature=0), 20, stop_after=9),
    Job((9,), SamplingConfig(seed=3), 14, formed=True),
    Job((2, 8, 2, 8), SamplingConfig(temperature=0), None, formed=True),
    Job((5, 6), SamplingConfig(seed=4, repetition=1.3, presence=0.4, recent=7), 25),
    Job(tuple(range(1, N_CTX)), SamplingConfig(seed=5), None),
    Job((1, 2, 3), SamplingConfig(seed=6), 1),
]


class RingedTarget(FakeTarget):
    """No draft crosses the end of a ring of so many cells."""

    def decode(self, rows: int, outputs: int) -> None:
        laps = {
            (int(seq), int(pos) // self.ring)
            for seq, pos in zip(self.batch.seq[:rows], self.batch.pos[:rows], strict=True)
        }
        assert len(laps) == len({seq for seq, _ in laps})
        super().decode(rows, outputs)


class FailingDrafter(FakeDrafter):
    """Right at most places, until its time has come."""

    def __init__(self, target: FakeTarget, drafts: int | None) -> None:
        super().__init__(target, wrong=[at for at in range(N_CTX) if at % 5 in (0, 3)])
        self._left = drafts

    def draft(self, requests: Sequence[DraftRequest], go_on: GoOn) -> list[Draft]:
        if self._left is not None:
            self._left -= len(requests)
            if self._left < 0:
                raise ModelError("its time has come")
        return super().draft(requests, go_on)


def request(job: Job, reuse: bool) -> Request:
    return Request(
        list(job.prompt),
        job.sampling,
        ListStream(job.stop_after),
        job.limit,
        reuse,
        FakeConstraint if job.formed else None,
    )


@cache
def alone(job: Job) -> list[int]:
    target = FakeTarget(N_CTX)
    with Engine(target, None, FixedDepth(0), lambda token: token == END) as engine:
        return engine.generate([request(job, False)])[0].tokens


def play(script: Script, n_seq: int, ring: int, fails_after: int | None) -> None:
    target = RingedTarget(N_CTX, n_seq)
    target.ring = ring
    drafter = FailingDrafter(target, fails_after)
    with Engine(target, drafter, FixedDepth(3), lambda token: token == END) as engine:
        Interleaving(engine, JOBS, request, alone, N_CTX).play(script)


ARGUMENTS = (
    SCRIPTS,
    st.integers(1, 5),
    st.sampled_from([1 << 20, 13, 7]),
    st.none() | st.integers(0, 20),
)
# Two turns in one slot, the second one a part of the first with another end.
TURNS = [("start", 1), *[("step", 0)] * 9, ("cancel", 0), ("save", 0), ("go on", 4), ("step", 0)]


@settings(STEADY, max_examples=50)
@example(script=[*TURNS, ("restore", 0), *TURNS], n_seq=2, ring=7, fails_after=None)
@given(*ARGUMENTS)
def test_each_has_the_text_it_has_alone(
    script: Script, n_seq: int, ring: int, fails_after: int | None
) -> None:
    play(script, n_seq, ring, fails_after)


@pytest.mark.slow
@settings(STEADY, max_examples=5000)
@given(*ARGUMENTS)
def test_each_has_the_text_it_has_alone_many_times(
    script: Script, n_seq: int, ring: int, fails_after: int | None
) -> None:
    play(script, n_seq, ring, fails_after)
