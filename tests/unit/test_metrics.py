"""Counting drafts."""

from __future__ import annotations

from mtpcli.decode.metrics import SpeculationStats


def test_shares_by_position() -> None:
    stats = SpeculationStats()
    stats.add(drafted=3, accepted=3, kept=4)
    stats.add(drafted=3, accepted=1, kept=2)
    stats.add(drafted=1, accepted=1, kept=2)
    stats.add(drafted=0, accepted=0, kept=1)
    assert stats.acceptance_by_position == [1.0, 0.5, 0.5]
    assert stats.acceptance == 5 / 7
    assert stats.tokens_per_round == 9 / 4
    assert (stats.rounds, stats.plain_rounds) == (4, 1)


def test_nothing_drafted() -> None:
    stats = SpeculationStats()
    assert stats.acceptance is None
    assert stats.tokens_per_round is None
    assert stats.acceptance_by_position == []


def test_merge_adds_counts_of_different_depths() -> None:
    first, second = SpeculationStats(), SpeculationStats()
    first.add(drafted=1, accepted=1, kept=2)
    second.add(drafted=3, accepted=2, kept=3)
    first.merge(second)
    assert first.drafted_at == [2, 1, 1]
    assert first.accepted_at == [2, 1, 0]
    assert (first.rounds, first.tokens, first.drafted) == (2, 5, 4)
