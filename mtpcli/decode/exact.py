"""Which numbers of rows give the same bits, and rounds that keep to them.

A kernel may sum in another order when it has more rows to work on. Logits then differ in their last
bits, and where two tokens are nearly as likely another one is chosen. Numbers of rows that gave the
same bits everywhere they were tried are as good as one another: text that is decoded by such alone
does not depend on how much was drafted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from mtpcli.config import MAX_DRAFT_DEPTH

if TYPE_CHECKING:
    from mtpcli.decode.target import Target

FloatArray = npt.NDArray[np.float32]

MOST_ROWS = MAX_DRAFT_DEPTH + 1
# What is compared at each place: enough that most row counts write cells that later rows read.
_STRETCH = 20
# A count may agree by luck at one place. Short places are cheap, and each has tokens of its own.
_SHORT = (4, 17, 40, 77, 120)
_SECOND_CELLS = 250  # attention is split among threads from 256 cells on: across that border


class Tensor(Protocol):
    """What is asked of a tensor: its shape without trailing ones, and ggml's name of its type."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def type(self) -> str: ...


@dataclass(frozen=True)
class RowReport:
    """What came of comparing decodes of 1 to 16 rows.

    Attributes:
        places: positions at which the same tokens were decoded in all ways.
        difference: by rows, the largest difference of a logit from that of single rows.
        classes: row counts that gave the same bits at every place, each count in one class.
    """

    places: tuple[int, ...]
    difference: dict[int, float]
    classes: tuple[tuple[int, ...], ...]

    def identical(self, rows: int) -> bool:
        """Whether so many rows at once give the same bits as one after another."""
        return rows in self.classes[0]

    def with_single_apart(self) -> RowReport:
        """The same, with no row count like a single row.

        For files with matrices of floats: a single row is multiplied by another kernel than
        several are, but what differs may be rounded away by the next quantisation nearly always,
        and so be missed. That of Gemma 4's per-layer embeddings is often such a matrix.
        """
        first = tuple(rows for rows in self.classes[0] if rows > 1)
        rest = (first,) if first else ()
        return replace(self, classes=((1,), *rest, *self.classes[1:]))

    def exact_rows(self) -> tuple[int, ...]:
        """The row counts to keep to: those like single rows; if there are none, those like two.

        With the latter a round without a draft has a second row that nobody looks at.
        """
        single = self.classes[0]
        if len(single) > 1:
            return single
        pairs = next((each for each in self.classes[1:] if each[0] == 2 and len(each) > 1), None)
        return pairs or single


def has_float_matrices(tensors: Iterable[Tensor]) -> bool:
    """Whether some matrices of a file are not quantised."""
    kinds = ("f32", "f16", "bf16")
    return any(len(tensor.shape) > 1 and tensor.type in kinds for tensor in tensors)


def compare_rows(target: Target, progress: Callable[[str], None] = lambda text: None) -> RowReport:
    """Decode the same tokens one by one, in twos, threes ... sixteens, at several places.

    Rows after the first decode of a stretch read the cells that it wrote, so cells are compared
    too. It uses the first sequence's cells and leaves them empty.
    """
    places = _places(target.n_ctx, target.draft_room(0) + 1)
    difference = dict.fromkeys(range(1, MOST_ROWS + 1), 0.0)
    digests: dict[int, list[bytes]] = {rows: [] for rows in difference}
    for number, place in enumerate(places, 1):
        progress(f"comparing row counts, place {number} of {len(places)}")
        target.forget(0, 0)
        target.prefill(0, 0, [1])
        vocabulary = target.logits(0).size
        noise = np.random.default_rng(place)
        tokens = noise.integers(0, vocabulary, place + _STRETCH + MOST_ROWS).tolist()
        target.forget(0, 0)
        target.prefill(0, 0, tokens[:place])
        single: list[FloatArray] = []
        for rows in difference:
            digest = hashlib.blake2b(digest_size=16)
            for index, logits in enumerate(_stretch(target, tokens, place, rows)):
                digest.update(logits.tobytes())
                if rows == 1:
                    single.append(logits.copy())
                else:
                    largest = float(np.abs(logits - single[index]).max())
                    difference[rows] = max(difference[rows], largest)
            digests[rows].append(digest.digest())
    target.forget(0, 0)
    return RowReport(places, difference, _classes(digests))


def _places(n_ctx: int, ring: int) -> tuple[int, ...]:
    """Short ones, across 256 cells, beyond the sliding window's ring, and near the end.

    Not across the ring's end: cells that were dropped there come back in another order.
    """
    room = n_ctx - _STRETCH - MOST_ROWS
    # The end of a long context would take minutes to come to, and is like what is before it.
    end = room if room + _STRETCH + MOST_ROWS <= ring else 0
    wanted = {*_SHORT, _SECOND_CELLS, ring + _STRETCH, end}
    return tuple(sorted(place for place in wanted if 0 < place <= room))


def _stretch(target: Target, tokens: list[int], place: int, rows: int) -> list[FloatArray]:
    """Logits along a stretch that is decoded `rows` at a time."""
    target.forget(0, place)
    batch = target.batch
    found: list[FloatArray] = []
    for start in range(place, place + _STRETCH, rows):
        batch.token[:rows] = tokens[start : start + rows]
        batch.pos[:rows] = range(start, start + rows)
        batch.seq[:rows] = 0
        batch.output[:rows] = 1
        target.decode(rows, rows)
        found += [target.logits(row).copy() for row in range(rows)]
    return found[:_STRETCH]


def _classes(digests: dict[int, list[bytes]]) -> tuple[tuple[int, ...], ...]:
    """Keys of equal values, in the order of the keys."""
    groups: dict[tuple[bytes, ...], list[int]] = {}
    for rows, values in digests.items():
        groups.setdefault(tuple(values), []).append(rows)
    return tuple(tuple(group) for group in groups.values())


def fit(counts: Sequence[int], rows: int) -> int:
    """The number of rows to decode where `rows` are wanted: the next below, or the least."""
    return max((count for count in counts if count <= rows), default=min(counts))
