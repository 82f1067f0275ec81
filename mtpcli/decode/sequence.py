"""One generation: its tokens, its place in the KV cache, and why it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from mtpcli.config import SamplingConfig
from mtpcli.decode.constraint import Constraint
from mtpcli.decode.drafters.base import Draft
from mtpcli.decode.drafters.lookup import LookupIndex
from mtpcli.decode.metrics import SpeculationStats

FinishReason = Literal["stop", "length", "context"]
# The origin of a token that nobody had drafted, or that was drafted otherwise.
TARGET = "target"


class TokenStream(Protocol):
    """Takes the tokens as they are decided; turns them into text, for those who want text.

    Attributes:
        stopped: a stop string has appeared: the token fed last is the last one.
    """

    stopped: bool

    def feed(self, token: int) -> None:
        """Take the next token."""
        ...

    def finish(self) -> None:
        """No token follows."""
        ...


@dataclass(frozen=True)
class Request:
    """What to generate.

    Attributes:
        prompt: token ids, at least one.
        sampling: how to choose tokens.
        stream: where the tokens go.
        max_tokens: limit, or None for as many as the context holds.
        reuse: keep the cells of an earlier sequence in the slot as far as its tokens begin this
            prompt. What is decoded then depends on what ran before, and with some quantisations
            so do the last bits of the logits: for conversations, not for batches.
        constraint: opens what the text must keep to, at its beginning; the engine calls it when
            the request starts, and closes what it gets whatever happens.
    """

    prompt: list[int]
    sampling: SamplingConfig
    stream: TokenStream
    max_tokens: int | None = None
    reuse: bool = False
    constraint: Callable[[], Constraint] | None = None


class Sequence:
    """A request under way, in one slot of the contexts.

    Attributes:
        slot: its sequence number in the contexts.
        tokens: what was generated, the token that ended it included.
        origins: where each of them came from: `target`, or the name of the drafter whose draft
            was accepted.
        drafting: set it to False to decode plainly from the next round on: the same text.
        n_past: KV cells it has in the target; the last token is not among them.
        reused: how many of them had been decoded for an earlier sequence.
        hidden: float32 `[n_embd]`, the target's hidden state that produced the last token.
        finish_reason: None while under way. `stop`: the model's own end or a stop string; `length`:
            the token limit; `context`: no cell is left.
        stats: what was drafted and accepted.
        lookup: where its tokens stood before, prompt included.
        proposals: all that was proposed for the round under way, verified or not.
        constraint: where the text stands in its grammar; closed with the release.
        released: the slot belongs to others again.
    """

    def __init__(self, request: Request, slot: int, n_ctx: int, n_embd: int) -> None:
        self.request = request
        self.slot = slot
        self.tokens: list[int] = []
        self.origins: list[str] = []
        self.drafting = True
        self.n_past = 0
        self.reused = 0
        self.hidden: npt.NDArray[np.float32] = np.zeros(n_embd, np.float32)
        self.finish_reason: FinishReason | None = None
        self.stats = SpeculationStats()
        self.lookup = LookupIndex(request.prompt)
        self.proposals: list[Draft] = []
        self.constraint: Constraint | None = None
        self.released = False
        self._n_ctx = n_ctx

    @property
    def cells(self) -> list[int]:
        """The tokens whose KV cells the target holds."""
        return [*self.request.prompt, *self.tokens][: self.n_past]

    @property
    def cells_left(self) -> int:
        """How many drafted tokens have cells beside the last token's."""
        return self._n_ctx - 1 - self.n_past

    @property
    def room(self) -> int:
        """How many drafted tokens could still be kept beside the target's own next one."""
        room = self.cells_left
        if self.request.max_tokens is not None:
            room = min(room, self.request.max_tokens - len(self.tokens) - 1)
        return max(0, room)

    def recent(self, more: list[int] | None = None) -> list[int]:
        """The last tokens, and `more` behind them, where penalties look at any."""
        config = self.request.sampling
        if not config.penalises:
            return []
        tokens = [*self.tokens[-config.recent :], *(more or [])]
        prompt = self.request.prompt[-config.recent :]
        return [*prompt, *tokens][-config.recent :]

    def commit(self, token: int, *, is_end: bool, origin: str = TARGET) -> None:
        """Keep a token, and see whether it is the last one."""
        self.tokens.append(token)
        self.origins.append(origin)
        self.lookup.add(token)
        if is_end:
            self._finish("stop")
            return
        self.request.stream.feed(token)
        if self.request.stream.stopped:
            self._finish("stop")
        elif len(self.tokens) == self.request.max_tokens:
            self._finish("length")
        elif len(self.request.prompt) + len(self.tokens) > self._n_ctx:
            # The token would need a cell of its own to be followed by another.
            self._finish("context")

    def _finish(self, reason: FinishReason) -> None:
        self.finish_reason = reason
        self.request.stream.finish()
