"""Decode ahead: what the next turn will begin with, while the user still reads or types.

A chat template does not render an answer in the history as the model wrote it: Gemma 4's drops
the thinking block, even the empty one that stands before every answer. So the KV cells of an
answer are of no use afterwards, and would have to be decoded again when the next message comes.
Doing it before it comes keeps to the template to the letter, feeds no thought back, and leaves
only the new tokens to the turn.
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

from mtpcli.config import SamplingConfig
from mtpcli.decode.sequence import Request
from mtpcli.errors import MtpError

if TYPE_CHECKING:
    from mtpcli.decode.engine import Engine

# Small enough to stop soon on a slow machine, large enough for the kernels of a batch. The pieces
# are the same however long the user takes, so that a conversation does not depend on it.
_PIECE = 64


class _NoStream:
    """The token after a piece is of no interest."""

    stopped = False

    def feed(self, token: int) -> None: ...

    def finish(self) -> None: ...


class DecodeAhead:
    """Brings the engine's cells to the beginning of the next prompt, in a thread or at once.

    While a thread is at work nobody else may use the engine: `finish` or `cancel` first.

    Attributes:
        decoded: how many tokens were decoded ahead so far.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._tokens: list[int] = []
        self.decoded = 0

    def begin(self, tokens: list[int]) -> None:
        """Decode `tokens` in the background, as far as they have no cells yet."""
        if self._thread and self._tokens == tokens:
            return
        self.cancel()
        self._tokens = tokens
        self._thread = threading.Thread(target=self._run, name="decode-ahead")
        self._thread.start()

    def finish(self, tokens: list[int]) -> None:
        """See that `tokens` have their cells, and that no thread is at work."""
        if self._thread and self._tokens == tokens:
            try:
                self._thread.join()
            except KeyboardInterrupt:
                self.cancel()
                raise
            self._thread = None
            return
        self.cancel()
        self._tokens = tokens
        self._run()

    def cancel(self) -> None:
        """Stop after the piece under way."""
        if self._thread:
            self._stop.set()
            self._thread.join()
            self._thread = None
        self._stop.clear()

    def _run(self) -> None:
        # What is wrong with the tokens, the turn itself will say.
        with contextlib.suppress(MtpError):
            total = len(self._tokens)
            done = self._engine.held(self._tokens)
            while done < total and not self._stop.is_set():
                done = min(done + _PIECE, total)
                self._decode(self._tokens[:done])

    def _decode(self, tokens: list[int]) -> None:
        # One token is chosen, at a cost of nothing, and forgotten: what counts are the cells.
        greedy = SamplingConfig(temperature=0)
        request = Request(tokens, greedy, _NoStream(), max_tokens=1, reuse=True)
        sequence = self._engine.start(request)
        self._engine.release(sequence)
        self.decoded += len(tokens) - sequence.reused
