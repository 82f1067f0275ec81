"""Sequences never mix, on the embedded pair in Q8_0: each has the text that it has alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings

from mtpcli.config import DraftConfig, RuntimeConfig, SamplingConfig
from mtpcli.decode.depth import FixedDepth
from mtpcli.decode.engine import Engine
from mtpcli.decode.sequence import Request
from mtpcli.llama.context import TargetContext
from mtpcli.schema import schema_grammar
from mtpcli.session import PairPaths, Session
from tests.conftest import Pair
from tests.e2e.test_lossless import heldout
from tests.interleaving import SCRIPTS, STEADY, Interleaving, Job, Script
from tests.schemas import PERSON

N_CTX = 160
GREEDY = SamplingConfig(temperature=0)


@dataclass
class World:
    """A session for scripts, a plain one for what each sequence gives alone, and what to do."""

    together: Session
    plain: Session
    jobs: list[Job] = field(default_factory=list)
    known: dict[Job, list[int]] = field(default_factory=dict)

    def request(self, job: Job, reuse: bool, session: Session | None = None) -> Request:
        session = session or self.together
        return session.request(
            list(job.prompt),
            job.sampling,
            max_tokens=job.limit,
            stops=["."] if job.stop_after else [],
            reuse=reuse,
            constraint=session.constraint(schema_grammar(PERSON)) if job.formed else None,
        )[0]

    def alone(self, job: Job) -> list[int]:
        if job not in self.known:
            (sequence,) = self.plain.engine.generate([self.request(job, False, self.plain)])
            self.known[job] = sequence.tokens
        return self.known[job]

    def play(self, script: Script, *, reuse: bool = False) -> Interleaving:
        """On an engine that knows of no cells, over contexts that are full of old ones.

        With `reuse` turns go on from cells that were decoded in other batches than a whole prompt
        is: they have other last bits, and a near tie behind them may fall the other way.
        """
        old = self.together.engine
        is_end = self.together.model.is_end
        engine = Engine(old._target, old._drafter, FixedDepth(3), is_end)
        game = Interleaving(
            engine,
            self.jobs,
            lambda job, wanted: self.request(job, wanted and reuse),
            self.alone,
            N_CTX,
        )
        game.play(script)
        return game


@pytest.fixture(scope="module")
def world(demo_pair: Pair) -> Iterator[World]:
    runtime = RuntimeConfig(n_ctx=N_CTX, n_seq=3, threads=1)
    with (
        Session(PairPaths(demo_pair.target, demo_pair.drafter), DraftConfig(3), runtime) as drafted,
        Session(
            PairPaths(demo_pair.target, None), DraftConfig(0), RuntimeConfig(N_CTX, threads=1)
        ) as plain,
    ):
        world = World(drafted, plain)
        for number, text in enumerate(text for texts in heldout() for text in texts[:2]):
            prompt = tuple(drafted.chat_tokens([{"role": "user", "content": text}]))
            seeded = SamplingConfig(seed=number)
            world.jobs += [
                Job(prompt, seeded if number % 2 else GREEDY, 24),
                Job(prompt, GREEDY if number % 2 else seeded, 40, number % 3 or None, number == 4),
            ]
        long = tuple(drafted.raw_tokens("Once upon a time. " * 60)[: N_CTX - 9])
        world.jobs += [Job(long, GREEDY, None), Job((*long, *long)[:N_CTX], seeded, None)]
        yield world


@pytest.fixture(scope="module")
def play(world: World) -> Callable[[Script], Interleaving]:
    return world.play


@settings(STEADY, max_examples=2)
@given(script=SCRIPTS)
def test_each_has_the_text_it_has_alone(
    play: Callable[[Script], Interleaving], script: Script
) -> None:
    play(script)


@pytest.mark.slow
@settings(STEADY, max_examples=100)
@given(script=SCRIPTS)
def test_each_has_the_text_it_has_alone_many_times(
    play: Callable[[Script], Interleaving], script: Script
) -> None:
    play(script)


def test_turns_in_slots_that_others_left(world: World) -> None:
    starts = [("start", number) for number in (0, 3, 9)]
    turn = [*starts, *[("step", 0)] * 12, ("cancel", 1), ("save", 0), ("go on", 3), ("step", 0)]
    again = [("cancel", 0), ("restore", 0), ("go on", 1), ("some step", 5), ("depth", 5)]
    game = world.play([*turn, *again, *turn, *again], reuse=True)
    assert game.finished > 5 and game.reused > 50


def test_one_that_moves_into_a_hole_keeps_its_text(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves: list[tuple[int, int]] = []
    move = TargetContext.move

    def watched(self: TargetContext, seq: int, to: int) -> None:
        moves.append((seq, to))
        move(self, seq, to)

    monkeypatch.setattr(TargetContext, "move", watched)
    # The third prompt is longer than the sliding window.
    starts = [("start", number) for number in (0, 3, len(world.jobs) - 2)]
    game = world.play([*starts, ("step", 0), ("cancel", 1), ("step", 0), ("start", 5)])
    assert moves[0] == (2, 1)
    assert game.finished == 3
