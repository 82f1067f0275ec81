"""Cases in forked children: a parent that has loaded everything, and a process for each case.

What a child does cannot end the campaign, and costs milliseconds instead of an interpreter's start.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mtpcli.llama import abort

REFUSED, RAN = "refused", "ran"
MEMORY = 12 << 30


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    Attributes:
        kind: `ran`, `refused` (a known error), `traceback`, `signal N` or `hang`.
        text: the error's line, the traceback, or what was last written to standard error.
    """

    kind: str
    text: str

    @property
    def is_good(self) -> bool:
        return self.kind in (RAN, REFUSED)


def run_case(case: Callable[[], object], known: type[Exception], seconds: int) -> Outcome:
    """Run `case` in a child and wait for it; errors of type `known` refuse the input."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _child(case, known, writer)
    os.close(writer)
    said = _read(reader, child, seconds)
    os.close(reader)
    _, status = os.waitpid(child, 0)
    text = said.decode("utf-8", "replace")
    if "\x1f" in text:
        kind, _, rest = text.rpartition("\x1e")[2].partition("\x1f")
        return Outcome(kind, rest)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return Outcome("hang" if number == signal.SIGKILL else f"signal {number}", text[-2000:])
    return Outcome("exit without a word", text[-2000:])


def _child(case: Callable[[], object], known: type[Exception], writer: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.environ[abort.KEEP] = "1"
    for number in (1, 2):
        os.dup2(writer, number)
    try:
        case()
        kind, text = RAN, ""
    except known as error:
        kind, text = REFUSED, str(error)
    except BaseException:
        kind, text = "traceback", traceback.format_exc()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os.write(writer, f"\x1e{kind}\x1f{text}".encode("utf-8", "replace"))
    os._exit(0)


def _read(reader: int, child: int, seconds: int) -> bytes:
    """What the child writes until it ends; it is killed after so many seconds.

    They are counted one by one, so that a machine that stands still ends nobody.
    """
    parts: list[bytes] = []
    while True:
        waited = 0
        while not select.select([reader], [], [], 1)[0]:
            waited += 1
            if waited >= seconds:
                os.kill(child, signal.SIGKILL)
                return b"".join(parts)
        part = os.read(reader, 65536)
        if not part:
            return b"".join(parts)
        parts = [*parts[-8:], part]


def leftovers(folder: Path, known: set[str]) -> list[str]:
    """Names in a folder that should not be there; they are removed."""
    extra = sorted(path.name for path in folder.iterdir() if path.name not in known)
    for name in extra:
        (folder / name).unlink()
    return extra
