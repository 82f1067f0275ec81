"""What makes made-up weights write a text and draft it: the rows of embeddings and heads.

Every token is followed by another one, on a walk that visits all words before it comes back. The
layers add next to nothing, so that the target's hidden state is the token's embedding, and the
row of a token in its head is the embedding of the token before it. The drafter projects that
embedding, and its rows are the projections; for the share of tokens that it shall draft wrong,
they are exchanged with each other. A second token, less likely, may follow each one too, which
matters where text is sampled.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type

from convert.quantize import Bytes, encode
from mtpcli.synthetic.blocks import FloatArray, IdArray, decode_rows, random_bits, random_rows

# Logits, in the target before they are capped, of the token that follows and of the runner-up.
# The others' are around 0, their spread is these over the root of the width.
_TOP = 20.0
_RUNNER_UP_CHANCE = 0.2
# The wrong drafts are spread: in so many steps of the walk, the wanted share.
_STRETCH = 20
_STEP = 2048  # rows at a time
_MAX_WORKERS = 8


@dataclass(frozen=True, eq=False)
class Walk:
    """Which token follows which. Ids below `first` are no words, and follow none.

    Attributes:
        order: int64 `[words]`, the walk; behind its end comes its beginning.
        next: int64 `[tokens]`, what follows a token. Those that are no words begin the walk at
            places far from each other.
        before: int64 `[tokens]`, the word before a word; of other tokens themselves.
    """

    first: int
    order: IdArray
    next: IdArray
    before: IdArray


def make_walk(tokens: int, first: int) -> Walk:
    """A walk over the words `first` ... `tokens - 1` in random order."""
    words = np.arange(first, tokens)
    order = words[np.argsort(random_bits("walk", words, 1)[:, 0])]
    following, before = np.empty(tokens, np.int64), np.arange(tokens)
    following[order] = np.roll(order, -1)
    before[order] = np.roll(order, 1)
    following[:first] = order[np.arange(first) * (len(order) // first)]
    return Walk(first, order, following, before)


def drafted_for(walk: Walk, acceptance: float) -> IdArray:
    """For each word the one that the drafter believes it to follow, int64 `[tokens]`.

    For a share of 1 - `acceptance` of the words that is not the right one.
    """
    stretches = len(walk.order) // _STRETCH
    ends = np.floor(np.arange(stretches + 1) * _STRETCH * (1 - acceptance) + 0.5)
    dice = random_bits("wrong", walk.order[: stretches * _STRETCH], 1).reshape(stretches, _STRETCH)
    ranks = dice.argsort(axis=1).argsort(axis=1)
    wrong = walk.order[: ranks.size][(ranks < np.diff(ends)[:, None]).reshape(-1)]
    origin = walk.before.copy()
    origin[walk.next[wrong]] = np.roll(wrong, -1)
    return origin


def make_clusters(states: FloatArray, count: int) -> npt.NDArray[np.int64]:
    """Put tokens into clusters of equal size by the signs of their first dimensions, roughly.

    Each dimension in turn halves the clusters at their medians.

    Args:
        states: `[tokens, >= log2(count)]`.
        count: a power of two that divides the number of tokens.

    Returns:
        int64 `[tokens]`, the cluster of each.
    """
    groups = np.arange(len(states))[None]
    for dimension in range(count.bit_length() - 1):
        ranks = states[groups, dimension].argsort(axis=1, kind="stable")
        groups = np.take_along_axis(groups, ranks, axis=1).reshape(2 * len(groups), -1)
    clusters = np.empty(len(states), np.int64)
    clusters[groups] = np.arange(count)[:, None]
    return clusters


def make_centroids(count: int, width: int) -> FloatArray:
    """The signs that `make_clusters` sorts by, float32 `[count, width]`, 0 elsewhere."""
    bits = count.bit_length() - 1
    centroids = np.zeros((count, width), np.float32)
    for dimension in range(bits):
        upper = np.arange(count) >> (bits - 1 - dimension) & 1
        centroids[:, dimension] = 2.0 * upper - 1
    return centroids


def runner_up_origins(clusters: npt.NDArray[np.int64], walk: Walk) -> IdArray:
    """Whose runner-up the successor of a word is: another word of its cluster.

    So that an ordered head, which looks into few clusters, finds both. int64 `[tokens]`, of
    tokens that are no words themselves.
    """
    words = np.arange(walk.first, len(clusters))
    ranked = words[np.argsort(clusters[words], kind="stable")]
    kinds = clusters[ranked]
    origins = np.arange(len(clusters))
    starts = np.flatnonzero(np.r_[True, kinds[1:] != kinds[:-1]])
    ends = np.r_[starts[1:], len(ranked)] - 1
    previous = np.roll(ranked, 1)
    previous[starts] = ranked[ends]
    origins[ranked] = previous
    return origins


def pre_projection(width: int, backbone: int, kind: Type) -> tuple[Bytes, FloatArray]:
    """The drafter's first matrix: a random half for the embedding, nothing for the hidden state.

    Returns:
        uint8 `[width, bytes per row]`, and the values of the first half, float32
        `[width, backbone]`.
    """
    half = decode_rows(Type.F32, random_rows(Type.F32, "projection", np.arange(width), backbone))
    full = np.concatenate([half, np.zeros_like(half)], axis=1)
    rows = encode(full.reshape(-1), kind).reshape(width, -1)
    return rows, decode_rows(kind, rows)[:, :backbone]


def drafter_states(
    tokens: int,
    embedding: Callable[[IdArray], FloatArray],
    projection: FloatArray,
    progress: Callable[[int], None],
) -> npt.NDArray[np.float16]:
    """The drafter's state for each token, float16 `[tokens, width]` of root mean square 1."""
    states = np.empty((tokens, len(projection)), np.float16)

    def fill(start: int) -> int:
        ids = np.arange(start, min(start + _STEP, tokens))
        states[ids] = normed(embedding(ids) @ projection.T)
        return len(ids)

    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MAX_WORKERS)) as pool:
        for count in pool.map(fill, range(0, tokens, _STEP)):
            progress(count)
    return states


def head_rows(
    states: FloatArray, others: FloatArray, softcap: float = 0.0, starts: FloatArray | None = None
) -> FloatArray:
    """Rows of a head, each of the token that follows in one state and is runner-up in another.

    The two logits are exact, whatever the two states have in common.

    Args:
        states: `[n, width]` of root mean square 1, after which the token follows.
        others: the same, after which it is the runner-up.
        softcap: how the model caps its logits.
        starts: states after which it follows too, zeros where there is none.
    """
    width = states.shape[1]
    common = (states * others).mean(axis=1, keepdims=True)
    aside = others - common * states
    share = (_runner_up(softcap) - common) / np.maximum(1 - common**2, 1e-3)
    rows = states + share * aside
    if starts is not None:
        rows += starts - (starts * states).mean(axis=1, keepdims=True) * states
    rows *= np.float32(_TOP / width)
    return rows


def _runner_up(softcap: float) -> float:
    """The runner-up's logit, as a share of the top one's."""
    gap = np.log(1 / _RUNNER_UP_CHANCE - 1)
    if not softcap:
        return float(1 - gap / _TOP)
    capped = softcap * np.tanh(_TOP / softcap) - gap
    return float(softcap * np.arctanh(capped / softcap) / _TOP)


def normed(values: FloatArray) -> FloatArray:
    """Values divided by their root mean square along the last axis, as the last norm does it."""
    normed: FloatArray = values / np.sqrt((values**2).mean(axis=-1, keepdims=True))
    return normed
