"""A program that waits at a place in it: what happens to it there does not depend on the clock."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Any

# After so many calls of a function it says so, and goes on when it is told to.
_HOLD = """
import importlib, os, sys

module, place, calls, said, heard = sys.argv[1:6]
del sys.argv[1:6]
owner = importlib.import_module(module)
*outer, name = place.split(".")
for part in outer:
    owner = getattr(owner, part)
function, left = getattr(owner, name), int(calls)

def hold(*arguments, **options):
    global left
    result = function(*arguments, **options)
    left -= 1
    if left == 0:
        os.write(int(said), b".")
        os.read(int(heard), 1)
    return result

setattr(owner, name, hold)
from mtpcli.__main__ import main
main()
"""


class Held:
    """`mtpcli ARGUMENTS...` that waits behind a call of one of its functions.

    Attributes:
        process: it is there, and waits, or has ended before.
    """

    def __init__(
        self, place: tuple[str, str, int], arguments: Sequence[str], **options: Any
    ) -> None:
        """Start it, and return when it waits.

        Args:
            place: module, name in it, and behind which of its calls.
            options: of `subprocess.Popen`.
        """
        listen, said = os.pipe()
        heard, self._tell = os.pipe()
        module, name, calls = place
        ends = [str(calls), str(said), str(heard)]
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-c", _HOLD, module, name, *ends, *arguments],
            pass_fds=(said, heard),
            **options,
        )
        os.close(said)
        os.close(heard)
        waits = os.read(listen, 1)
        os.close(listen)
        assert waits, self.process.communicate()

    def go_on(self) -> None:
        """Let it go on."""
        os.write(self._tell, b".")

    def __enter__(self) -> Held:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self._tell)
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
