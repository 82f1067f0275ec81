"""Splits what a model writes into what it thinks and what it answers.

Gemma 4 thinks in a channel, `<|channel>thought\\n ... \\n<channel|>`, and answers after it.
"""

from __future__ import annotations

import enum
import re

_OPEN, _CLOSE = "<|channel>", "<channel|>"
# Tokens that structure a turn and are never part of its text.
CONTROL_TOKENS = (
    "<bos>",
    "<eos>",
    "<pad>",
    "<|turn>",
    "<turn|>",
    _OPEN,
    _CLOSE,
    "<|think|>",
    "<|tool>",
    "<tool|>",
    "<|tool_call>",
    "<tool_call|>",
    "<|tool_response>",
    "<tool_response|>",
    '<|"|>',
    "<|image>",
    "<image|>",
    "<|image|>",
    "<|audio>",
    "<audio|>",
    "<|audio|>",
    "<|video|>",
)
_TOKEN = re.compile("|".join(map(re.escape, CONTROL_TOKENS)))
_HELD = max(map(len, CONTROL_TOKENS)) - 1
# A channel's name stands alone on its first line. A longer "name" is text without one.
_MAX_NAME = 32


class Channel(enum.Enum):
    """Where a piece of text belongs."""

    THOUGHT = "thought"
    ANSWER = "answer"


Pieces = list[tuple[Channel, str]]


class ChannelSplitter:
    """Separates a stream of text; markers may be split between pieces in any way.

    However the text is cut, the pieces of a channel joined are the same.
    """

    def __init__(self, start: Channel = Channel.ANSWER) -> None:
        """Begin in `start`: `THOUGHT` if the prompt itself has opened the channel."""
        self._channel = start
        self._in_name = False
        self._buffer = ""

    def feed(self, text: str) -> Pieces:
        """What `text` makes certain; the beginning of a possible marker is held back."""
        if not (self._buffer or self._in_name or "<" in text or "\n" in text):
            # As with almost every token: all markers begin with one of them.
            return [(self._channel, text)] if text else []
        self._buffer += text
        return self._drain(final=False)

    def flush(self) -> Pieces:
        """The rest, when no more text will come: an unfinished marker is text after all."""
        return self._drain(final=True)

    def _drain(self, *, final: bool) -> Pieces:
        pieces: Pieces = []
        while self._step(pieces, final=final):
            pass
        return pieces

    def _step(self, pieces: Pieces, *, final: bool) -> bool:
        """Handle the buffer up to the next token; whether there was one."""
        if self._in_name and not self._skip_name(final=final):
            return False
        token = _TOKEN.search(self._buffer)
        if token is None:
            cut = len(self._buffer) if final else self._certain()
            self._emit(pieces, self._buffer[:cut])
            self._buffer = self._buffer[cut:]
            return False
        text = self._buffer[: token.start()]
        if token[0] == _CLOSE and self._channel is Channel.THOUGHT:
            text = text.removesuffix("\n")  # it belongs to the marker
        self._emit(pieces, text)
        self._buffer = self._buffer[token.end() :]
        if token[0] == _OPEN:
            self._channel, self._in_name = Channel.THOUGHT, True
        elif token[0] == _CLOSE:
            self._channel = Channel.ANSWER
        return True

    def _skip_name(self, *, final: bool) -> bool:
        """Drop the channel's name from the buffer; False while its end is not in sight."""
        token = _TOKEN.search(self._buffer)
        # `<|channel>thought<channel|>` is a name and nothing else.
        limit = token.start() if token else len(self._buffer)
        end = self._buffer.find("\n", 0, min(limit, _MAX_NAME + 1))
        if end >= 0:
            self._buffer = self._buffer[end + 1 :]
        elif limit <= _MAX_NAME and (token or final):
            self._buffer = self._buffer[limit:]
        elif not token and not final and limit <= _MAX_NAME + _HELD:
            return False
        self._in_name = False
        return True

    def _certain(self) -> int:
        """Length of the buffer's beginning that no further text can make part of a marker."""
        buffer = self._buffer
        for start in range(max(0, len(buffer) - _HELD - 1), len(buffer)):
            tail = buffer[start:]
            if self._channel is Channel.THOUGHT and tail.startswith("\n"):
                if _CLOSE.startswith(tail[1:]):
                    return start
            elif any(token.startswith(tail) for token in CONTROL_TOKENS):
                return start
        return len(buffer)

    def _emit(self, pieces: Pieces, text: str) -> None:
        if not text:
            return
        if pieces and pieces[-1][0] is self._channel:
            pieces[-1] = (self._channel, pieces[-1][1] + text)
        else:
            pieces.append((self._channel, text))
