"""How far drafts of sampled text trust their drafter."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mtpcli.config import SamplingConfig
from mtpcli.decode.depth import FixedDepth
from mtpcli.decode.drafters.base import Draft, DraftRequest, GoOn
from mtpcli.decode.engine import Engine
from mtpcli.decode.sequence import Request
from mtpcli.decode.sharpness import Sharpness
from tests.fakes import FakeDrafter, FakeTarget, ListStream, toy_logits


def test_the_factor_that_was_right_lately_is_the_best() -> None:
    sharpness = Sharpness()
    first = sharpness.best
    sharpness.observe([1, 2, 2], token=3)  # none was right
    assert sharpness.best == first
    for best in (2, 0, 1, 2):
        rivals = [7, 7, 7]
        rivals[best] = 8
        for _ in range(8):
            sharpness.observe(rivals, token=8)
        assert sharpness.best == best


@pytest.mark.parametrize("sureness", [0.4, 1.0])
def test_drafts_are_as_sharp_as_their_drafter_is_unsure(sureness: float) -> None:
    """One whose probabilities are too even is right more often if it is trusted more."""

    def right(factor: int | None) -> float:
        target = FakeTarget()
        drafter = FakeDrafter(target, model=lambda context: toy_logits(context) * sureness)
        with Engine(target, drafter, FixedDepth(2), lambda token: False) as engine:
            if factor is not None:
                engine.sharpness = Constant(factor)
            requests = [
                Request([1 + n], SamplingConfig(seed=n, top_k=0, top_p=1), ListStream(), 80)
                for n in range(4)
            ]
            found = engine.generate(requests)
        drafted = sum(sequence.stats.drafted for sequence in found)
        return sum(sequence.stats.accepted for sequence in found) / drafted

    learnt = right(None)
    assert learnt > 0.93 * max(right(factor) for factor in range(3))
    assert learnt > 1.1 * min(right(factor) for factor in range(3))


@pytest.mark.parametrize("rejection", [False, True])
def test_drafts_that_may_be_rejected_are_as_likely_as_the_drafter_says(rejection: bool) -> None:
    asked: list[Sharpness | None] = []

    class Asked(FakeDrafter):
        def draft(self, requests: Sequence[DraftRequest], go_on: GoOn) -> list[Draft]:
            asked.extend(request.sharpness for request in requests)
            return super().draft(requests, go_on)

    target = FakeTarget()
    policy = FixedDepth(2)
    with Engine(target, Asked(target), policy, lambda token: False, rejection=rejection) as engine:
        engine.generate([Request([1], SamplingConfig(), ListStream(), 9)])
        assert {*asked} == {None if rejection else engine.sharpness}


class Constant(Sharpness):
    """Learns nothing."""

    def __init__(self, best: int) -> None:
        super().__init__()
        self.best = best

    def observe(self, rivals: object, token: int) -> None: ...
