"""How many tokens to draft: what pays on this machine, for this file, on this text.

A round that drafts k tokens costs k draft steps and a verify of k + 1 rows, and gives 1 token plus
as many as are accepted. The best depth maximises expected tokens over expected time. What a verify
costs is measured, not assumed: on few cores 3 rows can cost more than 4 and 2 almost twice one, on
others the curve is flat. How often drafts are right is counted by position and by how sure the
drafter was. Depth 0, plain decoding, is one of the choices.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import accumulate
from typing import Protocol

from mtpcli.config import MAX_DRAFT_DEPTH
from mtpcli.decode.acceptance import Acceptance, Usual
from mtpcli.decode.round_costs import Costs

_DRAFTER = "drafter"
_SMOOTHING = 0.1  # weight of a new time
_INTERRUPTED = 3.0  # times as long as expected: no more counts
_MOST_SWITCH = 0.7  # of a verify, that the change of its rows may be
_LONGEST_RUN = 16.0  # rounds of one depth in a row that a change may be expected to last
_THINK = 4  # rounds from one thought about the depth to the next: it takes as long as a small draft
# Rounds of one plan before a longer draft is tried, where drafts pay; and where none does.
_RETRY_LONGER, _FIRST_RETRY, _LAST_RETRY = 8, 16, 256
_HOPE = 2.0  # standard deviations by which a time in doubt may be shorter than it was told
# Where drafting would give nearly as much as plain decoding: the share of the time that may go into
# drafts that are not verified, only compared with the text.
_NEARLY, _WATCH = 0.92, 0.02
# What plain rounds may cost, as a share of the time, that only tell what plain decoding costs; and
# how many times as long as in truth a probe in a bad moment may say that it takes.
_CHECK, _SPOILT = 0.004, 1.7
_LEAST_CUT = 0.3  # tokens that a cut must be worth: what is verified is learnt from
_CUTS = 16  # drafts that are cut before one is verified in full again


class DepthPolicy(Protocol):
    """Decides how far to draft, and learns from what came of it."""

    def plan(self, sequences: int) -> int:
        """How many tokens at most each of so many sequences drafts in this round."""
        ...

    def go_on(self, confidences: Sequence[float]) -> bool:
        """Whether to draft one more token after some that the drafter was so sure of."""
        ...

    def keep(self, confidences: Sequence[float]) -> int:
        """How many tokens of a finished draft are worth a row of the verify."""
        ...

    def take(self, source: str, confidences: Sequence[float]) -> int:
        """How many tokens that cost nothing to propose are verified instead of a draft."""
        ...

    def observe_draft(self, rows: int, steps: int, seconds: float) -> None:
        """So many draft steps of so many rows took so long."""
        ...

    def observe_verify(self, rows: int, seconds: float) -> None:
        """A verify of so many rows took so long."""
        ...

    def observe_rest(self, seconds: float) -> None:
        """A round took so long outside of drafting and verifying."""
        ...

    def observe_prompt(self) -> None:
        """A prompt was decoded: the next verify has another shape than the decode before it."""
        ...

    def observe_draft_result(
        self, source: str, confidences: Sequence[float], accepted: int
    ) -> None:
        """So many tokens of a drafter's draft were accepted."""
        ...


@dataclass(frozen=True)
class FixedDepth:
    """Always the same depth."""

    depth: int

    def plan(self, sequences: int) -> int:
        """The depth."""
        return self.depth

    def go_on(self, confidences: Sequence[float]) -> bool:
        """Always."""
        return True

    def keep(self, confidences: Sequence[float]) -> int:
        """All."""
        return len(confidences)

    def take(self, source: str, confidences: Sequence[float]) -> int:
        """None: who asks for a depth asks for the drafter's."""
        return 0

    def observe_draft(self, rows: int, steps: int, seconds: float) -> None:
        """Not used."""

    def observe_verify(self, rows: int, seconds: float) -> None:
        """Not used."""

    def observe_rest(self, seconds: float) -> None:
        """Not used."""

    def observe_prompt(self) -> None:
        """Not used."""

    def observe_draft_result(
        self, source: str, confidences: Sequence[float], accepted: int
    ) -> None:
        """Not used."""


def token_rates(
    chances: Sequence[float], drafting: float, verifying: Sequence[float]
) -> list[float]:
    """Expected tokens per second of rounds that draft 0, 1, ... tokens.

    Args:
        chances: of each position to be accepted if those before it are.
        drafting: seconds of a draft step.
        verifying: seconds of the rest of a round that drafts 0, 1, ... tokens.
    """
    tokens, chance, rates = 1.0, 1.0, []
    for depth, rest in enumerate(verifying):
        if depth:
            chance *= chances[depth - 1]
            tokens += chance
        seconds = depth * drafting + rest
        rates.append(tokens / seconds if seconds else 0.0)
    return rates


