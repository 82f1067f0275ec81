"""Target and drafter on the device that the binding finds: the same texts, drafts accepted.

`make test-vulkan` runs it on Vulkan, where Mesa's llvmpipe will do in place of a GPU. That compiles
every kernel for minutes, and so few tokens say enough.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mtpcli.config import DraftConfig, RuntimeConfig, SamplingConfig
from mtpcli.decode.depth import FixedDepth
from mtpcli.decode.sequence import Sequence
from mtpcli.llama.devices import choose_devices
from mtpcli.session import PairPaths, Session
from tests.conftest import Pair

pytestmark = pytest.mark.device

PROMPTS = (
    "Write a short story about a curious fox.",
    "Extract the data as JSON: Oscar, a pilot from Lisbon, is 41 years old.",
)
GREEDY = SamplingConfig(temperature=0)
SAMPLED = SamplingConfig(seed=7)


def open_session(pair: Pair, *, n_seq: int = 1, ordered_head: bool = False) -> Session:
    runtime = RuntimeConfig(n_ctx=256, n_seq=n_seq, threads=1)
    draft = DraftConfig(3, ordered_head=ordered_head)
    return Session(PairPaths(pair.target, pair.drafter), draft, runtime)


def generate(session: Session, sampling: SamplingConfig, depth: int) -> list[Sequence]:
    session.engine.policy = FixedDepth(depth)
    return session.engine.generate(
        session.request(
            session.chat_tokens([{"role": "user", "content": prompt}]), sampling, max_tokens=24
        )[0]
        for prompt in PROMPTS
    )


@pytest.fixture(scope="module")
def session(demo_pair: Pair) -> Iterator[Session]:
    assert choose_devices(()), "this binding finds no device: see `mtpcli devices`"
    with open_session(demo_pair) as session:
        yield session


@pytest.fixture(scope="module")
def plain(session: Session) -> dict[SamplingConfig, list[list[int]]]:
    """Tokens without drafts, on the device."""
    return {
        sampling: [sequence.tokens for sequence in generate(session, sampling, 0)]
        for sampling in (GREEDY, SAMPLED)
    }


def check(found: list[Sequence], expected: list[list[int]]) -> None:
    assert [sequence.tokens for sequence in found] == expected
    drafted = sum(sequence.stats.drafted for sequence in found)
    accepted = sum(sequence.stats.accepted for sequence in found)
    assert accepted > drafted / 3 > 5


def test_all_layers_are_there(session: Session) -> None:
    assert session.model.devices


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
def test_drafts_on_the_device_do_not_change_the_text(
    session: Session, plain: dict[SamplingConfig, list[list[int]]], sampling: SamplingConfig
) -> None:
    check(generate(session, sampling, 3), plain[sampling])


def test_ordered_head_reads_the_device(
    demo_pair: Pair, plain: dict[SamplingConfig, list[list[int]]]
) -> None:
    with open_session(demo_pair, ordered_head=True) as session:
        check(generate(session, GREEDY, 3), plain[GREEDY])


def test_two_sequences_at_once(
    demo_pair: Pair, plain: dict[SamplingConfig, list[list[int]]]
) -> None:
    with open_session(demo_pair, n_seq=2) as session:
        check(generate(session, GREEDY, 3), plain[GREEDY])


def test_the_cpu_begins_the_same(
    demo_pair: Pair, plain: dict[SamplingConfig, list[list[int]]]
) -> None:
    # Kernels round differently, so a text may part later at two tokens that are about as likely.
    runtime = RuntimeConfig(n_ctx=256, threads=1, devices=("cpu",))
    paths = PairPaths(demo_pair.target, demo_pair.drafter)
    with Session(paths, DraftConfig(0), runtime) as session:
        assert not session.model.devices
        found = [sequence.tokens[:8] for sequence in generate(session, GREEDY, 0)]
    assert found == [tokens[:8] for tokens in plain[GREEDY]]
