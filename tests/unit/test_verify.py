"""Acceptance, as a table of drafts and target's choices."""

from __future__ import annotations

import numpy as np
import pytest

from mtpcli.decode.verify import Probabilities, accept, reject


@pytest.mark.parametrize(
    ("draft", "target", "kept"),
    [
        ([], [7], [7]),
        ([1, 2, 3], [1, 2, 3, 4], [1, 2, 3, 4]),
        ([1, 2, 3], [9, 2, 3, 4], [9]),
        ([1, 2, 3], [1, 9, 3, 4], [1, 9]),
        ([1, 2, 3], [1, 2, 9, 4], [1, 2, 9]),
        ([5, 5], [5, 6, 5], [5, 6]),
    ],
)
def test_accept(draft: list[int], target: list[int], kept: list[int]) -> None:
    asked: list[int] = []

    def choose(index: int) -> int:
        asked.append(index)
        return target[index]

    assert accept(draft, choose) == kept
    assert asked == list(range(len(kept)))


def spread(*values: float) -> Probabilities:
    return Probabilities(np.arange(len(values)), np.array(values))


P = (spread(0.5, 0.3, 0.15, 0.05), spread(0.1, 0.1, 0.4, 0.4), spread(0.25, 0.25, 0.25, 0.25))
Q = (spread(0.2, 0.2, 0.3, 0.3), Probabilities(np.array([3, 1, 7]), np.array([0.5, 0.3, 0.2])))


def chi_square(counts: np.ndarray, p: Probabilities) -> float:
    expected = p.values * counts.sum()
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("draws", [8000, pytest.param(50_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("certain", [False, True], ids=["sampled draft", "certain draft"])
def test_rejection_gives_the_targets_distribution(certain: bool, draws: int) -> None:
    dice = np.random.default_rng(11)
    first, second = np.zeros(4), np.zeros(4)
    for _ in range(draws):
        draft = [2, 1] if certain else [int(dice.choice(q.ids, p=q.values)) for q in Q]
        tokens = reject(
            draft,
            lambda place: None if certain else Q[place],
            lambda place: P[place],
            lambda place: float(dice.random()),
            lambda place, w: int(dice.choice(w.ids, p=w.values / w.values.sum())),
        )
        first[tokens[0]] += 1
        if len(tokens) > 1:
            second[tokens[1]] += 1
    # 0.1 % of fair generators exceed 16.27 at 3 degrees of freedom.
    assert chi_square(first, P[0]) < 16.27
    assert chi_square(second, P[1]) < 16.27
    expected = P[0].of(2) if certain else np.minimum(P[0].values, Q[0].values).sum()
    assert second.sum() / draws == pytest.approx(expected, abs=0.02)


def test_rejection_keeps_everything_of_an_equal_draft() -> None:
    tokens = reject(
        [0, 3],
        lambda place: P[place],
        lambda place: P[place],
        lambda place: 1 - 1e-12,
        lambda place, w: 2,
    )
    assert tokens == [0, 3, 2]


def test_rejection_where_nothing_is_left_draws_from_the_target() -> None:
    # p is a shade below q at the only token of both: rounding, not a difference.
    only = Probabilities(np.array([5]), np.array([1.0]))
    almost = Probabilities(np.array([5]), np.array([1.0 - 1e-16]))
    tokens = reject(
        [5], lambda _: only, lambda _: almost, lambda _: 1.0, lambda _, w: int(w.ids[0])
    )
    assert tokens == [5]
