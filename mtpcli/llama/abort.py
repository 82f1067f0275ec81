"""llama.cpp's aborts: a line and an exit code, where it would print a backtrace and dump core."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import sys
from collections.abc import Callable
from typing import Any, NoReturn

# Lets the process die of SIGABRT all the same, for whoever started it to find out.
KEEP = "MTPCLI_KEEP_ABORT"
_CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


def _plainly(message: str) -> str:
    # Where memory is short, it is one of the many small pieces whose allocation it asserts.
    return f"llama.cpp gave up, from a damaged file or too little memory: {message}"


# Makes a line of what llama.cpp says; it runs in a thread of llama.cpp's.
_explain: Callable[[str], str] = _plainly


def explain_by(explain: Callable[[str], str]) -> None:
    """Choose what makes a line of an abort's message."""
    global _explain
    _explain = explain


def watch(library: Any) -> None:
    """Have aborts told by this module; `library` is a handle through which libggml is found."""
    with contextlib.suppress(AttributeError):  # an older one, or a system that does not look there
        library.ggml_set_abort_callback.restype = ctypes.c_void_p
        library.ggml_set_abort_callback(_aborting)


@_CALLBACK
def _aborting(message: bytes) -> None:
    """Comes before the abort."""
    # "/where/it/was/built/ggml.c:1644: GGML_ASSERT(...) failed"
    text = re.sub(r"^\S*/", "", message.decode("utf-8", "replace").strip())
    if os.environ.get(KEEP):
        os.write(2, f"{text}\n".encode())
    else:
        _end(_explain(text))


def _end(line: str) -> NoReturn:
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    with contextlib.suppress(OSError):
        show_cursor = "\x1b[?25h" if os.isatty(2) else ""  # a progress bar hides it
        os.write(2, f"{show_cursor}error: {' '.join(line.split())}\n".encode())
    os._exit(3)
