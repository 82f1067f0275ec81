"""Signals that arrive while C code calls back: what their handlers raise there would be lost.

Python hears of a signal that came during C code as soon as it runs again, which may be in a
callback. ctypes prints an exception that leaves a callback, and the C code goes on.
"""

from __future__ import annotations

import _thread
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

_LATER = 0.01  # seconds after which the signal comes again
_CALLBACKS: set[CodeType] = set()
Function = TypeVar("Function", bound=Callable[..., Any])
Handler = Callable[[int, FrameType | None], Any]


def callback(function: Function) -> Function:
    """Mark a function that C code calls."""
    _CALLBACKS.add(function.__code__)
    return function


def outside_callbacks(handler: Handler) -> Handler:
    """The same handler of a signal, run only when no callback is under way."""

    def handle(number: int, frame: FrameType | None) -> None:
        caller = frame
        while caller:
            if caller.f_code in _CALLBACKS:
                again = threading.Timer(_LATER, _thread.interrupt_main, [number])
                again.daemon = True
                again.start()
                return
            caller = caller.f_back
        handler(number, frame)

    return handle
