"""What can go wrong with a checkpoint, said in one line."""

from __future__ import annotations


class ConvertError(Exception):
    """A snapshot that cannot be converted, or an output that cannot be written.

    The message is one line: which file, what is wrong with it, and what to do about it.
    """
