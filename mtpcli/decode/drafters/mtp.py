"""Gemma 4's multi-token-prediction drafter: it reads the target's hidden state and KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from mtpcli.decode import sampling
from mtpcli.decode.drafters.base import DraftRequest
from mtpcli.llama.context import DrafterContext


class MtpDrafter:
    """Drafts by llama.cpp's MTP context, one row per sequence and step.

    All steps of a draft stand at the same position, that of the last token, because the drafter
    was trained so and the drafted tokens have no cells in the target's KV cache yet. Step 1 reads
    the target's hidden state, later steps the drafter's own.
    """

    name = "mtp"

    def __init__(self, context: DrafterContext) -> None:
        self._context = context
        self.decode_seconds = 0.0

    def draft(self, requests: Sequence[DraftRequest]) -> list[list[int]]:
        """Drafts of exactly `depth` tokens each."""
        batch, embd = self._context.batch, self._context.batch.embd
        drafts: list[list[int]] = [[] for _ in requests]
        active = list(range(len(requests)))
        for row, request in enumerate(requests):
            batch.token[row] = request.token
            embd[row] = request.hidden
        while active:
            for row, index in enumerate(active):
                batch.seq[row] = requests[index].seq
                batch.pos[row] = requests[index].position
            started = perf_counter()
            self._context.decode(len(active))
            self.decode_seconds += perf_counter() - started
            going: list[int] = []
            for row, index in enumerate(active):
                request, draft = requests[index], drafts[index]
                # The first drafted token will stand right after the last token.
                position = request.position + len(draft) + 1
                token = sampling.choose(self._context.logits(row), request.sampling, position)
                draft.append(token)
                if len(draft) < request.depth:
                    batch.token[len(going)] = token
                    embd[len(going)] = self._context.hidden(row)
                    going.append(index)
            active = going
        return drafts

    def close(self) -> None:
        """Free the drafter's context."""
        self._context.close()
