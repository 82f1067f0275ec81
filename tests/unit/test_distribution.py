"""What the engine writes is as likely as the definition of its sampling says, draft or no draft.

The target is a table: its logits depend on the last two tokens, and so do penalties that look at
two tokens. So the probability of every token is known from the definition, computed here without
the sampler that is tested, and the tokens of many short texts are counted against it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from mtpcli.config import SamplingConfig
from mtpcli.decode.depth import DepthPolicy, FixedDepth
from mtpcli.decode.engine import Engine
from mtpcli.decode.sequence import Request
from tests.fakes import FakeDrafter, FakeTarget, ListStream, Logits, Steady, Whim

VOCAB = 7
DEPTH = 3
LENGTH = 100  # tokens of a text
Array = npt.NDArray[np.float64]


def table(seed: int, spread: float) -> Array:
    """Logits after each pair of tokens, `[VOCAB, VOCAB, VOCAB]`."""
    return np.random.default_rng(seed).standard_normal((VOCAB,) * 3) * spread


TARGET = table(1, 1.5)
# Related to the target, but of another opinion about what is likely and what is possible.
DRAFTER = 0.6 * TARGET + table(2, 1.0)


def model(logits: Array) -> Logits:
    rows = logits.astype(np.float32)
    return lambda context: rows[context[-2], context[-1]].copy()


def by_definition(logits: Array, config: SamplingConfig, recent: Sequence[int]) -> Array:
    """Probabilities `[VOCAB]`: penalties, top-k, top-p, min-p, temperature, in this order."""
    scores = logits.copy()
    for token in set(recent):
        score = scores[token]
        scores[token] = score / config.repetition if score > 0 else score * config.repetition
        scores[token] -= config.presence + config.frequency * recent.count(token)
    kept = sorted(range(VOCAB), key=lambda token: -scores[token])[: config.top_k or None]
    likely = np.exp(scores[kept]) / np.exp(scores[kept]).sum()
    while likely[: len(kept) - 1].sum() >= config.top_p:
        kept.pop()
    kept = [token for at, token in enumerate(kept) if likely[at] >= config.min_p * likely[0]]
    result = np.zeros(VOCAB)
    result[kept] = np.exp(scores[kept] / config.temperature)
    return result / result.sum()


def policy(name: str) -> DepthPolicy:
    if name == "auto":
        return Steady()
    return Whim(4) if name == "whim" else FixedDepth(DEPTH if name == "fixed" else 0)


def count(
    config: SamplingConfig, how: DepthPolicy, rejection: bool, draws: int
) -> tuple[npt.NDArray[np.int64], float]:
    """Tokens `[place in a round, token before the last, last token, token]`, and acceptance.

    A place of a round is only reached by what stood before it, never by the token that comes
    there: so at each place all tokens must be as likely as everywhere.
    """
    counts = np.zeros((3 * DEPTH, VOCAB, VOCAB, VOCAB), np.int64)
    target = FakeTarget(n_seq=2, model=model(TARGET))
    drafter = FakeDrafter(target, model=model(DRAFTER))
    drafter.honest = not isinstance(how, Whim)
    drafted = accepted = 0
    requests = [
        Request([seed % VOCAB, seed % 5], replace(config, seed=seed), ListStream(), LENGTH + 1)
        for seed in range(draws // LENGTH)
    ]
    with Engine(target, drafter, how, lambda token: False, rejection=rejection) as engine:
        known: dict[int, int] = {}
        for sequences in engine.rounds(requests):
            for sequence in sequences:
                start = known.get(id(sequence), 0)
                known[id(sequence)] = len(sequence.tokens)
                text = [*sequence.request.prompt, *sequence.tokens]
                # The first token comes with the prompt; it belongs to no round.
                for place in range(len(sequence.tokens) - start if start else 0):
                    at = 2 + start + place
                    counts[min(place, len(counts) - 1), text[at - 2], text[at - 1], text[at]] += 1
                if sequence.finish_reason:
                    drafted += sequence.stats.drafted
                    accepted += sequence.stats.accepted
                    del known[id(sequence)]
    return counts, accepted / max(1, drafted)


def surprise(counts: npt.NDArray[np.int64], expected: Array) -> float:
    """Chi-square of counts against probabilities, in standard deviations (Wilson and Hilferty).

    Args:
        counts: `[..., VOCAB]`, of any number of places.
        expected: probabilities `[VOCAB, VOCAB, VOCAB]`, the last axis sums to 1.
    """
    statistic, freedom = 0.0, 0
    for place in counts:
        wanted = expected * place.sum(-1, keepdims=True)
        assert not place[expected == 0].any(), "a token that must not come"
        enough = wanted >= 5
        # What is rare in a row is put together.
        rest = np.where(enough, 0, wanted).sum(-1), np.where(enough, 0, place).sum(-1)
        statistic += ((place - wanted)[enough] ** 2 / wanted[enough]).sum()
        pooled = rest[0] >= 5
        statistic += ((rest[1] - rest[0])[pooled] ** 2 / rest[0][pooled]).sum()
        freedom += np.maximum(0, enough.sum(-1) + pooled - 1).sum()
    assert freedom > 20
    shrink = 2 / (9 * freedom)
    return float(((statistic / freedom) ** (1 / 3) - (1 - shrink)) / math.sqrt(shrink))


CONFIGS = {
    "temperature": SamplingConfig(temperature=0.8, top_k=0, top_p=1.0),
    "top-k": SamplingConfig(temperature=1.3, top_k=4, top_p=1.0),
    "top-p": SamplingConfig(top_k=0, top_p=0.8),
    "min-p": SamplingConfig(temperature=1.5, top_k=0, top_p=1.0, min_p=0.15),
    "penalties": SamplingConfig(
        top_k=0, top_p=1.0, repetition=1.4, presence=0.5, frequency=0.3, recent=2
    ),
    "all": SamplingConfig(
        temperature=1.2, top_k=5, top_p=0.9, min_p=0.03, repetition=1.2, presence=0.3, recent=2
    ),
}


def probabilities(logits: Array, config: SamplingConfig) -> Array:
    """What follows each pair of tokens, `[VOCAB, VOCAB, VOCAB]`."""
    recent = config.recent if config.penalises else 0
    rows = [
        by_definition(logits[a, b], config, [a, b][2 - recent :])
        for a in range(VOCAB)
        for b in range(VOCAB)
    ]
    return np.array(rows).reshape(logits.shape)


@pytest.mark.parametrize(
    ("config", "draws"),
    [
        pytest.param(CONFIGS["all"], 3000, id="all, few"),
        *(
            pytest.param(config, 50_000, id=name, marks=pytest.mark.slow)
            for name, config in CONFIGS.items()
        ),
    ],
)
@pytest.mark.parametrize(
    ("how", "rejection"),
    [
        ("plain", False),
        ("fixed", False),
        ("auto", False),
        ("fixed", True),
        ("auto", True),
        ("whim", True),
    ],
    ids=lambda value: value if isinstance(value, str) else "rejection" if value else "coupled",
)
def test_tokens_are_as_likely_as_the_definition_says(
    how: str, rejection: bool, config: SamplingConfig, draws: int
) -> None:
    counts, acceptance = count(config, policy(how), rejection, draws)
    assert counts.sum() == draws
    expected = probabilities(TARGET, config)
    # One in 30,000 fair samplers surprises by more.
    assert surprise(counts, expected) < 4
    if how == "plain":
        assert counts[1:].sum() == 0
        return
    assert 0.2 < acceptance < 0.9
    # The test would see it if the draft's own probabilities came through.
    spread = 0.02 / VOCAB  # the drafter does not know all that the target writes
    other = (1 - 0.02) * probabilities(DRAFTER, config) + spread
    assert surprise(counts, other) > 8
