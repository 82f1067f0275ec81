"""SIGTERM and SIGHUP for commands that have something to put away first.

The others leave nothing behind, and end at once by the signals' default.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from mtpcli.interrupts import outside_callbacks


@contextmanager
def tidy_ending() -> Iterator[None]:
    """Leave the block as by Ctrl-C, files and terminal put in order: exit code 143 or 129."""
    before = {}
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        # What the parent process ignores (nohup) stays ignored.
        if signal.getsignal(number) == signal.SIG_DFL:
            before[number] = signal.signal(number, outside_callbacks(_end))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _end(number: int, _frame: FrameType | None) -> None:
    sys.exit(128 + number)
