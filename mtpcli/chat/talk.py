"""A conversation with a model: asks, measures, decodes ahead; knows no terminal."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mtpcli.chat import storage
from mtpcli.chat.ahead import DecodeAhead
from mtpcli.chat.conversation import Conversation, Turn
from mtpcli.chat.settings import Settings
from mtpcli.chat.speed import PlainSpeed, Report, Totals
from mtpcli.decode.metrics import Timings
from mtpcli.errors import InputError
from mtpcli.prompt.thinking import Channel

if TYPE_CHECKING:
    from mtpcli.decode.sequence import Sequence
    from mtpcli.prompt.stream import TextStream
    from mtpcli.session import Session


class Piece(NamedTuple):
    """A piece of an answer, and where the token that completed it came from."""

    channel: Channel
    text: str
    origin: str


Pieces = Generator[list[Piece], None, None]


class Talk:
    """Owns a conversation, and the cells of it in a session's engine.

    Attributes:
        conversation: what was said.
        settings: of the next answer.
        totals: what the answers cost.
    """

    def __init__(
        self,
        session: Session,
        conversation: Conversation,
        settings: Settings,
        notice: Callable[[str], None],
    ) -> None:
        """`notice` gets lines for the user about what happened on the way."""
        self.conversation = conversation
        self.settings = settings
        self.totals = Totals()
        self._session = session
        self._notice = notice
        self._ahead = DecodeAhead(session.engine)
        self._plain = PlainSpeed()
        self._counted = 0
        self._before = (0, 0, 0.0)
        self._under_way: tuple[str, TextStream, int] | None = None

    @property
    def n_ctx(self) -> int:
        """Tokens of context."""
        return self._session.n_ctx

    def close(self) -> None:
        """Leave the engine alone; the session may be closed then."""
        self._ahead.cancel()

    def news(self) -> list[str]:
        """What was found out about the drafter since the last call."""
        return self._session.engine.health.news()

    def ahead(self) -> None:
        """Decode in the background what the next turn will begin with."""
        self._ahead.begin(self._history())

    def answer(self, user: str, stopped: Callable[[], bool]) -> Pieces:
        """Ask, and give the answer in pieces, once per round.

        The turn joins the conversation when the answer ends, be it by `stopped`, which is asked
        after every round. A turn without any answer does not.

        Raises:
            InputError: the message does not fit the context; the conversation is as before.
        """
        prompt = self._prompt(user)
        self._ahead.finish(self._history())
        again, self._counted = self._ahead.decoded - self._counted, self._ahead.decoded
        seed = secrets.randbits(32) if self.settings.seed is None else self.settings.seed
        request, stream = self._session.request(
            prompt,
            replace(self.settings.sampling, seed=seed),
            max_tokens=self.settings.max_tokens,
            reuse=True,
        )
        self._under_way = user, stream, seed
        timings = self._session.engine.timings = Timings()
        self._plain.begin_answer()
        sequence: Sequence | None = None
        finish = "interrupted"
        with closing(self._session.engine.rounds([request])) as rounds:
            try:
                for (sequence,) in rounds:
                    self._measure(sequence, timings)
                    yield _pieces(stream, sequence)
                    if sequence.finish_reason:
                        finish = sequence.finish_reason
                    elif stopped():
                        break
            except KeyboardInterrupt:
                if sequence is None:  # while the prompt was decoded
                    raise
        assert sequence is not None
        self._under_way = None
        if finish == "interrupted":
            stream.finish()
            yield _pieces(stream, sequence)
        kept = bool(stream.answer) or finish != "interrupted"
        if kept:
            turn = Turn(user, stream.answer, stream.thought, seed, finish)
            self.conversation.turns.append(turn)
        self.totals.reports.append(
            Report(
                prompt=len(prompt),
                reused=sequence.reused,
                again=again,
                tokens=len(sequence.tokens),
                spent=timings,
                stats=sequence.stats,
                plain=self._plain.tokens_per_second,
                finish=finish,
                kept=kept,
                seed=seed,
            )
        )

    def again(self, user: str | None, stopped: Callable[[], bool]) -> Pieces:
        """Answer the last message again, or `user` in its place.

        The last turn is gone only when there is another one for it.

        Raises:
            InputError: there is no last message, or the new one does not fit.
        """
        turns = list(self.conversation.turns)
        left_out = self.conversation.left_out
        last = self.conversation.undo()
        if last is None:
            raise InputError("there is no message yet")
        try:
            yield from self.answer(last.user if user is None else user, stopped)
        finally:
            if len(self.conversation.turns) < len(turns):
                self.conversation.turns, self.conversation.left_out = turns, left_out
                self._under_way = None

    def keep_half(self) -> None:
        """Let an answer that an exception cut off join the conversation, as far as it came."""
        if self._under_way is None:
            return
        user, stream, seed = self._under_way
        self._under_way = None
        if stream.answer:
            turn = Turn(user, stream.answer, stream.thought, seed, "interrupted")
            self.conversation.turns.append(turn)

    def save(self, path: Path, *, state: bool, key_folder: Path) -> str:
        """Write the conversation, and its cells if asked; what was written."""
        saved = storage.Saved(
            self.conversation, self.settings.sampling, self.settings.seed, self.settings.thinking
        )
        storage.save(path, saved, self._session.paths.target.name)
        beside = storage.state_path(path)
        turns = f"{_turns(self.conversation.turns)} saved to {path}"
        if not state:
            # One from an earlier save would be of another conversation.
            storage.remove_state(beside)
            return turns
        key = storage.private_key(key_folder)
        self._ahead.finish(self._history())
        tokens, cells = self._session.engine.save()
        size = storage.save_state(beside, tokens, cells, self._identity(), key)
        return f"{turns}, and the cells of {len(tokens)} tokens ({size / 1e6:.1f} MB) beside it"

    def load(self, path: Path, *, key_folder: Path) -> str:
        """Go on with a saved conversation; what was found.

        Raises:
            InputError: it cannot be read; the conversation under way is as before.
        """
        saved = storage.load(path, self._session.sampling)
        self._ahead.cancel()
        self.conversation = saved.conversation
        self.settings.sampling = saved.sampling
        self.settings.seed, self.settings.thinking = saved.seed, saved.thinking
        turns = f"{_turns(saved.conversation.turns)} loaded from {path}"
        beside = storage.state_path(path)
        if not beside.exists():
            return turns
        try:
            key = storage.private_key(key_folder)
            tokens, cells = storage.load_state(beside, self._identity(), key)
            if not self._session.engine.restore(tokens, cells):
                raise InputError(f"llama.cpp does not take {beside.name}")
        except InputError as error:
            return f"{turns}; they are decoded again, because {error}"
        return f"{turns}, and the cells of {len(tokens)} tokens: nothing to decode again"

    def _identity(self) -> dict[str, Any]:
        from mtpcli.llama.lib import versions

        target = self._session.paths.target
        return {
            "model": storage.fingerprint(target),
            "n_ctx": self._session.n_ctx,
            "versions": versions(),
        }

    def _history(self) -> list[int]:
        """Token ids of the conversation as the next prompt will begin, as far as that is known."""
        messages = self.conversation.messages()
        if not messages:
            return []
        tokens = self._session.chat_tokens(messages, thinking=self.settings.thinking, answer=False)
        # If it does not fit, what is left of it depends on the next message.
        return tokens if len(tokens) < self.n_ctx else []

    def _prompt(self, user: str) -> list[int]:
        before = self.conversation.left_out
        room = self.n_ctx // 4
        if self.settings.max_tokens:
            room = min(room, self.settings.max_tokens)
        tokens = self.conversation.fit(
            user,
            lambda messages: self._session.chat_tokens(messages, thinking=self.settings.thinking),
            self.n_ctx,
            room,
        )
        gone = self.conversation.left_out - before
        if gone:
            turns = "the oldest turn" if gone == 1 else f"the {gone} oldest turns"
            self._notice(f"the context is full: the model does not see {turns} any more")
        return tokens

    def _measure(self, sequence: Sequence, timings: Timings) -> None:
        """Time the round that ended, and decide whether the next one is a plain one."""
        rounds, plain, tokens, seconds = (
            sequence.stats.rounds,
            sequence.stats.plain_rounds,
            sequence.stats.tokens,
            timings.decode,
        )
        if rounds:
            was = self._before
            self._plain.add(tokens - was[1], seconds - was[2], plain=plain > was[0])
        self._before = (plain, tokens, seconds)
        sequence.drafting = not self._plain.wants_plain


def _pieces(stream: TextStream, sequence: Sequence) -> list[Piece]:
    origins = sequence.origins
    return [
        Piece(channel, text, origins[min(index, len(origins) - 1)])
        for channel, text, index in stream.take_indexed()
    ]


def _turns(turns: list[Turn]) -> str:
    return f"{len(turns)} turn{'s' if len(turns) != 1 else ''}"
