"""The order in which llama.cpp decodes the rows of several sequences."""

from __future__ import annotations

import pytest

from mtpcli.llama.context import decode_order


@pytest.mark.parametrize(
    ("seqs", "order"),
    [
        ([0], [0]),
        ([0, 1, 2], [0, 1, 2]),
        ([2, 1, 0], [0, 1, 2]),
        ([1, 0, 2], [0, 2, 1]),
        ([0, 3, 1, 2], [0, 2, 3, 1]),
        ([3, 4, 0, 1], [0, 1, 2, 3]),
    ],
)
def test_runs_of_rising_numbers(seqs: list[int], order: list[int]) -> None:
    assert decode_order(seqs) == order
