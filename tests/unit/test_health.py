"""A drafter that fails, or is never right: the text goes on, and it is said once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from mtpcli.config import SamplingConfig
from mtpcli.decode import sampling
from mtpcli.decode.depth import DepthPolicy, FixedDepth
from mtpcli.decode.drafters.base import Draft, DraftRequest, GoOn
from mtpcli.decode.engine import Engine
from mtpcli.decode.health import DrafterHealth
from mtpcli.decode.sequence import Request
from mtpcli.errors import ModelError
from tests.fakes import END, VOCAB, FakeConstraint, FakeDrafter, FakeTarget, ListStream, Steady

LIMITS = (16, 5, 20, 9, 12)


class Failing(FakeDrafter):
    """Fails at one of its draft steps, in the middle of a round, and for ever after."""

    def __init__(self, target: FakeTarget, steps: int, error: BaseException) -> None:
        super().__init__(target, wrong=range(6, 60, 5))
        self._left, self._error = steps, error

    def draft(self, requests: Sequence[DraftRequest], go_on: GoOn) -> list[Draft]:
        def counting(confidences: Sequence[float]) -> bool:
            self._left -= 1
            if self._left <= 0:
                raise self._error
            return go_on(confidences)

        assert not self.closed, "asked again"
        return super().draft(requests, counting)


def requests(constraints: list[FakeConstraint], greedy: bool) -> list[Request]:
    def opened() -> FakeConstraint:
        constraints.append(FakeConstraint())
        return constraints[-1]

    return [
        Request(
            [number + 1, 7, 7, 2, 7, 7],
            SamplingConfig(temperature=0 if greedy else 1, seed=number),
            ListStream(),
            limit,
            constraint=opened if number == 2 else None,
        )
        for number, limit in enumerate(LIMITS)
    ]


def run(
    engine: Engine, greedy: bool, constraints: list[FakeConstraint] | None = None
) -> list[list[int]]:
    sequences = engine.generate(requests([] if constraints is None else constraints, greedy))
    return [sequence.tokens for sequence in sequences]


def plain(greedy: bool) -> list[list[int]]:
    with Engine(FakeTarget(), None, FixedDepth(0), lambda token: token == END) as engine:
        return run(engine, greedy)


@pytest.mark.parametrize("greedy", [True, False])
@pytest.mark.parametrize("n_seq", [1, 3])
@pytest.mark.parametrize("error", [ModelError("decode failed"), MemoryError()])
def test_a_failure_at_any_step_changes_no_text(greedy: bool, n_seq: int, error: Exception) -> None:
    expected = plain(greedy)
    for steps in (1, 2, 4, 7, 12, 27):
        target = FakeTarget(n_seq=n_seq)
        drafter, constraints = Failing(target, steps, error), list[FakeConstraint]()
        with Engine(target, drafter, FixedDepth(4), lambda token: token == END) as engine:
            assert run(engine, greedy, constraints) == expected
            assert drafter.closed == 1
            (notice,) = engine.health.news()
            assert notice.endswith(str(error) or "out of memory")
            assert engine.health.failure == (str(error) or "out of memory")
            assert engine.health.news() == [], "said twice"
            # And nothing is drafted in what comes later.
            target.decodes.clear()
            assert run(engine, greedy) == expected
            assert max(target.decodes) <= n_seq
        for constraint in constraints:
            assert constraint.open[0] <= 1, "a clone of the failed draft is open"


def test_a_bug_in_a_drafter_is_not_hidden() -> None:
    target = FakeTarget()
    drafter = Failing(target, 3, ValueError("bug"))
    with (
        Engine(target, drafter, FixedDepth(4), lambda token: False) as engine,
        pytest.raises(ValueError, match="bug"),
    ):
        run(engine, True)


@pytest.mark.parametrize("temperature", [0, 1])
def test_logits_that_are_no_numbers_are_a_failure(temperature: int) -> None:
    config = SamplingConfig(temperature=temperature, seed=3)
    texts = []
    for model in (None, lambda context: np.full(VOCAB, np.nan, np.float32)):
        target = FakeTarget()
        drafter = FakeDrafter(target, model=model)
        with Engine(target, drafter, FixedDepth(3), lambda token: False) as engine:
            (sequence,) = engine.generate([Request([1, 2], config, ListStream(), 30)])
            failed = engine.health.failure
        texts.append(sequence.tokens)
        assert (failed is not None) == (model is not None)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("temperature", [0, 1])
def test_a_target_without_numbers_is_an_error(value: float, temperature: int) -> None:
    logits = np.full(VOCAB, value, np.float32)
    with pytest.raises(ModelError, match="not numbers"):
        sampling.choose(logits, SamplingConfig(temperature=temperature), 3)


# Drafting costs little, as it does where memory is the limit.
FLAT = Steady(verify={1: 1.0, 16: 1.1}, draft=0.05)


@pytest.mark.parametrize("policy", [FixedDepth(3), FLAT])
def test_drafts_that_are_never_right_are_told_once(policy: DepthPolicy) -> None:
    target = FakeTarget(n_ctx=256)
    drafter = FakeDrafter(target, wrong=range(256))
    with Engine(target, drafter, policy, lambda token: False) as engine:
        # The automatic depth drafts ever less, so that it takes a few texts to know.
        for _ in range(10):
            engine.generate([Request([1, 2], SamplingConfig(seed=1), ListStream(), 240)])
        (notice,) = engine.health.notices
        assert notice.startswith("of 12 drafts 0 were right") and "another target" in notice
        assert engine.health.failure is None


def test_a_drafter_that_fits_is_not_doubted() -> None:
    target = FakeTarget(n_ctx=256)
    drafter = FakeDrafter(target, wrong=[at for at in range(256) if at % 3])
    with Engine(target, drafter, FixedDepth(2), lambda token: False) as engine:
        engine.generate([Request([1, 2], SamplingConfig(seed=1), ListStream(), 200)])
        assert engine.health.notices == []


def test_a_drafter_that_becomes_useless_is_told_late() -> None:
    health = DrafterHealth()
    for _ in range(10):
        health.observe(3)
    for _ in range(239):
        health.observe(0)
    assert health.news() == []
    health.observe(0)
    assert health.news()[0].startswith("of 250 drafts 10 were right")
