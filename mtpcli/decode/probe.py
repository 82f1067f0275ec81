"""What rounds cost here: a second or two of decodes before the first draft, or less."""

from __future__ import annotations

import math
from statistics import median
from time import perf_counter

import numpy as np

from mtpcli.config import MAX_DRAFT_DEPTH, SamplingConfig
from mtpcli.decode.drafters.base import Drafter, DraftRequest
from mtpcli.decode.round_costs import Costs
from mtpcli.decode.target import Target
from mtpcli.errors import ModelError

# Rows of a verify per sequence, the most telling first: kernels work in fours and eights.
ROWS = (1, 2, 4, 8, 3, 16, 6, 5, 7, 12)
_AT_LEAST = 6  # of them are measured, however long it takes
_TURNS = 16
_LIMITS = (1.0, 3.0, 2.0)  # budgets: the first turn, the second one, those that follow
_SHORT = 0.05  # seconds of a verify; in longer ones it does not show what the one before was
_DRAFT_STEPS, _DRAFT_TURNS = 4, 3
_CLEARLY = 0.95  # of a time: less is no chance
_TOKEN = 2  # any token will do; this one begins texts


def measure(target: Target, drafter: Drafter, budget: float = 1.0) -> Costs:
    """Time verifies of several sizes and a draft step, in seconds, with all sequences at once.

    All sizes in turn, again and again: a machine that is slower or faster for a while is so for
    all of them. It uses the contexts' cells and leaves them empty.

    Args:
        budget: seconds after which the first turn ends, but for the first few sizes; the second
            one may take as long as three of them, and two are spent on turns in all.
    """
    costs, started = Costs(), perf_counter()
    verify_seconds(target, 1)  # allocates what the first decode allocates
    requests = _requests(target)
    seconds, costs.draft_threads = _fastest_draft_step(target, drafter)
    costs.draft.seconds[target.n_seq] = seconds
    switches = [0.0]
    for turn in range(_TURNS):
        # One time may be any; a second one is worth waiting for.
        limit = budget * _LIMITS[min(turn, len(_LIMITS) - 1)]
        for rows in ROWS[: len(costs.verify.seconds) or None]:
            known = len(costs.verify.seconds)
            if perf_counter() - started > limit and (turn or known >= _AT_LEAST):
                break
            seconds = _round_seconds(target, drafter, requests, rows)
            if seconds < _SHORT:
                again = _round_seconds(target, drafter, requests, rows)
                switches.append(seconds - again)
                seconds = again
            costs.verify.add(rows * target.n_seq, seconds)
    costs.switch = max(0.0, median(switches))
    _forget(target)
    return costs


def try_out(target: Target, drafter: Drafter | None = None) -> None:
    """Decode a little, as later rounds will; the contexts' cells are empty afterwards.

    Raises:
        ModelError: a decode fails, or gives no numbers.
    """
    verify_seconds(target, MAX_DRAFT_DEPTH + 1)
    verify_seconds(target, 1)
    if not np.isfinite(target.logits(0)).all():
        raise ModelError("the first decode gives no numbers")
    if drafter:
        draft_step_seconds(target, drafter)
    _forget(target)


def verify_seconds(target: Target, rows: int) -> float:
    """Seconds of a decode of so many rows for each sequence, at its beginning."""
    _forget(target)
    batch, end = target.batch, 0
    for seq in range(target.n_seq):
        start, end = end, end + rows
        # Different tokens, for those of a text choose different experts.
        batch.token[start:end] = range(_TOKEN, _TOKEN + rows)
        batch.pos[start:end] = range(rows)
        batch.seq[start:end] = seq
    batch.output[:end] = 1
    started = perf_counter()
    target.decode(end, end)
    return perf_counter() - started


def draft_step_seconds(target: Target, drafter: Drafter) -> float:
    """Seconds of a draft step of all sequences, after a verify of one row each."""
    requests = _requests(target)
    return min(_draft(target, drafter, requests) for _ in range(2)) / _DRAFT_STEPS


def _requests(target: Target) -> list[DraftRequest]:
    """For drafts behind the first cell of each sequence, after a verify of one row each."""
    return [
        DraftRequest(seq, 1, _TOKEN, target.hidden(seq).copy(), _DRAFT_STEPS, SamplingConfig())
        for seq in range(target.n_seq)
    ]


def _draft(target: Target, drafter: Drafter, requests: list[DraftRequest]) -> float:
    """Seconds of a draft behind the first cell of each sequence; the others are forgotten."""
    for seq in range(target.n_seq):
        target.forget(seq, 1)
    started = perf_counter()
    drafter.draft(requests, lambda confidences: True)
    return perf_counter() - started


def _round_seconds(
    target: Target, drafter: Drafter, requests: list[DraftRequest], rows: int
) -> float:
    """Seconds of a verify as a round has it: behind a draft, which leaves the caches cold."""
    if rows > 1:
        _draft(target, drafter, requests)
    return verify_seconds(target, rows)


def _fastest_draft_step(target: Target, drafter: Drafter) -> tuple[float, int]:
    """Seconds of a draft step, and with how many threads: all (0), or one.

    A drafter may be too small for its threads: they wait for each other after every operation.
    Numbers between would make llama.cpp's threads end and start again between draft and verify.
    """
    best = {0: math.inf, 1: math.inf}
    for _ in range(_DRAFT_TURNS):
        for threads in best:
            drafter.set_threads(threads)
            best[threads] = min(best[threads], draft_step_seconds(target, drafter))
    threads = 1 if best[1] < _CLEARLY * best[0] else 0
    drafter.set_threads(threads)
    return best[threads], threads


def _forget(target: Target) -> None:
    for seq in range(target.n_seq):
        target.forget(seq, 0)
