"""Which numbers sequences have in the contexts, and what is left in those that nobody holds."""

from __future__ import annotations

from collections.abc import Collection

from mtpcli.decode.sequence import Request, Sequence
from mtpcli.decode.shared import keepable, takeable
from mtpcli.decode.target import Target


class Slots:
    """The target's sequences: the free ones with their cells, and what prompts begin with.

    Methods that need a free slot raise ValueError if there is none.
    """

    def __init__(self, target: Target) -> None:
        self._target = target
        # Each with the tokens whose cells are still in it.
        self._free: dict[int, list[int]] = {slot: [] for slot in range(target.n_seq)}
        self._shared: list[int] = []
        self._kept = False

    @property
    def free(self) -> int:
        """How many nobody holds."""
        return len(self._free)

    def held(self, prompt: list[int]) -> int:
        """How many of the first tokens of a prompt have their cells in a free slot."""
        return max((common(cells, prompt) for cells in self._free.values()), default=0)

    def take(self, request: Request) -> tuple[int, int]:
        """Take a free slot; how many of the cells left in it begin the prompt."""
        slot, reused = self._first(), 0
        if request.reuse:
            shared = {free: common(cells, request.prompt) for free, cells in self._free.items()}
            best = max(shared, key=lambda free: shared[free])
            # The last token is decoded in any case: its logits are wanted.
            count = min(shared[best], len(request.prompt) - 1)
            if count and self._target.can_resume(best, count):
                slot, reused = best, count
        del self._free[slot]
        return slot, reused

    def give_back(self, slot: int, cells: list[int]) -> None:
        """Free a slot, with the tokens whose cells are in it."""
        self._free[slot] = cells

    def save(self) -> tuple[list[int], bytes]:
        """The tokens whose cells the first free slot holds, and the cells as bytes."""
        slot = self._first()
        tokens = self._free[slot]
        # Rows of a rejected draft may stand behind them.
        self._target.forget(slot, len(tokens))
        return tokens, self._target.save(slot)

    def restore(self, tokens: list[int], state: bytes) -> bool:
        """Put a saved state into the first free slot; False if llama.cpp does not take it."""
        slot = self._first()
        taken = self._target.restore(slot, state, len(tokens))
        self._free[slot] = tokens if taken else []
        return taken

    def share(self, beginning: list[int]) -> None:
        """Decode what many prompts begin with only once, for those that do and go on behind it.

        Where a sequence keeps it they get copies; else each decodes it, in the same steps: what a
        prompt's cells are does not depend on which others there are, nor on the memory.
        """
        target = self._target
        count = keepable(len(beginning), target.batch.capacity, target.draft_room)
        self._shared, self._kept = beginning[:count], False

    def begin(self, sequence: Sequence) -> None:
        """The cells of what its prompt shares with others, if it does."""
        prompt, slot, count = sequence.request.prompt, sequence.slot, len(self._shared)
        if not count or len(prompt) <= count or prompt[:count] != self._shared:
            return
        target = self._target
        start, end = takeable(count, len(prompt), target.batch.capacity)
        if target.keeper is None:
            target.prefill(slot, 0, self._shared)
        else:
            if self._kept:
                sequence.reused = start
            else:
                target.forget(target.keeper, 0)
                target.prefill(target.keeper, 0, self._shared)
                self._kept = True
            target.copy(target.keeper, slot)
        target.forget(slot, start)
        if start < end < len(prompt):
            target.prefill(slot, start, prompt[start:end])
            start = end
        sequence.n_past = start

    def gather(self, sequences: list[Sequence]) -> None:
        """Move sequences away from holes that others left: two graphs cost more than a copy."""
        moves = close_ranks([sequence.slot for sequence in sequences], self._free)
        for sequence in sequences:
            slot = moves.get(sequence.slot)
            if slot is not None:
                self._target.move(sequence.slot, slot)
                del self._free[slot]
                self._free[sequence.slot] = []
                sequence.slot = slot

    def _first(self) -> int:
        """The first free one."""
        if not self._free:
            raise ValueError("no slot is free")
        return next(iter(self._free))


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


def common(left: list[int], right: list[int]) -> int:
    """Length of the common beginning of two lists."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))
