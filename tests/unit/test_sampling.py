"""Sampling: what is kept, how often it is drawn, and that the place alone decides the noise."""

from __future__ import annotations

import numpy as np
import pytest

from mtpcli.config import SamplingConfig
from mtpcli.decode.sampling import choose, distribution, draw, greedy, gumbel, uniform
from mtpcli.decode.sharpness import FACTORS, Sharpness
from mtpcli.errors import ModelError

SPREADS = (0.5, 2, 4, 9)  # from many tokens near the best one to hardly any


def logits_of(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def test_greedy_takes_the_first_of_equals() -> None:
    assert greedy(logits_of(1, 3, 3, 2)) == 1


def test_top_k_keeps_the_likeliest_in_order() -> None:
    kept = distribution(logits_of(1, 4, 2, 3), SamplingConfig(top_k=2, top_p=1))
    assert kept.ids.tolist() == [1, 3]


def test_top_k_breaks_ties_by_id() -> None:
    kept = distribution(logits_of(2, 1, 2, 2, 2), SamplingConfig(top_k=3, top_p=1))
    assert kept.ids.tolist() == [0, 2, 3]


@pytest.mark.parametrize(
    ("top_p", "ids"),
    [(0.5, [0]), (0.61, [0, 1]), (0.9, [0, 1]), (0.91, [0, 1, 2]), (1.0, [0, 1, 2])],
)
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p: float, ids: list[int]) -> None:
    logits = np.log(np.array([0.6, 0.3, 0.1], np.float32))
    assert distribution(logits, SamplingConfig(top_k=0, top_p=top_p)).ids.tolist() == ids


def test_the_temperature_comes_last() -> None:
    logits = np.log(np.array([0.6, 0.3, 0.1], np.float32))
    kept = distribution(logits, SamplingConfig(temperature=0.5, top_k=0, top_p=0.85))
    # The cut sees the untempered .6 and .3; what is left is sharpened: .6^2 and .3^2.
    np.testing.assert_allclose(kept.probabilities(), [0.8, 0.2], rtol=1e-6)


def test_the_cut_of_a_wide_vocabulary_is_the_sorted_one() -> None:
    logits = (np.random.default_rng(1).standard_normal(5000) * 3).astype(np.float32)
    kept = distribution(logits, SamplingConfig(top_k=64, top_p=1))
    assert kept.ids.tolist() == np.argsort(-logits, kind="stable")[:64].tolist()


@pytest.mark.parametrize("top_k", [0, 1, 40, 64])
@pytest.mark.parametrize("top_p", [0.1, 0.9, 0.95, 0.999])
def test_what_is_kept_is_what_sorting_everything_keeps(top_k: int, top_p: float) -> None:
    random = np.random.default_rng(3)
    sizes = [(1, 1), (30, 5), (64, 2), *((n, spread) for n in (2048, 20000) for spread in SPREADS)]
    for size, spread in sizes:
        # Rounded, so that some are equal.
        logits = (random.standard_normal(size) * spread).round(1).astype(np.float32)
        order = np.argsort(-logits, kind="stable")[: top_k or None]
        weights = np.exp(logits[order].astype(np.float64) - logits[order[0]])
        before = np.cumsum(weights) - weights
        expected = order[(before < top_p * weights.sum()) | (before == 0)]
        kept = distribution(logits, SamplingConfig(top_k=top_k, top_p=top_p))
        assert kept.ids.tolist() == expected.tolist()


def test_unlikely_tokens_are_kept_where_there_are_few() -> None:
    kept = distribution(logits_of(0, 30, -30), SamplingConfig(top_k=3, top_p=1))
    assert kept.ids.tolist() == [1, 0, 2]


def test_noise_is_a_function_of_seed_position_and_token() -> None:
    ids = np.arange(100)
    noise = gumbel(ids, seed=5, position=9)
    np.testing.assert_array_equal(noise[40:50], gumbel(ids[40:50], seed=5, position=9))
    assert not np.any(noise == gumbel(ids, seed=6, position=9))
    assert not np.any(noise == gumbel(ids, seed=5, position=10))
    assert np.isfinite(gumbel(ids, seed=2**64 - 1, position=2**31)).all()


def test_noise_is_the_same_on_every_machine() -> None:
    # A text that a seed gave must be given again by the next release.
    np.testing.assert_allclose(
        gumbel(np.array([0, 1, 262143]), seed=7, position=3),
        [1.1906456558779224, 0.14712582675017163, 0.31009267474358215],
        rtol=1e-12,
    )


def test_tokens_are_drawn_as_often_as_their_probability() -> None:
    probabilities = np.array([0.5, 0.3, 0.15, 0.05])
    logits = np.log(probabilities).astype(np.float32)
    config = SamplingConfig(top_k=0, top_p=1, seed=11)
    draws = 20000
    counts = np.bincount([choose(logits, config, at) for at in range(draws)], minlength=4)
    expected = probabilities * draws
    chi_square = ((counts - expected) ** 2 / expected).sum()
    assert chi_square < 16.27  # 0.1 % of fair generators exceed it at 3 degrees of freedom


