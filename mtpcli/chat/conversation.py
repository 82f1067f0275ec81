"""What was said so far, and which part of it the model still sees. Pure: no model, no terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mtpcli.errors import InputError
from mtpcli.prompt.template import Message

Tokenize = Callable[[Sequence[Message]], list[int]]


@dataclass(frozen=True)
class Turn:
    """A message and its answer.

    Attributes:
        user: what the user wrote.
        answer: what the model answered; a half answer if it was interrupted.
        thought: what the model thought before. It is kept for the record and never shown to the
            model again.
        seed: the seed that gave the answer, where it is known.
        finish: why the answer ended: `stop`, `length`, `context` or `interrupted`.
    """

    user: str
    answer: str
    thought: str = ""
    seed: int | None = None
    finish: str = "stop"


@dataclass
class Conversation:
    """Turns after a system prompt.

    Attributes:
        system: the system prompt, or None.
        turns: all of them, the oldest first.
        left_out: how many of the oldest turns the model does not see any more.
    """

    system: str | None = None
    turns: list[Turn] = field(default_factory=list)
    left_out: int = 0

    def messages(self, user: str | None = None) -> list[Message]:
        """What the model sees; with `user` as the next message."""
        return self._messages(self.left_out, user)

    def _messages(self, first: int, user: str | None) -> list[Message]:
        messages: list[Message] = []
        if self.system:
            messages.append({"role": "system", "content": self.system})
        for turn in self.turns[first:]:
            messages.append({"role": "user", "content": turn.user})
            messages.append({"role": "assistant", "content": turn.answer})
        if user is not None:
            messages.append({"role": "user", "content": user})
        return messages

    def undo(self) -> Turn | None:
        """Take back the last turn; None if there is none."""
        if not self.turns:
            return None
        turn = self.turns.pop()
        # A turn that was left out comes back when nothing stands after it any more.
        self.left_out = min(self.left_out, max(0, len(self.turns) - 1))
        return turn

    def reset(self) -> None:
        """Forget all turns; the system prompt stays."""
        self.turns.clear()
        self.left_out = 0

    def fit(self, user: str, tokenize: Tokenize, n_ctx: int, reserve: int) -> list[int]:
        """Token ids of the conversation with `user` as its next message.

        If they leave less than `reserve` tokens for the answer, the oldest turns leave whole. As
        what comes after them moves and is decoded again, enough of them leave at once to make the
        prompt half the context: then the next turns fit without moving anything.

        Args:
            user: the next message.
            tokenize: messages to token ids.
            n_ctx: tokens of context.
            reserve: tokens that should be free for the answer.

        Raises:
            InputError: the message does not fit even alone; the conversation is as before.
        """
        tokens = tokenize(self.messages(user))
        if len(tokens) + reserve <= n_ctx:
            return tokens
        alone = tokenize(self._messages(len(self.turns), user))
        if len(alone) > n_ctx:
            raise InputError(
                f"the message has {len(alone)} tokens with all that belongs to it, and the "
                f"context {n_ctx}: shorten it, or raise --ctx; the conversation stays as it was"
            )
        half = n_ctx // 2
        limit = half if len(alone) <= half else max(len(alone), n_ctx - reserve)
        first = self.left_out
        while len(tokens) > limit and first < len(self.turns):
            first += 1
            tokens = tokenize(self._messages(first, user))
        self.left_out = first
        return tokens
