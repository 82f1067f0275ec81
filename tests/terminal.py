"""A pseudo-terminal with a program in it, driven as a person would."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from types import TracebackType

from tests.conftest import PATIENCE

ENTER, ALT_ENTER, TAB, UP = "\r", "\x1b\r", "\t", "\x1b[A"
CTRL_C, CTRL_D = "\x03", "\x04"
_WHERE = b"\x1b[6n"
_CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[()][0-9A-B]|\x1b[=>78]|\x1b\][^\x07]*\x07")


class Terminal:
    """Runs a program in a terminal of its own.

    Attributes:
        raw: all it wrote so far, control sequences included.
    """

    def __init__(
        self, command: Sequence[str], env: Mapping[str, str], size: tuple[int, int] = (30, 100)
    ) -> None:
        """`size` is rows and columns."""
        self._master, slave = pty.openpty()
        self.raw = ""
        self._seen = 0
        self._resize(*size)
        own = {key: value for key, value in env.items() if key not in ("COLUMNS", "LINES")}
        self._process = subprocess.Popen(
            list(command),
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**own, "TERM": "xterm-256color"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,
        )
        os.close(slave)

    def press(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        """Drag the window's corner."""
        self._resize(rows, columns)
        self._process.send_signal(signal.SIGWINCH)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the program."""
        self._process.send_signal(number)

    def hang_up(self, timeout: float = PATIENCE) -> int:
        """Take the terminal away, as when a connection breaks, and wait; the exit code."""
        os.close(self._master)
        self._master = -1
        return self._process.wait(timeout)

    @property
    def settings(self) -> list[object]:
        """What `stty` shows; a shell finds them so when the program has ended."""
        return list(termios.tcgetattr(self._master))

    def _resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    @property
    def text(self) -> str:
        """All it wrote so far without control sequences: styles may change within a word."""
        return _CONTROL.sub("", self.raw)

    def expect(self, pattern: str, timeout: float = PATIENCE) -> re.Match[str]:
        """Wait until a pattern appears in the text after the last expected one."""
        deadline = time.monotonic() + timeout
        while True:
            new = self.text[self._seen :]
            if found := re.search(pattern, new):
                self._seen += found.end()
                return found
            if not self._read(deadline - time.monotonic()):
                raise AssertionError(f"{pattern!r} did not come, but:\n{new}\nraw: {self.raw!r}")

    def close(self, timeout: float = PATIENCE) -> int:
        """Wait for the end; the exit code."""
        deadline = time.monotonic() + timeout
        while self._read(max(0.0, deadline - time.monotonic())):
            pass
        return self._process.wait(max(1.0, deadline - time.monotonic()))

    def _read(self, seconds: float) -> bool:
        """Read what is there within a time; False if nothing came, or will ever come."""
        if seconds <= 0 or not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            data = os.read(self._master, 1 << 16)
        except OSError:  # how Linux says that the other side is closed
            return False
        for _ in range(data.count(_WHERE)):
            os.write(self._master, b"\x1b[1;1R")  # the cursor, says this terminal, is at home
        self.raw += data.decode("utf-8", "replace")
        return bool(data)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        if self._master >= 0:
            os.close(self._master)
