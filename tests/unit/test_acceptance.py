"""How often drafts are right: what is learnt of a text, and what is known before it begins."""

from __future__ import annotations

import pytest

from mtpcli.decode.acceptance import Acceptance, Rate, Usual


def test_a_rate_moves_from_what_is_expected_to_what_is_seen() -> None:
    rate = Rate()
    assert rate.value(0.8, 4) == 0.8
    for _ in range(400):
        rate.add(False)
    assert rate.value(0.8, 4) < 0.01


def test_positions_not_seen_are_as_good_as_the_one_before() -> None:
    acceptance = Acceptance()
    for _ in range(50):
        acceptance.observe([0.9, 0.9], 1)
    first, second, third, *_ = acceptance.by_position()
    assert first > 0.95
    assert second < 0.3
    # The third comes after a second that was right, of which there is none.
    assert third == pytest.approx(second, abs=0.05)


def test_what_is_usual_is_known_before_the_first_draft() -> None:
    usual = Usual()
    much = Acceptance(usual)
    for _ in range(300):
        much.observe([0.5, 0.5, 0.5], 2)
    fresh = Acceptance(usual).by_position()
    assert fresh[0] > 0.9
    assert fresh[1] > 0.9
    assert fresh[2] < 0.2


def test_a_text_that_is_harder_than_usual_is_harder_at_all_positions() -> None:
    usual = Usual()
    much = Acceptance(usual)
    for _ in range(300):
        much.observe([0.5] * 4, 4)
    hard = Acceptance(usual)
    before = hard.by_position()
    for _ in range(12):
        hard.observe([0.5] * 4, 0)
    after = hard.by_position()
    assert all(late < early for late, early in zip(after[:8], before[:8], strict=True))


def test_confidence_tells_how_long_a_draft_survives() -> None:
    acceptance = Acceptance()
    for _ in range(100):
        acceptance.observe([0.97, 0.2], 1)
    chances = acceptance.survivals([0.97, 0.97, 0.2])
    assert chances[0] == 1.0
    assert chances[2] > 0.9
    assert chances[3] < 0.1


@pytest.mark.parametrize("right", [0, 1])
def test_a_drafter_too_sure_or_not_sure_enough_is_so_at_every_confidence(right: int) -> None:
    acceptance = Acceptance()
    before = acceptance.survivals([0.6])[1]
    for _ in range(20):
        acceptance.observe([0.75], right)
    after = acceptance.survivals([0.6])[1]
    assert after > before + 0.1 if right else after < before - 0.1
