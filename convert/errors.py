"""What can go wrong with a checkpoint, said in one line."""

from __future__ import annotations

MAX_MESSAGE = 600


class ConvertError(Exception):
    """A snapshot that cannot be converted, or an output that cannot be written.

    The message is one line: which file, what is wrong with it, and what to do about it. It may
    quote the file, so what is long in it is cut.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(message.split())
        super().__init__(line if len(line) <= MAX_MESSAGE else f"{line[:MAX_MESSAGE]}...")


class WriteError(ConvertError):
    """An output that cannot be written."""


class TakenError(ConvertError):
    """An output where something else stands: another name is wanted, or `force`."""
