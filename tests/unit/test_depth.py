"""The depth policy in simulated worlds: known costs, known acceptance, no clock."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean

import pytest

from mtpcli.decode.acceptance import Rate, Usual
from mtpcli.decode.depth import AutoDepth, DepthPolicy, FixedDepth
from mtpcli.decode.round_costs import Costs, Curve

# Milliseconds of a verify of 1..16 rows: kernels that work in fours, on two cores; and a machine
# that is bound by memory.
FOURS = (58, 108, 155, 136, 187, 231, 277, 250, 290, 310, 340, 369, 375, 380, 385, 390)
FLAT = tuple(58 + n for n in range(16))
STEEP = tuple(58 * (n + 1) for n in range(16))


@dataclass
class World:
    """What a round costs and how drafts fare."""

    verify: Sequence[float]
    draft: float
    chance: Callable[[random.Random], float]
    switch: float = 0.0

    def run(self, policy: DepthPolicy, rounds: int, seed: int = 1) -> tuple[float, list[int]]:
        """Tokens per second, and the depth of each round."""
        dice, tokens, seconds, depths, last = random.Random(seed), 0, 0.0, [], 0
        for _ in range(rounds):
            limit = policy.plan(1)
            confidences: list[float] = []
            while len(confidences) < limit and (not confidences or policy.go_on(confidences)):
                confidences.append(self.chance(dice))
            steps = len(confidences)
            depth = policy.keep(confidences)
            right = 0
            while right < steps and dice.random() < confidences[right]:
                right += 1
            accepted = min(right, depth)
            verify = self.verify[depth] / 1e3 + (self.switch / 1e3 if depth != last else 0)
            draft = steps * self.draft / 1e3
            policy.observe_draft(1, steps, draft)
            policy.observe_verify(depth + 1, verify)
            policy.observe_rest(0.0)
            seen = (
                accepted + 1
            )  # tokens of the text, which tell what a draft's first ones are worth
            policy.observe_draft_result("mtp", confidences[:seen], min(right, seen))
            tokens += accepted + 1
            seconds += draft + verify
            depths.append(depth)
            last = depth
        return tokens / seconds, depths

    def measured(self) -> AutoDepth:
        """A policy that has measured this world's costs, roughly."""
        verify = {rows: self.verify[rows - 1] / 1e3 for rows in (1, 2, 4, 8, 16)}
        return AutoDepth(Costs(Curve(verify), Curve({1: self.draft / 1e3}), self.switch / 1e3))

    def best_fixed(self, seed: int = 1) -> float:
        return max(self.run(FixedDepth(depth), 1500, seed)[0] for depth in range(16))


def test_a_time_that_was_told_too_long_is_tried_and_put_right() -> None:
    world = World(FOURS, draft=1.5, chance=always(0.97))
    policy = world.measured()
    policy.costs.verify.seconds[16] *= 1.25  # which makes 8 rows the best
    _, depths = world.run(policy, 1000)
    told = policy.costs.verify.at(16) / policy.costs.verify.at(1)
    assert told == pytest.approx(FOURS[15] / FOURS[0], rel=0.05)
    assert depths[500:].count(15) > 300


def test_doubtful_times_are_not_tried_where_changes_of_rows_are_dear() -> None:
    world = World(FOURS, draft=1.5, chance=always(0.97), switch=60.0)
    _, depths = world.run(world.measured(), 1000)
    assert sum(one != two for one, two in itertools.pairwise(depths)) < 30


@pytest.mark.parametrize(("rows", "kept"), [(2, 1), (4, 3)])
def test_a_doubtful_draft_is_cut_to_the_rows_that_cost_no_change(rows: int, kept: int) -> None:
    verify = Curve({1: 0.050, 2: 0.060, 4: 0.080, 8: 0.140, 16: 0.300})
    policy = AutoDepth(Costs(verify, Curve({1: 0.001}), switch=0.020))
    policy.plan(1)
    policy.observe_verify(rows, verify.at(rows) + 0.020)
    policy.plan(1)
    assert policy.keep([0.2, 0.2, 0.2]) == kept


