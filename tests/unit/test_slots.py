"""Moves that let llama.cpp decode sequences together."""

from __future__ import annotations

import pytest

from mtpcli.decode.slots import close_ranks


@pytest.mark.parametrize(
    ("held", "free", "moves"),
    [
        ([0], [1, 2], {}),
        ([2, 1, 3], [0], {}),
        ([0, 2], [1], {2: 1}),
        ([0, 5, 6, 7], [1, 2, 3, 4], {0: 4}),
        ([0, 2, 5], [1, 3, 4], {5: 1}),
        # The hole belongs to one that is not decoded in this round.
        ([0, 2], [], {}),
        ([0, 2], [3], {0: 3}),
        ([0, 2, 4], [5], {}),
    ],
)
def test_as_few_as_possible(held: list[int], free: list[int], moves: dict[int, int]) -> None:
    assert close_ranks(held, free) == moves
