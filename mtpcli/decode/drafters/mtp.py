"""Gemma 4's multi-token-prediction drafter: it reads the target's hidden state and KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from time import perf_counter

from mtpcli.decode import sampling
from mtpcli.decode.constraint import Constraint
from mtpcli.decode.drafters.base import Draft, DraftRequest, GoOn
from mtpcli.decode.drafters.ordered_head import OrderedHead
from mtpcli.llama.context import DrafterContext, FloatArray


class MtpDrafter:
    """Drafts by llama.cpp's MTP context, one row per sequence and step.

    All steps of a draft stand at the same position, that of the last token, because the drafter
    was trained so and the drafted tokens have no cells in the target's KV cache yet. Step 1 reads
    the target's hidden state, later steps the drafter's own.

    Attributes:
        head_seconds: time spent in the ordered head's sums so far; part of `decode_seconds`, as
            the dense head's are.
    """

    name = "mtp"

    def __init__(self, context: DrafterContext, head: OrderedHead | None = None) -> None:
        """Draft with the ordered head where there is one, for which `context` stops early."""
        self._context = context
        self._head = head
        self.decode_seconds = self.head_seconds = 0.0

    def draft(self, requests: Sequence[DraftRequest], go_on: GoOn) -> list[Draft]:
        """Drafts of `depth` tokens each, or as far as `go_on` goes.

        Under a constraint they are grammatical, and end where the head knows no way on.
        """
        constraints = [request.constraint and request.constraint.clone() for request in requests]
        try:
            return self._draft(requests, constraints, go_on)
        finally:
            for constraint in constraints:
                if constraint:
                    constraint.close()

    def _draft(
        self,
        requests: Sequence[DraftRequest],
        constraints: Sequence[Constraint | None],
        go_on: GoOn,
    ) -> list[Draft]:
        batch, embd = self._context.batch, self._context.batch.embd
        drafts = [Draft(source=self.name) for _ in requests]
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
                position = request.position + len(draft.tokens) + 1
                constraint = constraints[index]
                try:
                    drawn = self._draw(row, request, position, constraint, draft.tokens)
                except sampling.DeadEnd:
                    continue
                if constraint:
                    constraint.accept(drawn.token)
                draft.tokens.append(drawn.token)
                draft.confidences.append(drawn.probability)
                draft.kept.append(drawn.kept)
                draft.rivals.append(drawn.rivals)
                if len(draft.tokens) < request.depth and go_on(draft.confidences):
                    batch.token[len(going)] = drawn.token
                    embd[len(going)] = self._hidden(row)
                    going.append(index)
            active = going
        return drafts

    def _draw(
        self,
        row: int,
        request: DraftRequest,
        position: int,
        constraint: Constraint | None,
        drafted: list[int],
    ) -> sampling.Drawn:
        if self._head is None:
            ids, logits = None, self._context.logits(row)
        else:
            started = perf_counter()
            ids, logits = self._head.logits(self._context.state(row))
            self._count_head(perf_counter() - started)
        recent = [*request.recent, *drafted] if request.recent else ()
        return sampling.draw(
            logits, request.sampling, position, ids, constraint, recent, request.sharpness
        )

    def _hidden(self, row: int) -> FloatArray:
        if self._head is None:
            return self._context.hidden(row)
        started = perf_counter()
        hidden = self._head.next_hidden(self._context.state(row))
        self._count_head(perf_counter() - started)
        return hidden

    def _count_head(self, seconds: float) -> None:
        self.head_seconds += seconds
        self.decode_seconds += seconds

    def set_threads(self, threads: int) -> None:
        """Draft with so many threads from now on; 0 is as many as the target has."""
        self._context.set_threads(threads)

    def close(self) -> None:
        """Free the drafter's context."""
        self._context.close()