def always(chance: float) -> Callable[[random.Random], float]:
    return lambda dice: chance


def mixed(dice: random.Random) -> float:
    return dice.choice((0.2, 0.95, 0.99, 0.99))


@pytest.mark.parametrize("chance", [0.0, 0.3, 0.6, 0.8, 0.95])
@pytest.mark.parametrize("verify", [FOURS, FLAT, STEEP], ids=["fours", "flat", "steep"])
def test_close_to_the_best_fixed_depth(verify: Sequence[float], chance: float) -> None:
    world = World(verify, draft=1.5, chance=always(chance))
    shares = [
        world.run(world.measured(), 1500, seed)[0] / world.best_fixed(seed) for seed in (1, 2, 3)
    ]
    assert mean(shares) >= 0.95


@pytest.mark.parametrize("verify", [FOURS, FLAT], ids=["fours", "flat"])
def test_better_than_any_fixed_depth_where_the_drafter_knows_its_limits(
    verify: Sequence[float],
) -> None:
    world = World(verify, draft=5.0, chance=mixed)
    rate, depths = world.run(world.measured(), 1500)
    assert rate > 1.005 * world.best_fixed()
    assert len(set(depths[100:])) > 1


def test_nothing_is_drafted_where_nothing_pays_but_it_is_tried_again() -> None:
    policy = World(FOURS, draft=5.0, chance=always(0.3)).measured()
    _, depths = World(FOURS, draft=5.0, chance=always(0.3)).run(policy, 2000)
    late = depths[200:]
    assert late.count(0) > 0.97 * len(late)
    assert any(late)
    # The text changes, and drafts become right: that is noticed within the longest pause.
    _, depths = World(FOURS, draft=5.0, chance=always(0.99)).run(policy, 600)
    assert 0 not in depths[300:]


def test_plain_decoding_that_was_timed_in_a_bad_moment_is_timed_again() -> None:
    world = World(FOURS, draft=1.5, chance=always(0.3))
    policy = world.measured()
    policy.costs.verify.seconds[1] *= 1.7
    _, depths = world.run(policy, 600)
    assert 0 not in depths[:10]
    assert depths[300:].count(0) > 0.95 * 300


def test_timing_plain_decoding_again_costs_next_to_nothing() -> None:
    world = World(FOURS, draft=1.5, chance=always(0.85), switch=20.0)
    _, depths = world.run(world.measured(), 3000)
    plain = depths[1000:].count(0)
    assert 0 < plain * FOURS[0] < 0.01 * sum(FOURS[depth] for depth in depths[1000:])


def test_where_drafting_nearly_pays_it_is_watched_what_drafts_are_worth() -> None:
    """One that was unlucky at first learns soon that it was."""
    world = World(FOURS, draft=1.5, chance=always(0.85))
    plain = {True: 0, False: 0}
    for watch, seed in itertools.product(plain, range(40)):
        policy = AutoDepth(world.measured().costs, watch=watch)
        policy.plan(1)
        for _ in range(6):
            policy.observe_draft_result("mtp", [0.85], 0)
        _, depths = world.run(policy, 300, seed)
        plain[watch] += depths.count(0)
    assert 0 < plain[True] < 0.9 * plain[False]


def test_watching_costs_next_to_nothing_where_drafts_are_worth_nothing() -> None:
    watched, rounds = 0, 2000
    world = World(FOURS, draft=1.5, chance=always(0.0))
    policy = world.measured()
    for _ in range(rounds):
        limit = policy.plan(1)
        watched += limit == 1 and policy.keep([0.5]) == 0
        policy.observe_draft_result("mtp", [0.5] * min(1, limit), 0)
    assert watched < 0.01 * rounds


def test_one_more_row_is_taken_where_it_is_cheaper() -> None:
    world = World(FOURS, draft=1.5, chance=always(0.8))
    _, depths = world.run(world.measured(), 2000)
    late = depths[500:]
    # Depth 2 verifies 3 rows in 155 ms, depth 3 verifies 4 in 136.
    assert late.count(3) > 20 * late.count(2)


