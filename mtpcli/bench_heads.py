"""A drafter's ordered head against llama.cpp's dense one: time of a draft step, in turn."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING

from mtpcli.config import RuntimeConfig, SamplingConfig
from mtpcli.decode.drafters.base import DraftRequest
from mtpcli.session import PairPaths

if TYPE_CHECKING:
    from mtpcli.decode.drafters.mtp import MtpDrafter

_PROMPT = [2] * 64  # any tokens will do
_DEPTH = 4
_DRAFTS = 24  # of each head, after some that warm up
_WARM = 4


@dataclass(frozen=True)
class Heads:
    """Seconds of a draft step, its sampling included, and what the faster head costs.

    Attributes:
        ordered, dense: medians with the one head and the other.
        ratio: the median of the ratios of neighbouring drafts, ordered to dense.
        numpy: the part of `ordered` that NumPy takes for the head.
        memory: bytes that the ordered head holds besides the file.
    """

    ordered: float
    dense: float
    ratio: float
    numpy: float
    memory: int


def compare(paths: PairPaths, runtime: RuntimeConfig, sampling: SamplingConfig) -> Heads | None:
    """Draft with both heads in turn, at one place; None where the drafter has one head only.

    Args:
        paths: of a pair that fits.

    Raises:
        ModelError: a file cannot be used.
    """
    from mtpcli.decode.drafters.mtp import MtpDrafter
    from mtpcli.decode.drafters.ordered_head import load_ordered_head
    from mtpcli.llama.context import DrafterContext, TargetContext
    from mtpcli.llama.gguf import read_metadata
    from mtpcli.llama.model import Model

    assert paths.drafter
    head = load_ordered_head(read_metadata(paths.drafter))
    if head is None:
        return None
    with (
        Model(paths.target) as target_model,
        Model(paths.drafter) as drafter_model,
        TargetContext(target_model, runtime) as target,
        DrafterContext(drafter_model, target, stop_before_head=True) as early,
        DrafterContext(drafter_model, target) as whole,
    ):
        prompt = _PROMPT[: target.n_ctx // 2]
        target.prefill(0, 0, prompt)
        hidden = target.hidden(-1).copy()
        request = DraftRequest(0, len(prompt), prompt[-1], hidden, _DEPTH, sampling)
        ordered, dense = MtpDrafter(early, head), MtpDrafter(whole)
        turns = [(_step(ordered, request), _step(dense, request)) for _ in range(_DRAFTS + _WARM)]
        turns = turns[_WARM:]
        return Heads(
            ordered=statistics.median(mine for (mine, _), _ in turns),
            dense=statistics.median(theirs for _, (theirs, _) in turns),
            ratio=statistics.median(mine / theirs for (mine, _), (theirs, _) in turns),
            numpy=statistics.median(head_only for (_, head_only), _ in turns),
            memory=head.nbytes,
        )


def _step(drafter: MtpDrafter, request: DraftRequest) -> tuple[float, float]:
    """Seconds of a draft by its steps, and the ordered head's among them."""
    started, before = perf_counter(), drafter.head_seconds
    drafter.draft([request], lambda confidences: True)
    ended = perf_counter()
    return (ended - started) / request.depth, (drafter.head_seconds - before) / request.depth
