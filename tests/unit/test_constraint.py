"""Constrained text on the fake target: the same with any draft, valid, and nothing left open."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from mtpcli.config import SamplingConfig
from mtpcli.decode import sampling
from mtpcli.decode.depth import FixedDepth
from mtpcli.decode.engine import Engine
from mtpcli.decode.sampling import DeadEnd, choose, distribution
from mtpcli.decode.sequence import Request, Sequence
from mtpcli.errors import ModelError
from tests.fakes import END, FakeConstraint, FakeDrafter, FakeTarget, ListStream

GREEDY = SamplingConfig(temperature=0)
PROMPT = [3, 1, 4, 1, 5]


class Constraints:
    """Opens constraints and knows how many are still open."""

    def __init__(self) -> None:
        self.opened: list[FakeConstraint] = []

    def __call__(self) -> FakeConstraint:
        self.opened.append(FakeConstraint())
        return self.opened[-1]

    @property
    def left_open(self) -> int:
        return sum(constraint.open[0] for constraint in self.opened)


def generate(
    depth: int,
    config: SamplingConfig,
    wrong: tuple[int, ...] = (),
    *,
    obedient: bool = True,
    max_tokens: int = 40,
) -> Sequence:
    target, constraints = FakeTarget(), Constraints()
    drafter = FakeDrafter(target, wrong) if depth else None
    if drafter:
        drafter.obedient = obedient
    request = Request(PROMPT, config, ListStream(), max_tokens, constraint=constraints)
    with Engine(target, drafter, FixedDepth(depth), lambda token: token == END) as engine:
        (sequence,) = engine.generate([request])
    assert len(constraints.opened) == 1
    assert constraints.left_open == 0
    return sequence


@pytest.mark.parametrize("depth", [1, 2, 3, 7, 15])
@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3])
def test_text_does_not_depend_on_the_draft(depth: int, seed: int | None) -> None:
    config = GREEDY if seed is None else SamplingConfig(seed=seed)
    plain = generate(0, config)
    for wrong in ((), (6,), (7, 9, 10, 16), tuple(range(6, 60))):
        drafted = generate(depth, config, wrong)
        assert drafted.tokens == plain.tokens
        assert drafted.finish_reason == plain.finish_reason
    assert generate(depth, config, obedient=False).tokens == plain.tokens


def test_every_token_is_allowed_and_the_end_comes_where_it_may() -> None:
    ended = 0
    for seed in range(20):
        sequence = generate(3, SamplingConfig(seed=seed), max_tokens=200)
        replayed = FakeConstraint()
        for token in sequence.tokens:
            replayed.accept(token)  # asserts
        if sequence.finish_reason == "stop":
            ended += 1
            assert sequence.tokens.index(END) == len(sequence.tokens) - 1 >= 6
    assert ended > 10


def test_a_perfect_drafter_under_a_constraint_is_always_accepted() -> None:
    stats = [generate(3, SamplingConfig(seed=seed)).stats for seed in range(5)]
    # What it drafts past the end is not kept.
    assert sum(one.accepted for one in stats) > 0.95 * sum(one.drafted for one in stats)
    blind = [generate(3, SamplingConfig(seed=seed), obedient=False).stats for seed in range(5)]
    assert sum(one.accepted for one in blind) < sum(one.accepted for one in stats)


def test_the_limit_cuts_and_says_so() -> None:
    sequence = generate(3, GREEDY, max_tokens=4)
    assert (len(sequence.tokens), sequence.finish_reason) == (4, "length")


def test_several_sequences_keep_their_constraints_apart() -> None:
    def run(n_seq: int, depth: int) -> list[list[int]]:
        target, constraints = FakeTarget(n_seq=n_seq), Constraints()
        requests = [
            Request([i + 1, 7], SamplingConfig(seed=i), ListStream(), 30, constraint=constraints)
            for i in range(5)
        ]
        drafter = FakeDrafter(target, wrong=(6, 9))
        with Engine(target, drafter, FixedDepth(depth), lambda token: token == END) as engine:
            tokens = [sequence.tokens for sequence in engine.generate(requests)]
        assert (len(constraints.opened), constraints.left_open) == (5, 0)
        return tokens

    assert run(3, 4) == run(1, 0)


def test_leaving_early_closes_what_was_open() -> None:
    target, constraints = FakeTarget(n_seq=2), Constraints()
    requests = [Request(PROMPT, GREEDY, ListStream(), constraint=constraints) for _ in range(3)]
    with Engine(target, FakeDrafter(target), FixedDepth(3), lambda token: False) as engine:
        rounds = engine.rounds(requests)
        next(rounds)
        next(rounds)
        assert constraints.left_open == 2
        rounds.close()
    # The third has never started.
    assert (len(constraints.opened), constraints.left_open) == (2, 0)


@pytest.mark.parametrize("failing", ["prefill", "decode"])
def test_a_failure_closes_what_was_open(failing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise ModelError("no")

    target, constraints = FakeTarget(), Constraints()
    monkeypatch.setattr(target, failing, fail)
    request = Request(PROMPT, GREEDY, ListStream(), constraint=constraints)
    with Engine(target, FakeDrafter(target), FixedDepth(3), lambda token: False) as engine:
        with pytest.raises(ModelError):
            list(engine.rounds([request]))
        assert (len(constraints.opened), constraints.left_open) == (1, 0)
        monkeypatch.undo()
        # The slot is free again.
        assert engine.generate([Request(PROMPT, GREEDY, ListStream(), 3)])[0].tokens


def test_a_dead_end_is_an_error_and_closes_what_was_open() -> None:
    class Impossible(FakeConstraint):
        def allowed(self, ids: np.ndarray) -> np.ndarray:
            return np.zeros(ids.size, np.bool_)

    opened: list[Impossible] = []

    def constraint() -> FakeConstraint:
        opened.append(Impossible())
        return opened[-1]

    request = Request(PROMPT, GREEDY, ListStream(), constraint=constraint)
    with Engine(FakeTarget(), None, FixedDepth(0), lambda token: False) as engine:
        with pytest.raises(DeadEnd, match="no token"):
            list(engine.rounds([request]))
        assert opened[0].open == [0]


def only(*good: int) -> Callable[[np.ndarray], np.ndarray]:
    return lambda ids: np.isin(ids, good)


def test_the_grammar_comes_before_top_p() -> None:
    logits = np.log(np.array([0.6, 0.3, 0.1], np.float32))
    config = SamplingConfig(top_k=0, top_p=0.7)
    assert distribution(logits, config).ids.tolist() == [0, 1]
    # Without the first one, the second has .75 of what is left.
    assert distribution(logits, config, only(1, 2)).ids.tolist() == [1]


def test_top_k_is_what_the_grammar_chooses_from() -> None:
    logits = np.array([5, 4, 3, 2, 1, 0], np.float32)
    config = SamplingConfig(top_k=3, top_p=1)
    assert distribution(logits, config, only(2, 3, 4)).ids.tolist() == [2]


def test_more_candidates_where_none_of_the_kept_is_allowed() -> None:
    logits = np.random.default_rng(3).standard_normal(5000).astype(np.float32)
    order = np.argsort(-logits, kind="stable")
    config = SamplingConfig(top_k=4, top_p=1)
    for rank in (70, 2000, 4999):
        good = (int(order[rank]), int(order[rank - 1]))
        assert sampling.greedy(logits, only(*good)) == good[1]
        kept = distribution(logits, config, only(*good)).ids.tolist()
        assert kept == [good[1], good[0]]
    # However many of those more are allowed, top-k stays.
    kept = distribution(logits, config, lambda ids: ~np.isin(ids, order[:4]))
    assert kept.ids.tolist() == order[4:8].tolist()


def test_a_sure_model_is_not_believed_where_the_grammar_disagrees() -> None:
    logits = np.array([30, 0, 1], np.float32)
    assert distribution(logits, SamplingConfig(), only(1, 2)).ids.tolist() == [2, 1]
    assert distribution(logits, SamplingConfig(), only(0)).ids.tolist() == [0]


def test_where_the_model_is_sure_one_token_is_asked_about() -> None:
    class Asked(FakeConstraint):
        def allowed(self, ids: np.ndarray) -> np.ndarray:
            self.asked[0] = max(self.asked[0], ids.size)
            return np.ones(ids.size, np.bool_)

    logits = np.zeros(1000, np.float32)
    logits[7] = 30
    for config in (GREEDY, SamplingConfig()):
        constraint = Asked()
        assert choose(logits, config, 0, constraint=constraint) == 7
        assert constraint.asked == [1]


def test_a_part_of_the_vocabulary_is_asked_about_by_its_ids() -> None:
    constraint = FakeConstraint()  # begins behind 1: neither 1, 4, 7, ... nor the end
    ids = np.array([40, 7, 9, 0])
    logits = np.array([4, 3, 2, 1], np.float32)
    for config in (GREEDY, SamplingConfig()):
        assert choose(logits, config, 5, ids, constraint) == 9
        with pytest.raises(DeadEnd):
            choose(logits[:2], config, 5, ids[:2], constraint)
