"""Which numbers sequences have in the contexts, as far as it matters to llama.cpp."""

from __future__ import annotations

from collections.abc import Collection


def close_ranks(held: Collection[int], free: Collection[int]) -> dict[int, int]:
    """Moves to free slots after which the held ones follow one another; none if that cannot be.

    llama.cpp decodes at once only sequences whose numbers do (`llama_batch_allocr::split_equal`),
    and computes a graph of its own for each such run. As few as possible are moved.
    """
    if max(held) - min(held) < len(held):
        return {}
    slots = {*held, *free}
    places = [
        place for first in sorted(slots) if (place := set(range(first, first + len(held)))) <= slots
    ]
    if not places:
        return {}
    best = max(places, key=lambda place: len(place.intersection(held)))
    return dict(zip(sorted(set(held) - best), sorted(best.difference(held)), strict=True))
