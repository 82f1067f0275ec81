"""From tokens to shown text: complete characters, the thinking apart, cut at a stop string."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mtpcli.prompt.thinking import Channel, ChannelSplitter, Pieces

IndexedPieces = list[tuple[Channel, str, int]]


class Detokenizer(Protocol):
    """Tokens to text, as `mtpcli.llama.model.Detokenizer` does it."""

    def feed(self, token: int) -> str: ...
    def flush(self) -> str: ...


class StopScanner:
    """Cuts a stream of text before the first stop string, wherever its pieces are split."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = [stop for stop in stops if stop]
        self._held = ""
        self.stopped = False

    def feed(self, text: str) -> str:
        """What can be shown; the beginning of a possible stop string is held back."""
        if self.stopped:
            return ""
        if not self._stops:
            return text
        self._held += text
        found = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if found:
            self.stopped = True
            shown, self._held = self._held[: min(found)], ""
            return shown
        cut = len(self._held) - self._partial()
        shown, self._held = self._held[:cut], self._held[cut:]
        return shown

    def flush(self) -> str:
        """What was held back, when no more text will come."""
        shown, self._held = self._held, ""
        return shown

    def _partial(self) -> int:
        """Length of the longest end of the text that begins a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for size in range(min(longest, len(self._held)), 0, -1):
            if any(stop.startswith(self._held[-size:]) for stop in self._stops):
                return size
        return 0


class TextStream:
    """Collects a generation's text; the engine feeds it, the command line takes from it.

    Attributes:
        answer, thought: all the text so far, as far as it is certain.
        stopped: a stop string has appeared in the answer.
    """

    def __init__(
        self,
        detokenizer: Detokenizer,
        *,
        stops: Sequence[str] = (),
        splitter: ChannelSplitter | None = None,
    ) -> None:
        """Without a splitter all text is answer, control tokens included."""
        self._detokenizer = detokenizer
        self._splitter = splitter
        self._scanner = StopScanner(stops)
        self._token = -1  # index of the last one fed
        self._ready: IndexedPieces = []
        self.answer = ""
        self.thought = ""
        self.stopped = False

    def feed(self, token: int) -> None:
        """Take the next token."""
        self._token += 1
        self._add(self._split(self._detokenizer.feed(token)))

    def finish(self) -> None:
        """No token follows: whatever was held back is text."""
        if self.stopped:
            return
        self._add(self._split(self._detokenizer.flush()))
        if self._splitter:
            self._add(self._splitter.flush())
        self._show(Channel.ANSWER, self._scanner.flush())

    def take(self) -> Pieces:
        """The text that has become certain since the last call."""
        return [(channel, text) for channel, text, _ in self.take_indexed()]

    def take_indexed(self) -> IndexedPieces:
        """The same, and of each piece which token (the first is 0) completed it."""
        ready, self._ready = self._ready, []
        return ready

    def _split(self, text: str) -> Pieces:
        if self._splitter:
            return self._splitter.feed(text)
        return [(Channel.ANSWER, text)]

    def _add(self, pieces: Pieces) -> None:
        for channel, text in pieces:
            if channel is Channel.THOUGHT:
                self._show(channel, text)
            else:
                self._show(channel, self._scanner.feed(text))
                self.stopped = self._scanner.stopped

    def _show(self, channel: Channel, text: str) -> None:
        if not text:
            return
        self._ready.append((channel, text, self._token))
        if channel is Channel.THOUGHT:
            self.thought += text
        else:
            self.answer += text
