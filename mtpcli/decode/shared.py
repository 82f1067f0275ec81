"""How much of what prompts begin with can be taken from another sequence, to the last bit.

llama.cpp computes a row of a long prompt in another way than one of a few rows: from 64 rows on its
attention on the CPU goes by tiles, and matrices are multiplied for rows in groups, those that are
left over one by one. So whatever is decoded apart is decoded with as many rows, and from the same
places on, as if the whole prompt were: the sums are the same then.
"""

from __future__ import annotations

from collections.abc import Callable

LEAST = 128  # tokens; of fewer, little would be left
_TILE = 64  # rows
_GROUP = 16  # rows


def keepable(count: int, capacity: int, room: Callable[[int], int]) -> int:
    """How many of the first `count` tokens of prompts are worth keeping; 0 for none.

    Args:
        capacity: rows that a prompt's decode has at most.
        room: how many cells lie between one at a position and the end of its ring
            (`Target.draft_room`): a prompt may go on at any of the last of the kept cells, and
            dropping others across that end would change the order of those that come then.
    """
    for kept in range(count - count % _GROUP, LEAST - 1, -_GROUP):
        tail = kept % capacity
        if (tail == 0 or tail >= _TILE) and room(kept - _TILE) >= _TILE - 1:
            return kept
    return 0


def takeable(kept: int, length: int, capacity: int) -> tuple[int, int]:
    """How many of the kept tokens a prompt of `length` tokens takes, and where that decode ends.

    Returns:
        `(start, end)`: the prompt goes on with the rows from `start` to `end`, and with decodes of
        `capacity` rows behind it.
    """
    first = kept - kept % capacity
    end = min(first + capacity, length)
    return (kept, kept) if kept == first else (min(kept, (end - _TILE) // _GROUP * _GROUP), end)