def test_it_does_not_flutter_where_a_change_costs() -> None:
    changes = {}
    for switch in (0.0, 30.0):
        world = World(FLAT, draft=1.5, chance=mixed, switch=switch)
        _, depths = world.run(world.measured(), 2000)
        changes[switch] = sum(a != b for a, b in itertools.pairwise(depths))
    assert changes[30.0] < 0.5 * changes[0.0]


def test_costs_are_refined_while_running() -> None:
    world = World(FLAT, draft=1.5, chance=always(0.8))
    policy = World(STEEP, draft=1.5, chance=always(0.8)).measured()
    world.run(policy, 1500)
    assert policy.costs.verify.at(1) == pytest.approx(0.058, rel=0.05)


def test_what_a_busy_machine_made_slow_does_not_stay_so() -> None:
    world = World(FOURS, draft=1.5, chance=always(0.95))
    # Plain decoding alone was timed since the machine is free again.
    spoilt = {rows: 3 * world.verify[rows - 1] / 1e3 for rows in (2, 4, 8, 16)}
    policy = AutoDepth(Costs(Curve({1: 0.058} | spoilt), Curve({1: 0.0045})))
    world.run(policy, 20)
    rate, _ = world.run(policy, 300)
    assert rate >= 0.9 * world.best_fixed()


def test_what_a_verify_costs_more_behind_a_prompt_is_not_the_cost_of_its_rows() -> None:
    policy = AutoDepth(Costs(Curve({1: 1.0}), Curve({1: 0.1}), switch=0.5))
    policy.observe_verify(1, 1.5)
    assert policy.costs.verify.at(1) == pytest.approx(1.0)
    switch = policy.costs.switch
    policy.observe_prompt()
    policy.observe_verify(1, 2.0)
    assert policy.costs.verify.at(1) < 1.25
    assert switch < policy.costs.switch < 1.0


def test_fixed_depth_is_fixed() -> None:
    assert FixedDepth(4).plan(3) == 4
    assert FixedDepth(4).go_on([0.01])


def test_several_sequences_draft_as_one() -> None:
    policy = World(FLAT, draft=1.5, chance=mixed).measured()
    policy.costs.usual["lookup"] = Usual()  # which is trusted
    policy.plan(1)
    assert policy.take("lookup", [0.99] * 9) > 0
    assert not policy.go_on([0.01])
    assert policy.keep([0.01] * 8) < 2
    assert policy.plan(4) > 0
    assert policy.go_on([0.01])
    assert policy.keep([0.01, 0.01]) == 2
    assert policy.take("lookup", [0.99] * 9) == 0


def test_longer_drafts_are_tried_while_their_ends_are_unknown() -> None:
    world = World(FLAT, draft=1.5, chance=always(0.97))
    costs = world.measured().costs
    # In general only the first token was ever right; in this text nearly all are.
    costs.usual["drafter"] = Usual(at=[Rate(45, 50), *(Rate(0, 5000) for _ in range(14))])
    _, depths = world.run(AutoDepth(costs), 300)
    assert set(depths[:8]) == {1}
    assert max(depths[:12]) > 1
    assert min(depths[-50:]) > 3


def test_a_time_that_was_spoilt_is_held_down_by_those_of_more_rows() -> None:
    world = World(FLAT, draft=0.5, chance=always(0.75))
    costs = world.measured().costs
    for rows in (2, 4, 8):
        costs.verify.seconds[rows] *= 20
    _, depths = world.run(AutoDepth(costs), 1)
    assert 0 < depths[0] < 15


def test_a_draft_that_the_drafter_is_sure_of_becomes_longer_than_planned() -> None:
    world = World(FLAT, draft=0.5, chance=always(0.5))
    policy = world.measured()
    _, usual = world.run(policy, 400)
    world.chance = always(0.99)
    _, sure = world.run(policy, 1)
    assert max(usual[200:]) < 8 and sure == [15]
