"""The same text with and without the drafter, token for token, on the embedded pair in Q8_0."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from mtpcli.config import DraftConfig, RuntimeConfig, SamplingConfig
from mtpcli.decode.acceptance import Usual
from mtpcli.decode.depth import DepthPolicy, FixedDepth
from mtpcli.demo.pack import SNAPSHOTS
from mtpcli.session import PairPaths, Session
from tests.conftest import Pair
from tests.fakes import Steady, Whim

# Automatic, fixed, and whatever comes to mind: that one takes lookups and cuts drafts too.
MODES = ("auto", 1, 3, 7, "whim")


@dataclass(frozen=True)
class Size:
    """How much of the held-out prompts is compared.

    Attributes:
        prompts: of each workload, decoded greedily.
        seeds: of each workload, each with another of its prompts.
        max_tokens: limit of an answer; None is the context.
    """

    prompts: int | None
    seeds: int
    max_tokens: int | None


SIZES = [
    pytest.param(Size(5, 5, 96), id="some"),
    pytest.param(Size(None, 100, None), id="all", marks=pytest.mark.slow),
]


@dataclass(frozen=True)
class Prompt:
    """A held-out prompt and how to sample its answer."""

    text: str
    sampling: SamplingConfig


def heldout() -> list[list[str]]:
    """The prompts of each workload."""
    workloads = json.loads(Path(SNAPSHOTS / "heldout.json").read_text(encoding="utf-8"))
    return [[item["prompt"] for item in items] for items in workloads.values()]


class Runner:
    """Keeps one session per number of sequences open, so that files are loaded once each."""

    def __init__(self, pair: Pair, max_tokens: int | None) -> None:
        self._paths = PairPaths(pair.target, pair.drafter)
        self._max_tokens = max_tokens
        self._sessions: dict[int, Session] = {}

    def tokens(self, prompts: Sequence[Prompt], mode: str | int, n_seq: int = 1) -> list[list[int]]:
        session = self._session(n_seq)
        session.engine.policy = _policy(mode)
        requests = [
            session.request(
                session.chat_tokens([{"role": "user", "content": prompt.text}]),
                prompt.sampling,
                max_tokens=self._max_tokens,
            )[0]
            for prompt in prompts
        ]
        sequences = session.engine.generate(requests)
        sources = {source for sequence in sequences for source in sequence.stats.by_source}
        lookups = {"lookup"} if mode in ("auto", "whim") and n_seq == 1 else set()
        assert sources == ({"mtp"} | lookups if mode else set())
        return [sequence.tokens for sequence in sequences]

    def _session(self, n_seq: int) -> Session:
        if n_seq not in self._sessions:
            runtime = RuntimeConfig(n_ctx=512, n_seq=n_seq, threads=1)
            self._sessions[n_seq] = Session(self._paths, DraftConfig(1), runtime)
        return self._sessions[n_seq]

    def close(self) -> None:
        for session in self._sessions.values():
            session.close()


def _policy(mode: str | int) -> DepthPolicy:
    if mode == "whim":
        return Whim(5)
    if mode == "auto":
        # Lookup is trusted from the beginning: these texts are short.
        return Steady({"lookup": Usual()})
    return FixedDepth(int(mode))


@pytest.fixture(scope="module", params=SIZES)
def size(request: pytest.FixtureRequest) -> Size:
    found = request.param
    assert isinstance(found, Size)
    return found


@pytest.fixture(scope="module")
def runner(demo_pair: Pair, size: Size) -> Iterator[Runner]:
    runner = Runner(demo_pair, size.max_tokens)
    yield runner
    runner.close()


@pytest.fixture(scope="module")
def greedy(runner: Runner, size: Size) -> tuple[list[Prompt], list[list[int]]]:
    texts = [text for prompts in heldout() for text in prompts[: size.prompts]]
    prompts = [Prompt(text, SamplingConfig(temperature=0)) for text in texts]
    return prompts, runner.tokens(prompts, 0)


@pytest.fixture(scope="module")
def sampled(runner: Runner, size: Size) -> tuple[list[Prompt], list[list[int]]]:
    prompts = [
        Prompt(texts[7 * seed % len(texts)], SamplingConfig(seed=seed))
        for seed in range(size.seeds)
        for texts in heldout()
    ]
    return prompts, runner.tokens(prompts, 0)


@pytest.mark.parametrize("mode", MODES)
def test_greedy_text_is_the_same(
    runner: Runner, greedy: tuple[list[Prompt], list[list[int]]], mode: str | int
) -> None:
    prompts, plain = greedy
    assert runner.tokens(prompts, mode) == plain


@pytest.mark.parametrize("mode", MODES)
def test_sampled_text_is_the_same(
    runner: Runner, sampled: tuple[list[Prompt], list[list[int]]], mode: str | int
) -> None:
    prompts, plain = sampled
    assert runner.tokens(prompts, mode) == plain


@pytest.mark.parametrize("mode", [0, 3])
def test_two_sequences_at_once_equal_each_alone(
    runner: Runner, sampled: tuple[list[Prompt], list[list[int]]], mode: str | int
) -> None:
    prompts, plain = sampled
    assert runner.tokens(prompts[:24], mode, n_seq=2) == plain[:24]


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