class AutoDepth:
    """The depth that is expected to pay best, round by round.

    Several sequences draft as one: llama.cpp decodes them in one graph only if each has as many
    rows as the others, and another graph costs more than a doubtful row.

    Attributes:
        acceptance: of the drafter, estimated while running.
        watch: whether drafts that are not verified are compared with the text.
    """

    def __init__(
        self, costs: Costs, max_depth: int = MAX_DRAFT_DEPTH, *, watch: bool = True
    ) -> None:
        """Begin with what is known of this machine and file.

        Args:
            watch: a draft's token that equals the target's would have been accepted, so that
                some need not be verified; not so where drafts are sampled by themselves.
        """
        self._costs = costs
        # What was seen since the last thought, to be taken in all at once: every decode drives the
        # code for it from the processor's caches.
        self._seen: list[Callable[[], None]] = []
        self.acceptance = Acceptance(costs.usual.setdefault(_DRAFTER, Usual()))
        self._free: dict[str, Acceptance] = {}  # of what is proposed without a drafter
        self._max_depth = max_depth
        self.watch = watch
        self._sequences = 1
        self._last_rows = 0
        self._planned = 0  # the depth of the last plan
        self._run = self._mean_run = _LONGEST_RUN / 2  # rounds of the same plan
        self._rounds = 0
        self._chances: list[float] = []
        self._rate = self._drafted_rate = 0.0  # the best, and the best that drafts
        # Seconds of a draft step, of rounds with the same depth as before, and of the next round.
        self._drafting = 0.0
        self._steady = self._verifying = [0.0] * (max_depth + 1)
        self._same_rounds = 0  # of one plan, since others were tried
        self._retry = _FIRST_RETRY
        self._unchecked = 0.0  # seconds of verifying since the last plain round
        self._trying = self._watching = False
        self._watch_seconds = 0.0  # that may be spent on watching
        self._cuts = 0

    @property
    def costs(self) -> Costs:
        """What was measured before, refined by every round so far."""
        self._learn()
        return self._costs

    def _learn(self) -> None:
        for learn in self._seen:
            learn()
        self._seen.clear()

    def plan(self, sequences: int) -> int:
        """As far as may pay: 0 where the depth with the best expected tokens per second is 0."""
        if self._rounds % _THINK and sequences == self._sequences:
            self._run += 1
        else:
            self._think(sequences)
        self._rounds += 1
        # What is verified against the plan is paid twice: on the way there and on the way back.
        switch, best = self._costs.switch / sequences, self._planned
        self._verifying = [verifying + 2 * switch for verifying in self._steady]
        self._verifying[best] -= switch
        last = self._last_rows // sequences - 1
        if 0 <= last <= self._max_depth:
            self._verifying[last] -= switch
        self._trying = self._watching = False
        self._same_rounds = self._same_rounds + 1 if self._run > 1 else 0
        if best:
            self._retry = _RETRY_LONGER
            plain, usual = self._steady[0], 1 / self._rate  # seconds of a token
            if plain < _SPOILT * usual and plain - usual + 2 * switch < _CHECK * self._unchecked:
                # Were it measured in a bad moment, nothing else would ever tell.
                self._rounds = 0
                return 0
        # A draft that the drafter is sure of may become longer than planned.
        limit = self._max_depth if best and sequences == 1 else best
        if self._same_rounds < self._retry:
            return limit or self._watch()
        # Positions further on are known by longer drafts only, and the text may have changed:
        # once in a while they are tried, if they may pay. So are times that are in doubt.
        self._same_rounds = 0
        rates = token_rates(self.acceptance.hopes(), self._drafting, self._hopes())
        depth = max(range(1, len(rates)), key=lambda depth: rates[depth])
        pays = rates[depth] > self._rate
        if best and not pays:
            return limit
        self._retry = _FIRST_RETRY if pays else min(2 * self._retry, _LAST_RETRY)
        self._trying = True
        self._rounds = 0  # and what comes of it is thought about
        return depth

    def _hopes(self) -> list[float]:
        """Seconds of rounds by depth, changes of rows included, if what is in doubt is in favour.

        A time that was told too long would never be put right, for nothing would be verified so.
        """
        curve, rows = self._costs.verify, self._sequences * (self._planned + 1)
        doubts = [
            curve.doubt(self._sequences * (depth + 1), rows) for depth in range(len(self._steady))
        ]
        return [
            min(steady, math.exp(-_HOPE * doubt) * verifying)
            for steady, verifying, doubt in zip(self._steady, self._verifying, doubts, strict=True)
        ]

    def _watch(self) -> int:
        """Whether to draft one token in a plain round: it costs no row, and is right or not."""
        if not self.watch or self._drafted_rate < _NEARLY * self._rate:
            return 0
        self._watch_seconds += _WATCH * self._steady[0]
        if self._watch_seconds < self._drafting:
            return 0
        self._watch_seconds, self._watching = 0.0, True
        return 1

    def _think(self, sequences: int) -> None:
        """Find the best depth, by what is known now."""
        self._learn()
        self._sequences = sequences
        self._chances = self.acceptance.by_position()
        self._drafting = self._draft()
        # More rows never cost less, or some of them could be wasted: a time that a busy machine
        # has spoilt is held down by those of more rows, which it spoilt less.
        self._steady = list(accumulate(reversed(self._verify()), min))[::-1]
        # A change of plan is paid once, and lasts as long as plans have lasted so far.
        change = self._costs.switch / sequences
        change /= min(_LONGEST_RUN, max(self._run, self._mean_run))
        planned = [
            verifying + change * (depth != self._planned)
            for depth, verifying in enumerate(self._steady)
        ]
        rates = token_rates(self._chances, self._drafting, planned)
        self._rate, self._drafted_rate = max(rates), max(rates[1:])
        best = rates.index(self._rate)
        if best == self._planned:
            self._run += 1
        else:
            self._mean_run += 0.2 * (self._run - self._mean_run)
            self._planned, self._run = best, 1.0

    def go_on(self, confidences: Sequence[float]) -> bool:
        """Whether any longer draft is worth the time it takes, at the best rate there is."""
        if self._trying or self._sequences > 1:
            return True
        drafted = len(confidences)
        chances = self.acceptance.survivals(confidences)
        least = max(self._values(chances))
        chance, tokens = chances[-1], sum(chances)
        last = min(max(self._planned, drafted + 1), self._max_depth)
        for depth in range(drafted + 1, last + 1):
            chance *= self._chances[depth - 1]
            tokens += chance
            seconds = (depth - drafted) * self._drafting + self._verifying[depth]
            if tokens - self._rate * seconds > least:
                return True
        return False

    def keep(self, confidences: Sequence[float]) -> int:
        """The length to verify; a doubtful end, or all of it, may not be worth its rows."""
        if self._watching:
            return 0
        if self._sequences > 1:
            return len(confidences)
        values = self._values(self.acceptance.survivals(confidences))
        best = values.index(max(values))
        if values[best] - values[-1] < _LEAST_CUT:
            return len(confidences)
        self._cuts += best < len(confidences)
        if self._trying or self._cuts == _CUTS:
            # What is never verified would stay in doubt for ever.
            self._cuts = 0
            return len(confidences)
        return best

    def take(self, source: str, confidences: Sequence[float]) -> int:
        """As many as make the round worth more than one at the best rate that drafts give."""
        if source not in self._free:
            usual = self._costs.usual.setdefault(source, Usual.doubtful())
            self._free[source] = Acceptance(usual)
        if self._sequences > 1:
            return 0
        values = self._values(self._free[source].survivals(confidences))
        best = max(values)
        return values.index(best) if best > 0 else 0

    def _values(self, chances: Sequence[float]) -> list[float]:
        """What verifying 0, 1, ... tokens with these chances is worth, in tokens.

        It is what the round gives, less what its time would give otherwise.
        """
        tokens, values = 0.0, []
        for depth, chance in enumerate(chances):
            tokens += chance
            values.append(tokens - self._rate * self._verifying[depth])
        return values

    def observe_draft(self, rows: int, steps: int, seconds: float) -> None:
        """Refine what a draft step costs."""
        if steps:
            self._seen.append(partial(self._costs.draft.add, rows, seconds / steps))

    def observe_verify(self, rows: int, seconds: float) -> None:
        """Refine what a verify costs, and what it costs more after one of other rows."""
        self._seen.append(partial(self._learn_verify, rows, seconds, rows != self._last_rows))
        self._last_rows = rows
        plain = rows == self._sequences
        self._unchecked = 0.0 if plain else self._unchecked + seconds / self._sequences

    def _learn_verify(self, rows: int, seconds: float, changed: bool) -> None:
        costs, switch = self._costs, 0.0
        if changed:
            known = costs.verify.seconds.get(rows)
            if known:
                limit = _INTERRUPTED * max(costs.switch, 0.1 * known)
                extra = min(seconds - known, limit)
                costs.switch = max(0.0, costs.switch + _SMOOTHING * (extra - costs.switch))
            switch = min(costs.switch, _MOST_SWITCH * seconds)
        costs.verify.add(rows, seconds - switch, doubt=switch)

    def observe_rest(self, seconds: float) -> None:
        """Refine what a round costs besides."""
        limit = _INTERRUPTED * self._costs.rest if self._costs.rest else seconds
        self._costs.rest += _SMOOTHING * (min(seconds, limit) - self._costs.rest)

    def observe_prompt(self) -> None:
        """Expect the next verify to cost a switch, whatever its rows."""
        self._last_rows = 0

    def observe_draft_result(
        self, source: str, confidences: Sequence[float], accepted: int
    ) -> None:
        """Refine how often drafts are right."""
        if source in self._free:
            self._free[source].observe(confidences, accepted)
            return
        self._seen.append(partial(self.acceptance.observe, confidences, accepted))
        if self._trying and len(confidences) == accepted:
            # It was only a try, and all of it was right: do not wait long for the next one.
            self._retry = _FIRST_RETRY

    def _draft(self) -> float:
        """Time of a draft step, as each sequence's share of it."""
        return self._costs.draft.at(self._sequences) / self._sequences

    def _verify(self) -> list[float]:
        """Times of rounds by depth without their draft steps, as each sequence's share of them."""
        rows = range(self._sequences, self._sequences * (self._max_depth + 1) + 1, self._sequences)
        return [
            (seconds + self._costs.rest) / self._sequences
            for seconds in self._costs.verify.over(rows)
        ]
