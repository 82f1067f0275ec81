"""How a chat looks: answers as they come, thoughts dimmed, tokens in the colour of their origin."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, TextIO

from mtpcli.chat.talk import Piece
from mtpcli.cli.output import wants_colour
from mtpcli.decode.sequence import TARGET
from mtpcli.interrupts import outside_callbacks
from mtpcli.prompt.thinking import Channel
from mtpcli.sanitize import visible

_PLAIN, _DIM = "\x1b[0m", "\x1b[2m"
_ORIGINS = {"mtp": ("\x1b[32m", "accepted MTP draft"), "lookup": ("\x1b[36m", "accepted lookup")}
_OTHER = ("\x1b[35m", "accepted draft")
_ERASE_LINE = "\r\x1b[K"
_THINKING = "thinking…"


class Screen:
    """Shows pieces of answers. Standard output gets the answer, standard error the rest.

    Attributes:
        show_thoughts: dimmed, as they come; else only that there are some.
        show_drafts: colour each token by its origin.
    """

    def __init__(self, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
        self._out, self._err = stdout or sys.stdout, stderr or sys.stderr
        self.terminal = self._out.isatty()
        self.colour = wants_colour(self._out)
        self._dim = wants_colour(self._err)
        self.show_thoughts = True
        self.show_drafts = False
        self._channel: Channel | None = None
        self._last = ""

    def write(self, pieces: list[Piece]) -> None:
        """Show pieces at once."""
        for piece in pieces:
            if piece.channel is not self._channel:
                self._turn_to(piece.channel)
            if piece.channel is Channel.ANSWER:
                self._answer(piece)
            elif self.show_thoughts:
                self._err.write(self._dimmed(visible(piece.text)))
        self._out.flush()
        self._err.flush()

    def end(self) -> None:
        """Finish the last line of an answer."""
        self._turn_to(None)
        if self._last and self._last != "\n":
            self._out.write("\n")
        self._last = ""
        self._out.flush()

    def note(self, line: str) -> None:
        """A line about the conversation, dimmed."""
        self._err.write(self._dimmed(visible(line)) + "\n")
        self._err.flush()

    def error(self, message: str) -> None:
        """A line about what went wrong; the chat goes on."""
        self._err.write(f"error: {visible(' '.join(message.split()))}\n")
        self._err.flush()

    def legend(self) -> str:
        """What the colours mean."""
        if not self.colour:
            return "colours are for terminals, and NO_COLOR is respected: only figures are shown"
        marks = [f"{colour}■{_PLAIN} {name}" for colour, name in _ORIGINS.values()]
        return "  ".join(["■ target", *marks])

    def show_legend(self) -> None:
        """Show it."""
        self._err.write(self.legend() + "\n")
        self._err.flush()

    def _answer(self, piece: Piece) -> None:
        if not self.terminal:
            self._out.write(piece.text)
        elif self.show_drafts and self.colour and piece.origin != TARGET:
            colour, _ = _ORIGINS.get(piece.origin, _OTHER)
            self._out.write(f"{colour}{visible(piece.text)}{_PLAIN}")
        else:
            self._out.write(visible(piece.text))
        self._last = piece.text[-1]

    def _turn_to(self, channel: Channel | None) -> None:
        """Leave the channel that was shown for another."""
        if self._channel is Channel.THOUGHT:
            if self.show_thoughts:
                self._err.write("\n")
            elif self._dim:
                self._err.write(_ERASE_LINE)
        if channel is Channel.THOUGHT and not self.show_thoughts and self._dim:
            self._err.write(self._dimmed(_THINKING))
        self._channel = channel
        self._err.flush()

    def _dimmed(self, text: str) -> str:
        return f"{_DIM}{text}{_PLAIN}" if self._dim else text


class Interruptible:
    """Ctrl-C while an answer comes asks it to stop; before its first token it raises, once."""

    def __init__(self) -> None:
        self._asked = False
        self.begun = False
        self._before: Any = None

    def asked(self) -> bool:
        """Whether Ctrl-C was pressed."""
        return self._asked

    def __enter__(self) -> Interruptible:
        self._before = signal.signal(signal.SIGINT, outside_callbacks(self._hit))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _hit(self, _signal: int, _frame: FrameType | None) -> None:
        first, self._asked = not self._asked, True
        if first and not self.begun:
            raise KeyboardInterrupt


@contextlib.contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Ctrl-C does nothing: whoever presses it twice to stop an answer does not want to leave."""
    before = signal.signal(signal.SIGINT, lambda _signal, _frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
