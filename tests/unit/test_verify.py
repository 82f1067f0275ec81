"""Acceptance, as a table of drafts and target's choices."""

from __future__ import annotations

import pytest

from mtpcli.decode.verify import accept


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
