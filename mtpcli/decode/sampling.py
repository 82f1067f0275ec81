"""From logits to a token: greedy, or sampled with noise that depends on nothing but the place.

The noise of a token is a function of (seed, position, token id). Drawing the token with the largest
log-probability plus Gumbel noise is drawing from the distribution (the Gumbel-max trick), and since
plain decoding, drafting and verifying all see the same noise, they agree wherever their
distributions agree: Daliri, Musco and Suresh, "Coupling without communication and drafter-invariant
speculative decoding" (2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from mtpcli.config import SamplingConfig
from mtpcli.decode.sharpness import FACTORS, Sharpness
from mtpcli.errors import InputError, ModelError

if TYPE_CHECKING:
    from mtpcli.decode.constraint import Constraint

FloatArray = npt.NDArray[np.float32]
IdArray = npt.NDArray[np.int64]
# Which of the tokens `[n]` a grammar allows, as bools `[n]`.
Allowed = Callable[[IdArray], npt.NDArray[np.bool_]]

# With top-k on, tokens exp(16) times less likely than the best are not kept where there are many.
# It bounds the work per row to a comparison or two over the vocabulary; sorting 262144 logits would
# cost more than a draft.
_WINDOW, _FEW = 16.0, 8192
# What top-p leaves is mostly within a factor of exp(8) of the best, and few. As top-k leaves few
# others too, nobody needs to add up the whole vocabulary.
_NEAR, _SORTED = 8.0, 512
_MANY = 16  # one in so many is too many to pick them out
_FAR_WEIGHT = math.exp(-_NEAR)  # of a token that is not near, at most
_ROUNDING = 1.0001  # more than a sum in single precision may be wrong by
# Where a grammar allows none of the kept tokens, it is asked about so many times more, until it
# allows one: asking about the whole vocabulary costs as much as a decode.
_WIDER = 16

_MASK = 2**64 - 1
_GOLDEN, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
# Made once: NumPy takes longer to convert an int than to multiply by it.
_NP_GOLDEN, _NP_MIX_1, _NP_MIX_2 = (np.uint64(number) for number in (_GOLDEN, _MIX_1, _MIX_2))
_NP_30, _NP_27, _NP_31, _NP_11 = (np.uint64(shift) for shift in (30, 27, 31, 11))
_NO_LOGIT = np.zeros(1)  # of the only token there is


class DeadEnd(InputError):
    """A grammar allows none of the tokens there are."""


class Distribution(NamedTuple):
    """The tokens that may come next.

    Attributes:
        ids: int64 `[n]`, most likely first, ties by id.
        logits: float64 `[n]`, divided by the temperature, not normalised.
    """

    ids: IdArray
    logits: npt.NDArray[np.float64]

    def probabilities(self) -> npt.NDArray[np.float64]:
        """Float64 `[n]` that sum to 1."""
        weights = np.exp(self.logits - self.logits[0])
        return weights / weights.sum()


def greedy(logits: FloatArray, allowed: Allowed | None = None) -> int:
    """The most likely token of float32 `[n_vocab]`; of equals the one with the smallest id.

    Raises:
        ModelError: the logits are not numbers.
        DeadEnd: no token at all is allowed.
    """
    best = int(logits.argmax())
    _checked(logits[best])
    if allowed is None or allowed(np.array([best]))[0]:
        return best
    return int(_best_allowed(logits, _WIDER, allowed)[0])


def distribution(
    logits: FloatArray, config: SamplingConfig, allowed: Allowed | None = None
) -> Distribution:
    """What top-k, top-p, min-p and temperature leave, in llama.cpp's order: temperature last.

    A grammar comes between top-k and top-p. If it allows nothing of what top-k leaves, it is
    asked about ever more tokens, the most likely first.

    Args:
        logits: float32 `[n_vocab]`.
        config: with a temperature above 0.
        allowed: which tokens may come next; None is all.

    Raises:
        ModelError: the logits are not numbers.
        DeadEnd: no token at all is allowed.
    """
    top = int(logits.argmax())
    best = _checked(logits[top])
    near = (logits >= best - _NEAR).nonzero()[0]
    most = _most(logits, near, best, config.top_k)
    if most * config.top_p <= 1.0:
        # The best token alone reaches top-p, as it mostly does: nothing to sort.
        alone = np.array([top])
        if allowed is None or allowed(alone)[0]:
            return Distribution(alone, _NO_LOGIT)
    ids = _nucleus(logits, near, best, most, config) if allowed is None else None
    certain = ids is not None
    if ids is None:
        ids = _top_k(logits, near, best, config.top_k)
    if allowed is not None:
        good = ids[allowed(ids)]
        ids = good if good.size else _best_allowed(logits, ids.size * _WIDER, allowed)
        ids = ids[: config.top_k or None]
    scores = logits[ids].astype(np.float64)
    if config.top_p < 1.0 and not certain:
        weights = np.exp(scores - scores[0])
        before = weights.cumsum() - weights
        count = int(before.searchsorted(config.top_p * weights.sum()))
        ids, scores = ids[: max(1, count)], scores[: max(1, count)]
    if config.min_p:
        likely = scores >= scores[0] + np.log(config.min_p)
        ids, scores = ids[likely], scores[likely]
    return Distribution(ids, scores / config.temperature)


def _most(logits: FloatArray, near: IdArray, best: float, top_k: int) -> float:
    """What the tokens that top-k leaves weigh together at most, where the best one weighs 1."""
    if not top_k:
        return float(np.exp(logits - best).sum()) * _ROUNDING
    weight = float(np.exp(logits[near] - best).sum()) if near.size > 1 else 1.0
    return (weight + max(0, top_k - near.size) * _FAR_WEIGHT) * _ROUNDING


def _nucleus(
    logits: FloatArray, near: IdArray, best: float, most: float, config: SamplingConfig
) -> IdArray | None:
    """What top-k and top-p leave, if the few tokens near the best one tell: much less to sort."""
    if near.size > _SORTED:
        return None
    # The sort is stable and the places ascend, so that equal logits are kept in a fixed order.
    near = near[(-logits[near]).argsort(kind="stable")[: config.top_k or None]]
    weights = np.exp(logits[near].astype(np.float64) - best)
    sums = weights.cumsum()
    least = float(sums[-1])
    if near.size == config.top_k:
        most = least
    if config.top_p * most > least:
        return None
    before = sums - weights
    count, longest = before.searchsorted((config.top_p * least, config.top_p * most))
    return near[: max(1, count)] if count == longest else None


def _top_k(logits: FloatArray, near: IdArray, best: float, count: int) -> IdArray:
    """Ids of the `count` largest (0: of all), the largest first, of equals the first."""
    if not count:
        return (-logits).argsort(kind="stable")
    if near.size < count:
        near = (logits >= best - (_WINDOW if logits.size > _FEW else np.inf)).nonzero()[0]
    if count < near.size:
        cut = np.partition(logits[near], near.size - count)[near.size - count]
        near = near[logits[near] >= cut]
    return near[(-logits[near]).argsort(kind="stable")[:count]]


def _checked(best: np.float32) -> float:
    """The largest logit, seen to be a number; if one of them is none, it is the largest."""
    value = float(best)
    if not math.isfinite(value):
        raise ModelError("the model returned logits that are not numbers: is the file damaged?")
    return value


def _allowed(constraint: Constraint | None, ids: IdArray | None) -> Allowed | None:
    """What a constraint says about places in `ids`, where there are ids."""
    if constraint is None:
        return None
    if ids is None:
        return constraint.allowed
    grammar, names = constraint, ids  # narrowed: neither is None any more
    return lambda places: grammar.allowed(names[places])


def _best_allowed(logits: FloatArray, count: int, allowed: Allowed) -> IdArray:
    """Ids of the allowed ones among the best `count` tokens, or of more if there is none."""
    while count < logits.size:
        cut = np.partition(logits, logits.size - count)[logits.size - count]
        ids = np.flatnonzero(logits >= cut)
        ids = ids[np.argsort(-logits[ids], kind="stable")][:count]
        good = ids[allowed(ids)]
        if good.size:
            return good
        count *= _WIDER
    ids = np.argsort(-logits, kind="stable")
    good = ids[allowed(ids)]
    if not good.size:
        raise DeadEnd("the grammar asks for something that no token of this model can write")
    return good


def gumbel(ids: IdArray, seed: int, position: int) -> npt.NDArray[np.float64]:
    """Gumbel noise of tokens: a function of (seed, position, id), the same on every machine.

    The hash is splitmix64's finaliser (Steele, Lea and Flood, 2014) over a key per position.
    """
    key = _mix(_mix(seed + _GOLDEN) + position * _GOLDEN)
    # The same steps as in _mix, on an array, whose uint64 arithmetic wraps around by itself.
    bits = ids.astype(np.uint64)
    bits *= _NP_GOLDEN
    bits += np.uint64(key)
    bits ^= bits >> _NP_30
    bits *= _NP_MIX_1
    bits ^= bits >> _NP_27
    bits *= _NP_MIX_2
    bits ^= bits >> _NP_31
    uniform = ((bits >> _NP_11).astype(np.float64) + 0.5) * 2.0**-53
    return -np.log(-np.log(uniform))


def _mix(x: int) -> int:
    x &= _MASK
    x = (x ^ (x >> 30)) * _MIX_1 & _MASK
    x = (x ^ (x >> 27)) * _MIX_2 & _MASK
    return x ^ (x >> 31)


class Drawn(NamedTuple):
    """A drafted token.

    Attributes:
        token: its id.
        probability: its own, 0 to 1, at the sharpness that it was drawn with.
        kept: what it was drawn from; None if it was the most likely one.
        rivals: what each of the factors of `sharpness` would have drawn, if not all the same.
    """

    token: int
    probability: float
    kept: Distribution | None
    rivals: Sequence[int] | None = None


def choose(
    logits: FloatArray,
    config: SamplingConfig,
    position: int,
    ids: IdArray | None = None,
    constraint: Constraint | None = None,
    recent: Sequence[int] = (),
) -> int:
    """The token at `position`: greedy at temperature 0, else drawn with the position's noise.

    Args:
        logits: float32 `[n]`; penalties change them in place.
        config: how to sample; its seed and `position` alone decide the noise.
        position: absolute position in the sequence of the token that is chosen.
        ids: int64 `[n]`, the tokens that the logits belong to; None is the whole vocabulary.
        constraint: what may come next; it is asked, and not moved on.
        recent: the last tokens, for penalties.

    Raises:
        DeadEnd: the constraint allows none of the tokens.
    """
    if config.temperature == 0:
        _penalise(logits, config, ids, recent)
        best = greedy(logits, _allowed(constraint, ids))
        return best if ids is None else int(ids[best])
    kept = candidates(logits, config, ids, constraint, recent)
    return pick(kept, config.seed, position)


def draw(
    logits: FloatArray,
    config: SamplingConfig,
    position: int,
    ids: IdArray | None = None,
    constraint: Constraint | None = None,
    recent: Sequence[int] = (),
    sharpness: Sharpness | None = None,
) -> Drawn:
    """What `choose` gives, with its probability: among what is kept, or among all if greedy.

    Args:
        sharpness: above temperature 0, how far to trust these logits as a guess of the target's.
    """
    if config.temperature == 0:
        _penalise(logits, config, ids, recent)
        best = greedy(logits, _allowed(constraint, ids))
        top = float(logits[best] if constraint is None else logits.max())
        weights = np.exp(_worth_adding(logits, top) - top)
        probability = math.exp(float(logits[best]) - top) / float(weights.sum())
        return Drawn(best if ids is None else int(ids[best]), probability, None)
    kept = candidates(logits, config, ids, constraint, recent)
    if kept.ids.size == 1:
        return Drawn(int(kept.ids[0]), 1.0, kept)
    noise = gumbel(kept.ids, config.seed, position)
    if sharpness is None:
        at = int((kept.logits + noise).argmax())
        return Drawn(int(kept.ids[at]), float(kept.probabilities()[at]), kept)
    sharp = np.multiply.outer(FACTORS, kept.logits)
    places = (sharp + noise).argmax(axis=1).tolist()
    at = places[sharpness.best]
    rivals = kept.ids[places].tolist() if any(place != at for place in places) else None
    believed = sharp[sharpness.best]
    weights = np.exp(believed - believed[0])
    return Drawn(int(kept.ids[at]), float(weights[at] / weights.sum()), kept, rivals)


def _worth_adding(logits: FloatArray, top: float) -> FloatArray:
    """The logits without those too small to matter, where finding them takes less than adding."""
    if logits.size <= _FEW:
        return logits
    there = logits >= top - _WINDOW
    return logits[there] if np.count_nonzero(there) < logits.size // _MANY else logits


def candidates(
    logits: FloatArray,
    config: SamplingConfig,
    ids: IdArray | None = None,
    constraint: Constraint | None = None,
    recent: Sequence[int] = (),
) -> Distribution:
    """What a token is drawn from, above temperature 0; the arguments are those of `choose`."""
    _penalise(logits, config, ids, recent)
    kept = distribution(logits, config, _allowed(constraint, ids))
    return kept if ids is None else Distribution(ids[kept.ids], kept.logits)


def pick(kept: Distribution, seed: int, position: int) -> int:
    """The token that the noise of `position` picks."""
    if kept.ids.size == 1:
        return int(kept.ids[0])
    return int(kept.ids[(kept.logits + gumbel(kept.ids, seed, position)).argmax()])


def uniform(seed: int, position: int) -> float:
    """A number in (0, 1) that depends on seed and position, and on no token's noise."""
    return ((_mix(_mix(seed ^ _GOLDEN) + position * _MIX_1) >> 11) + 0.5) * 2.0**-53


def _penalise(
    logits: FloatArray, config: SamplingConfig, ids: IdArray | None, recent: Sequence[int]
) -> None:
    """Lower the logits of recent tokens, in place, as llama.cpp's penalties do."""
    if not recent or not config.penalises:
        return
    tokens, counts = np.unique(np.asarray(recent[-config.recent :]), return_counts=True)
    places = tokens
    if ids is not None:
        order = np.argsort(ids)
        found = np.searchsorted(ids, tokens, sorter=order).clip(max=ids.size - 1)
        there = ids[order[found]] == tokens
        places, counts = order[found[there]], counts[there]
    values = logits[places]
    values = np.where(values > 0, values / config.repetition, values * config.repetition)
    logits[places] = values - config.presence - counts * config.frequency
