"""Drafts from the text itself."""

from __future__ import annotations

from dataclasses import replace

from mtpcli.config import SamplingConfig
from mtpcli.decode.acceptance import Usual
from mtpcli.decode.depth import AutoDepth
from mtpcli.decode.drafters.lookup import LookupIndex
from mtpcli.decode.engine import Engine
from mtpcli.decode.round_costs import Costs, Curve
from mtpcli.decode.sequence import Request
from tests.fakes import END, VOCAB, FakeDrafter, FakeTarget, ListStream, toy_logits


def index(*tokens: int) -> LookupIndex:
    return LookupIndex(tokens)


def test_what_followed_the_last_time_is_proposed() -> None:
    draft = index(1, 2, 3, 4, 5, 9, 1, 2, 3).draft(3)
    assert draft.tokens == [4, 5, 9]
    assert draft.source == "lookup"
    assert index(1, 2, 3, 7, 1, 2, 3, 8, 1, 2, 3).draft(1).tokens == [8]


def test_nothing_is_proposed_where_nothing_repeats() -> None:
    for tokens in ((), (1, 2), (1, 2, 3, 4, 5), (1, 2, 3, 9, 2, 3)):
        assert index(*tokens).draft(5).tokens == []
    assert index(1, 2, 3, 4, 1, 2, 3).draft(0).tokens == []


def test_it_overlaps_itself_where_a_token_repeats() -> None:
    assert index(7, 7, 7, 7).draft(9).tokens == [7]


def test_a_longer_match_is_surer() -> None:
    short = index(1, 2, 3, 4, 9, 1, 2, 3).draft(1).confidences
    long = index(8, 7, 6, 1, 2, 3, 4, 9, 8, 7, 6, 1, 2, 3).draft(2).confidences
    assert 0 < short[0] < long[0] < long[1] < 1


def test_tokens_are_added_one_by_one() -> None:
    grown = LookupIndex()
    for token in (1, 2, 3, 4, 1, 2):
        grown.add(token)
        assert grown.draft(4).tokens == []
    grown.add(3)
    assert grown.draft(4).tokens == [4, 1, 2, 3]


def flat_costs() -> Costs:
    return Costs(Curve({rows: 0.05 + 0.001 * rows for rows in range(1, 17)}), Curve({1: 0.004}))


def test_lookup_must_earn_its_trust_and_loses_it_when_it_is_wrong() -> None:
    policy = AutoDepth(flat_costs())
    policy.plan(1)
    sure = [0.95] * 15
    assert policy.take("lookup", sure) == 0
    policy.observe_draft_result("lookup", sure, 15)
    policy.plan(1)
    assert policy.take("lookup", sure) > 5
    for _ in range(30):
        policy.plan(1)
        policy.observe_draft_result("lookup", sure, 0)
    assert policy.take("lookup", sure) == 0


def repeated_prompt() -> list[int]:
    """One after which the toy happens to write what stands in it after the same two tokens."""
    prompts = ([4, 5, token, filler, 4, 5] for token in range(1, VOCAB) for filler in range(9))
    return next(prompt for prompt in prompts if toy_logits(prompt).argmax() == prompt[2])


def test_repeated_text_is_drafted_by_lookup_and_stays_the_same() -> None:
    sampling = SamplingConfig(temperature=0)

    def generate(prompt: list[int], *, auto: bool) -> tuple[list[int], set[str]]:
        target = FakeTarget()
        policy = AutoDepth(replace(flat_costs(), usual={"lookup": Usual()}))
        drafter = FakeDrafter(target, wrong=range(1000)) if auto else None
        with Engine(target, drafter, policy, lambda token: token == END) as engine:
            request = Request(prompt, sampling, ListStream(), 40)
            (sequence,) = engine.generate([request])
        return sequence.tokens, set(sequence.stats.by_source)

    prompt = repeated_prompt()
    plain, _ = generate(prompt, auto=False)
    drafted, sources = generate(prompt, auto=True)
    assert drafted == plain
    assert "lookup" in sources


def test_what_lookup_would_have_been_worth_is_seen_without_verifying_it() -> None:
    costs = flat_costs()
    target = FakeTarget()
    drafter = FakeDrafter(target)
    with Engine(target, drafter, AutoDepth(costs), lambda token: token == END) as engine:
        request = Request(repeated_prompt(), SamplingConfig(0), ListStream(), 60)
        (sequence,) = engine.generate([request])
    assert "lookup" not in sequence.stats.by_source
    seen = sum(rate.count for rate in costs.usual["lookup"].sure)
    fresh = sum(rate.count for rate in Usual.doubtful().sure)
    assert seen != fresh
