"""The same text with and without the drafter, token for token, on the embedded pair in Q8_0."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from mtpcli.config import DraftConfig, RuntimeConfig, SamplingConfig
from mtpcli.demo.pack import SNAPSHOTS
from mtpcli.session import PairPaths, Session
from tests.conftest import Pair

DEPTHS = (1, 3, 7)
SEEDS = range(20)


@dataclass(frozen=True)
class Prompt:
    """A held-out prompt and how to sample its answer."""

    text: str
    sampling: SamplingConfig


def heldout(per_workload: int) -> list[str]:
    workloads = json.loads(Path(SNAPSHOTS / "heldout.json").read_text(encoding="utf-8"))
    return [item["prompt"] for items in workloads.values() for item in items[:per_workload]]


class Runner:
    """Keeps one session per (depth, sequences) open, so that files are loaded once each."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._sessions: dict[tuple[int, int], Session] = {}

    def tokens(self, prompts: Sequence[Prompt], depth: int, n_seq: int = 1) -> list[list[int]]:
        session = self._session(depth, n_seq)
        requests = [
            session.request(
                session.chat_tokens([{"role": "user", "content": prompt.text}]),
                prompt.sampling,
                max_tokens=96,
            )[0]
            for prompt in prompts
        ]
        return [sequence.tokens for sequence in session.engine.generate(requests)]

    def _session(self, depth: int, n_seq: int) -> Session:
        if (depth, n_seq) not in self._sessions:
            paths = PairPaths(self._pair.target, self._pair.drafter if depth else None)
            runtime = RuntimeConfig(n_ctx=512, n_seq=n_seq, threads=1)
            self._sessions[depth, n_seq] = Session(paths, DraftConfig(depth), runtime)
        return self._sessions[depth, n_seq]

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()


@pytest.fixture(scope="module")
def runner(demo_pair: Pair) -> Iterator[Runner]:
    runner = Runner(demo_pair)
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def greedy(runner: Runner) -> tuple[list[Prompt], list[list[int]]]:
    prompts = [Prompt(text, SamplingConfig(temperature=0)) for text in heldout(10)]
    assert len(prompts) == 60
    return prompts, runner.tokens(prompts, depth=0)


@pytest.fixture(scope="module")
def sampled(runner: Runner) -> tuple[list[Prompt], list[list[int]]]:
    texts = heldout(10)
    prompts = [
        Prompt(texts[(7 * seed + 3 * k) % len(texts)], SamplingConfig(seed=seed))
        for seed in SEEDS
        for k in range(3)
    ]
    return prompts, runner.tokens(prompts, depth=0)


@pytest.mark.parametrize("depth", DEPTHS)
def test_greedy_text_is_the_same(
    runner: Runner, greedy: tuple[list[Prompt], list[list[int]]], depth: int
) -> None:
    prompts, plain = greedy
    assert runner.tokens(prompts, depth) == plain


@pytest.mark.parametrize("depth", DEPTHS)
def test_sampled_text_is_the_same(
    runner: Runner, sampled: tuple[list[Prompt], list[list[int]]], depth: int
) -> None:
    prompts, plain = sampled
    assert runner.tokens(prompts, depth) == plain


@pytest.mark.parametrize("depth", [0, 3])
def test_two_sequences_at_once_equal_each_alone(
    runner: Runner, sampled: tuple[list[Prompt], list[list[int]]], depth: int
) -> None:
    prompts, plain = sampled
    assert runner.tokens(prompts[:24], depth, n_seq=2) == plain[:24]


def test_seeds_give_different_texts(
    sampled: tuple[list[Prompt], list[list[int]]], greedy: tuple[list[Prompt], list[list[int]]]
) -> None:
    # Otherwise the equalities above would say little.
    stories = {tuple(tokens) for tokens in sampled[1]}
    assert len(stories) > len({prompt.text for prompt in sampled[0]}) * 0.8
    assert any(len(tokens) > 20 for tokens in greedy[1])


def test_sessions_can_be_closed_twice_and_opened_again(demo_pair: Pair) -> None:
    paths = PairPaths(demo_pair.target, demo_pair.drafter)
    for _ in range(3):
        session = Session(paths, DraftConfig(3), RuntimeConfig(n_ctx=256, threads=1))
        request, stream = session.request(
            session.raw_tokens("Once"), session.sampling, max_tokens=4
        )
        assert list(session.engine.rounds([request]))
        assert stream.answer
        session.close()
        session.close()
