"""How llama.cpp ends the process, as a line and an exit code.

An abort would print a backtrace and dump core; a model file that is cut while it is mapped into
memory would end it by a bus error without a word.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

# Lets the process die of SIGABRT all the same, for whoever started it to find out.
KEEP = "MTPCLI_KEEP_ABORT"
# The cursor, which progress bars hide, and pasted text without the marks that a chat asks for.
_AS_FOUND = b"\x1b[?25h\x1b[?2004l"
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_char_p)
_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_int)
try:
    import termios

    # A chat has others while it answers.
    _terminal = termios.tcgetattr(0) if os.isatty(0) else None
except ImportError:  # Windows
    _terminal = None


def _plainly(message: str) -> str:
    # Where memory is short, it is one of the many small pieces whose allocation it asserts.
    return f"llama.cpp gave up, from a damaged file or too little memory: {message}"


# Makes a line of what llama.cpp says; it runs in a thread of llama.cpp's.
_explain: Callable[[str], str] = _plainly


def explain_by(explain: Callable[[str], str]) -> None:
    """Choose what makes a line of an abort's message."""
    global _explain
    _explain = explain


_farewell: Callable[[], None] | None = None


@contextlib.contextmanager
def before_end(farewell: Callable[[], None]) -> Iterator[None]:
    """Call this first if the process is ended within the block; it must leave llama.cpp alone."""
    global _farewell
    _farewell = farewell
    try:
        yield
    finally:
        _farewell = None


def watch(library: Any) -> None:
    """Have aborts told by this module; `library` is a handle through which libggml is found."""
    with contextlib.suppress(AttributeError):  # an older one, or a system that does not look there
        library.ggml_set_abort_callback.restype = ctypes.c_void_p
        library.ggml_set_abort_callback(_aborting)
    if hasattr(signal, "SIGBUS") and not os.environ.get(KEEP):
        # Python's own handlers run only after the instruction that failed, which is never.
        ctypes.CDLL(None).signal(signal.SIGBUS, _file_changed)


@_CALLBACK
def _aborting(message: bytes) -> None:
    """Comes before the abort."""
    # "/where/it/was/built/ggml.c:1644: GGML_ASSERT(...) failed"
    text = re.sub(r"^\S*/", "", message.decode("utf-8", "replace").strip())
    if os.environ.get(KEEP):
        os.write(2, f"{text}\n".encode())
    else:
        _end(_explain(text))


@_HANDLER
def _file_changed(number: int) -> None:
    """Comes in a thread of llama.cpp's that reads weights; never returns."""
    _end(
        "a file that is mapped into memory cannot be read any more: was a model file cut or "
        "overwritten while in use? Replace it by renaming another over it, or use --no-mmap"
    )


def _end(line: str) -> NoReturn:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    if _terminal:
        with contextlib.suppress(termios.error):
            termios.tcsetattr(0, termios.TCSANOW, _terminal)
    with contextlib.suppress(OSError):
        if os.isatty(2):
            os.write(2, _AS_FOUND)
    if _farewell:
        with contextlib.suppress(Exception):
            _farewell()
    with contextlib.suppress(OSError):
        os.write(2, f"error: {' '.join(line.split())}\n".encode())
    os._exit(3)
