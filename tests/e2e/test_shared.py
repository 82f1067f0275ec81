"""Prompts that begin alike, on the embedded pair in Q8_0: the same bits as if each were decoded."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mtpcli.config import DraftConfig, RuntimeConfig, SamplingConfig
from mtpcli.decode.depth import FixedDepth
from mtpcli.decode.sequence import Request
from mtpcli.llama.context import TargetContext
from mtpcli.session import PairPaths, Session
from tests.conftest import Pair
from tests.e2e.test_lossless import heldout
from tests.fakes import Steady

SYSTEM = (
    "You are a careful assistant who answers in few words, and says so when something is unclear. "
)
# Tokens of the beginning. The window is of 128 tokens and its ring of 768: of the first less than
# the window is copied, of the last more than the ring.
SHORT, LONG, AROUND = 140, 300, 900
N_CTX = 1280


@pytest.fixture(
    scope="module",
    params=[False, pytest.param(True, marks=pytest.mark.slow)],
    ids=["coupled", "rejection"],
)
def session(request: pytest.FixtureRequest, demo_pair: Pair) -> Iterator[Session]:
    paths = PairPaths(demo_pair.target, demo_pair.drafter)
    runtime = RuntimeConfig(N_CTX, n_seq=3, threads=1, keeper=True)
    with Session(paths, DraftConfig(3, rejection=request.param), runtime) as session:
        yield session


def prompts(session: Session, shared: int, count: int) -> list[list[int]]:
    """Prompts of different lengths that begin alike, one of them with what only some share."""
    begin = session.raw_tokens(SYSTEM * 60)[:shared]
    texts = [text for load in zip(*heldout(), strict=False) for text in load]
    chats = [session.chat_tokens([{"role": "user", "content": text}])[1:] for text in texts[:count]]
    found = [[*begin, *chat] for chat in chats]
    found[2 % count] = [*begin[: shared // 2], *chats[2 % count]]
    return found


def run(
    session: Session, asked: list[list[int]], shared: int, depth: int | None
) -> tuple[list[list[int]], int]:
    """Tokens of all, every other one sampled, and how many cells were taken from others."""
    engine = session.engine
    engine.share(asked[0][:shared])
    engine.policy = Steady() if depth is None else FixedDepth(depth)
    requests: list[Request] = []
    for at, prompt in enumerate(asked):
        sampling = SamplingConfig(temperature=at % 2, seed=at)
        # Some end earlier than their neighbours, who then move.
        requests.append(session.request(prompt, sampling, max_tokens=6 + at * 7 % 20)[0])
    done = engine.generate(requests)
    return [one.tokens for one in done], sum(one.reused for one in done)


SMALL = [(SHORT, 6), (AROUND, 2)]
LARGE = [(SHORT, 24), (200, 24), (LONG, 24), (530, 9), (767, 9), (800, 9), (AROUND, 9)]


@pytest.mark.parametrize(
    ("shared", "count"),
    [*SMALL, *(pytest.param(*case, marks=pytest.mark.slow) for case in LARGE)],
)
@pytest.mark.parametrize(
    "depth",
    [3, pytest.param(0, marks=pytest.mark.slow), pytest.param(None, marks=pytest.mark.slow)],
)
def test_texts_are_those_of_whole_prompts(
    session: Session,
    monkeypatch: pytest.MonkeyPatch,
    shared: int,
    count: int,
    depth: int | None,
) -> None:
    moved: list[int] = []
    move = TargetContext.move

    def watched(self: TargetContext, seq: int, to: int) -> None:
        moved.append(seq)
        move(self, seq, to)

    monkeypatch.setattr(TargetContext, "move", watched)
    asked = prompts(session, shared, count)
    whole, none = run(session, asked, 0, depth)
    assert none == 0
    tokens, taken = run(session, asked, shared, depth)
    assert tokens == whole
    assert taken >= (count - 2) * (shared - 96)
    assert moved or (shared, count, depth) != (SHORT, 6, 3)


@pytest.mark.parametrize(
    ("shared", "length"),
    [
        (SHORT, 150),
        *(
            pytest.param(shared, shared + more, marks=pytest.mark.slow)
            for shared in (128, LONG, 511, 530, 600, 767, 780, 1000, 1100)
            for more in (1, 6, 23, 65, 140)
        ),
    ],
)
def test_cells_are_those_of_a_whole_prompt(session: Session, shared: int, length: int) -> None:
    context, engine = session._context, session.engine
    ids = session.raw_tokens(SYSTEM * 60)
    # Not only the same text again and again.
    prompt = [*ids[:shared], *reversed(ids[shared:length])]
    engine.share([])
    sampling = SamplingConfig(temperature=0)
    states = set()
    for begin in ([], ids[:shared]):
        engine.share(begin)
        for _ in range(4):  # so that it comes to the first slot, with old cells in it
            sequence = engine.start(session.request(prompt, sampling, max_tokens=9)[0])
            if sequence.slot == 0:
                states.add((context.save(0), context.logits(0).tobytes()))
            engine.release(sequence)
    assert len(states) == 1
