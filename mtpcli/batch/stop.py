"""Ending early without losing anything: a request to stop, a moment to finish, then the end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from time import monotonic
from types import FrameType
from typing import Any

GRACE_SECONDS = 5.0


class Stop:
    """Whether to stop, and for how long what is under way may go on.

    As a context manager it listens to Ctrl-C, SIGTERM and SIGHUP: the first asks to stop, the
    second one interrupts.

    Attributes:
        requested: begin nothing new.
        signal: the signal that asked, if one did.
    """

    def __init__(
        self, grace: float = GRACE_SECONDS, clock: Callable[[], float] = monotonic
    ) -> None:
        self.requested = False
        self.signal: signal.Signals | None = None
        self._grace, self._clock = grace, clock
        self._end = 0.0
        self._previous: dict[signal.Signals, Any] = {}

    def request(self) -> None:
        """Begin nothing new from now on."""
        if not self.requested:
            self.requested, self._end = True, self._clock() + self._grace

    @property
    def expired(self) -> bool:
        """The moment is over."""
        return self.requested and self._clock() >= self._end

    def __enter__(self) -> Stop:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # What the parent process ignores (nohup, a shell's background job) stays ignored.
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._previous[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, *_exc: Any) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _hear(self, number: int, _frame: FrameType | None) -> None:
        if self.signal is not None:
            raise KeyboardInterrupt
        self.signal = signal.Signals(number)
        self.request()