def test_a_token_that_was_cut_is_never_drawn() -> None:
    logits = logits_of(5, 4.9, 1, 0)
    config = SamplingConfig(top_k=2, top_p=1)
    assert {choose(logits, config, position) for position in range(200)} == {0, 1}


def test_logits_that_are_not_numbers() -> None:
    with pytest.raises(ModelError, match="damaged"):
        distribution(np.full(8, np.nan, np.float32), SamplingConfig())


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_draw_is_choose_with_its_probability(temperature: float) -> None:
    random = np.random.default_rng(2)
    config = SamplingConfig(temperature=temperature, top_k=3, top_p=1, seed=4)
    ids = np.array([7, 5, 3, 1])
    for position in range(50):
        logits = random.standard_normal(4).astype(np.float32)
        token, probability, kept_from, _ = draw(logits, config, position, ids)
        assert (kept_from is None) == (temperature == 0)
        assert token == choose(logits, config, position, ids)
        kept = np.sort(logits)[::-1][: 4 if temperature == 0 else 3]
        weights = np.exp(kept - kept[0])
        chosen = logits[ids.tolist().index(token)]
        assert probability == pytest.approx(np.exp(chosen - kept[0]) / weights.sum(), rel=1e-5)


@pytest.mark.parametrize("spread", SPREADS)
def test_a_greedy_draw_is_as_likely_as_it_is_among_all_tokens(spread: float) -> None:
    logits = (np.random.default_rng(8).standard_normal(20000) * spread).astype(np.float32)
    drawn = draw(logits, SamplingConfig(temperature=0), 0)
    weights = np.exp(logits.astype(np.float64) - logits.max())
    assert drawn.token == logits.argmax()
    assert drawn.probability == pytest.approx(1 / weights.sum(), rel=1e-3)


@pytest.mark.parametrize("best", range(len(FACTORS)))
def test_a_sharper_draw_trusts_the_logits_more_than_the_noise(best: int) -> None:
    sharpness, rivalries = Sharpness(), 0
    sharpness.best = best
    dice = np.random.default_rng(5)
    for position in range(200):
        logits = dice.standard_normal(30).astype(np.float32)
        config = SamplingConfig(seed=9, temperature=0.8, top_k=12, top_p=0.9)
        kept = distribution(logits, config)
        noise = gumbel(kept.ids, config.seed, position)
        rivals = [int(kept.ids[(factor * kept.logits + noise).argmax()]) for factor in FACTORS]
        drawn = draw(logits, config, position, sharpness=sharpness)
        assert drawn.token == rivals[best]
        weights = np.exp(FACTORS[best] * kept.logits)
        chance = weights[kept.ids == drawn.token].item() / weights.sum()
        assert drawn.probability == pytest.approx(chance)
        assert drawn.rivals == (rivals if len(set(rivals)) > 1 else None)
        rivalries += drawn.rivals is not None
    assert 20 < rivalries < 180


def test_min_p_is_a_share_of_the_best() -> None:
    logits = np.log(np.array([0.6, 0.25, 0.1, 0.05], np.float32))
    kept = distribution(logits, SamplingConfig(top_k=0, top_p=1, min_p=0.3))
    assert kept.ids.tolist() == [0, 1]


def test_penalties_lower_recent_tokens() -> None:
    config = SamplingConfig(temperature=0, repetition=2.0, presence=0.5, frequency=0.25, recent=4)
    logits = logits_of(4, -1, 3, 2)
    # Token 0 is halved and loses .5 and twice .25; token 1 is doubled, for it is below 0.
    assert choose(logits, config, 0, recent=[3, 1, 0, 0, 2]) == 3
    np.testing.assert_allclose(logits, [1.0, -2.75, 0.75, 2.0])


def test_penalties_look_at_the_last_tokens_only() -> None:
    config = SamplingConfig(temperature=0, presence=9, recent=2)
    assert choose(logits_of(3, 2, 1), config, 0, recent=[0, 1, 2]) == 0
    assert choose(logits_of(3, 2, 1), config, 0, recent=[2, 1, 0]) == 2
    assert choose(logits_of(3, 2, 1), SamplingConfig(temperature=0), 0, recent=[0]) == 0


def test_penalties_find_tokens_among_some_ids() -> None:
    config = SamplingConfig(temperature=0, presence=9)
    ids = np.array([7, 5, 9])
    assert choose(logits_of(3, 2, 1), config, 0, ids, recent=[7, 6, 100]) == 5


def test_uniform_numbers_are_uniform_and_apart_from_the_noise() -> None:
    numbers = np.array([uniform(3, position) for position in range(4000)])
    counts, _ = np.histogram(numbers, bins=10, range=(0, 1))
    assert ((counts - 400) ** 2 / 400).sum() < 27.9  # 0.1 % at 9 degrees of freedom
    noise = np.array([gumbel(np.array([0]), 3, position)[0] for position in range(4000)])
    assert abs(np.corrcoef(numbers, noise)[0, 1]) < 0.06
