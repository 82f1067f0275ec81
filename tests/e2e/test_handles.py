"""What llama.cpp gave is given back, whatever fails on the way, and only once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from time import sleep
from typing import Any

import pytest

from mtpcli.config import DraftConfig, RuntimeConfig, SamplingConfig
from mtpcli.decode.depth import AutoDepth
from mtpcli.decode.round_costs import Costs, Curve
from mtpcli.llama import context, threads
from mtpcli.llama import lib as llama
from mtpcli.llama.devices import features
from mtpcli.session import PairPaths, Session
from tests.conftest import Pair

CALLS = ("llama_model_load_from_file", "llama_model_free", "llama_init_from_model", "llama_free")
POOL_CALLS = ("_new", "_free")
TASKS = Path("/proc/self/task")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what is opened and freed."""
    lib, counted = llama.load(), Counter[str]()

    def count(name: str) -> Any:
        own = getattr(lib, name)

        def call(*arguments: Any) -> Any:
            counted[name] += 1
            return own(*arguments)

        return call

    def count_pool(name: str) -> Any:
        own = getattr(threads, name)()

        def call(argument: Any) -> Any:
            counted[name] += 1
            return own(argument)

        return lambda: call

    for name in CALLS:
        monkeypatch.setattr(lib, name, count(name))
    for name in POOL_CALLS:
        monkeypatch.setattr(threads, name, count_pool(name))
    return counted


def open_session(pair: Pair, head: bool | None = None) -> Session:
    runtime = RuntimeConfig(n_ctx=256, threads=1)
    return Session(PairPaths(pair.target, pair.drafter), DraftConfig(3, head), runtime)


def opened_and_freed(calls: Counter[str]) -> list[int]:
    return [calls[name] for name in CALLS]


@pytest.mark.parametrize("head", [None, True])
def test_all_is_freed_once(demo_pair: Pair, calls: Counter[str], head: bool | None) -> None:
    session = open_session(demo_pair, head)
    drafter, target = session.engine._drafter, session.engine._target
    assert drafter
    for owner in (session, session, session.engine, drafter, target, session.model):
        owner.close()
    assert opened_and_freed(calls) == [2, 2, 2, 2]
    assert [calls[name] for name in POOL_CALLS] == [1, 1]


@pytest.mark.skipif(not TASKS.is_dir(), reason="Linux tells what threads do")
def test_all_decodes_are_done_by_the_same_threads(demo_pair: Pair) -> None:
    if "OPENMP" in features()["CPU"]:
        pytest.skip("OpenMP keeps the threads")

    def nanoseconds() -> dict[str, int]:
        return {
            task.name: int((task / "schedstat").read_text().split()[0]) for task in TASKS.iterdir()
        }

    others = nanoseconds()
    runtime = RuntimeConfig(n_ctx=256, threads=3)
    with Session(
        PairPaths(demo_pair.target, demo_pair.drafter), DraftConfig(3), runtime
    ) as session:
        sleep(0.2)  # until they sleep: a new thread looks out for work
        started = nanoseconds()
        session.engine.generate([session.request([2, 3], SamplingConfig(0), max_tokens=9)[0]])
        ended = nanoseconds()
        workers = ended.keys() - others
        assert len(workers) == 2
        assert all(ended[worker] > started[worker] for worker in workers)
    assert nanoseconds().keys() == others.keys()


@pytest.mark.parametrize(
    ("where", "opened"),
    [
        ("mtpcli.decode.drafters.ordered_head.load_ordered_head", [1, 1, 1, 1]),
        ("mtpcli.decode.drafters.mtp.MtpDrafter", [2, 2, 2, 2]),
        ("mtpcli.decode.engine.Engine", [2, 2, 2, 2]),
        ("mtpcli.llama.context.TargetContext", [1, 1, 0, 0]),
    ],
)
def test_an_interrupt_while_it_opens(
    demo_pair: Pair,
    calls: Counter[str],
    monkeypatch: pytest.MonkeyPatch,
    where: str,
    opened: list[int],
) -> None:
    def interrupted(*_arguments: Any, **_options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupted)
    with pytest.raises(KeyboardInterrupt):
        open_session(demo_pair)
    assert opened_and_freed(calls) == opened


def test_no_memory_for_a_batch(
    demo_pair: Pair, calls: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The target's ends it; without the drafter's it goes on."""
    made: list[int] = []

    class Batch(context.Batch):
        def __init__(self, capacity: int, n_embd: int = 0) -> None:
            made.append(n_embd)
            if len(made) != 2:
                raise MemoryError
            super().__init__(capacity, n_embd)

    monkeypatch.setattr(context, "Batch", Batch)
    with pytest.raises(MemoryError):
        open_session(demo_pair)
    assert opened_and_freed(calls) == [1, 1, 0, 0]
    with open_session(demo_pair) as session:
        assert session.drafter_name is None
        assert session.engine.health.failure == "out of memory"
        request = session.request(session.raw_tokens("Once"), session.sampling, max_tokens=3)[0]
        assert len(session.engine.generate([request])[0].tokens) == 3
    assert opened_and_freed(calls) == [3, 3, 1, 1]


def test_a_drafter_that_is_given_up_is_freed_at_once(demo_pair: Pair, calls: Counter[str]) -> None:
    with open_session(demo_pair) as session:
        session.engine.give_up_drafter(MemoryError())
        assert opened_and_freed(calls) == [2, 0, 2, 1]
    assert opened_and_freed(calls) == [2, 2, 2, 2]


@pytest.mark.parametrize("depth", [None, 3])
def test_the_drafter_gets_the_threads_that_are_known_to_be_best(
    demo_pair: Pair, monkeypatch: pytest.MonkeyPatch, depth: int | None
) -> None:
    known = Costs(Curve({1: 1.0}), Curve({1: 0.1}), draft_threads=1)
    given: list[int] = []
    monkeypatch.setattr("mtpcli.costs.load_costs", lambda path: known)
    monkeypatch.setattr("mtpcli.costs.save_costs", lambda path, costs: None)
    monkeypatch.setattr(
        context.DrafterContext, "set_threads", lambda self, threads: given.append(threads)
    )
    runtime = RuntimeConfig(n_ctx=256, threads=2)
    with Session(PairPaths(demo_pair.target, demo_pair.drafter), DraftConfig(depth), runtime):
        assert given == [1]


@pytest.mark.parametrize("rejection", [False, True])
def test_drafts_that_may_be_rejected_are_not_judged_by_comparing(
    demo_pair: Pair, rejection: bool
) -> None:
    """They are sampled by themselves: what differs from the text might have been accepted."""
    draft, runtime = DraftConfig(rejection=rejection), RuntimeConfig(n_ctx=256, threads=1)
    with Session(PairPaths(demo_pair.target, demo_pair.drafter), draft, runtime) as session:
        policy = session.engine.policy
        assert isinstance(policy, AutoDepth)
        assert policy.watch is not rejection
