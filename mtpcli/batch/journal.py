"""What is finished, on disk: a journal that survives `kill -9` at any byte.

The file begins with a line of settings. Every finished row is one more line: its number, whether it
failed, a checksum, its record. A line that was cut off by a kill fails its checksum and is taken
back when the journal is opened again. One process at a time holds the file's lock.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from mtpcli.errors import MtpError, UsageError

_MAGIC = "mtpcli batch journal 1"
_SYNC_SECONDS = 1.0


class OutputError(MtpError):
    """The output cannot be written; its rows are missing, as are those that fail."""

    exit_code = 4


@dataclass(frozen=True)
class Entry:
    """A finished row: its number, whether it failed, and its record without the line's end."""

    number: int
    failed: bool
    record: bytes


class Done:
    """Numbers of rows, from 1, that are finished: all up to one, and a few beyond it."""

    def __init__(self) -> None:
        self.first_open = 1
        self._beyond: set[int] = set()

    def add(self, number: int) -> None:
        """Count a row as finished."""
        self._beyond.add(number)
        while self.first_open in self._beyond:
            self._beyond.remove(self.first_open)
            self.first_open += 1

    def __contains__(self, number: int) -> bool:
        return number < self.first_open or number in self._beyond

    def __len__(self) -> int:
        return self.first_open - 1 + len(self._beyond)


class Journal:
    """An open, locked journal.

    Attributes:
        path: of the file.
        done: rows that are in it.
        failed: how many of them failed.
        dropped: bytes at its end that were damaged and are gone.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, restart: bool = False) -> None:
        """Open a journal, new or begun.

        Args:
            settings: everything that the records depend on, as JSON can hold it.
            restart: begin anew, whatever is in it.

        Raises:
            UsageError: another process has it, it was begun with other settings, or it is a file
                of somebody else's.
            OutputError: it cannot be written.
        """
        self.path = path
        self.done = Done()
        self.failed = 0
        self.dropped = 0
        self._end = 0
        self._synced = monotonic()
        self._fd = _open_locked(path)
        try:
            self._begin(settings, restart)
        except BaseException:
            os.close(self._fd)
            self._fd = -1
            raise

    def _begin(self, settings: Mapping[str, Any], restart: bool) -> None:
        header = json.dumps({"journal": _MAGIC, "settings": settings}).encode() + b"\n"
        with self._reader() as stream:
            first = stream.readline(1 << 24)
            found = _settings(first)
            mark = json.dumps({"journal": _MAGIC}).encode()[:-1]
            if found is None and first[: len(mark)] != mark[: len(first)]:
                raise UsageError(f"{self.path} is not a journal of mtpcli's: move it away")
            if found is not None and not restart:
                self._scan(stream, len(first))
        if len(self.done) == 0:
            # Nothing is lost by other settings then.
            self._truncate(0)
            self._write(header)
            return
        assert found is not None
        changed = _changes(found, json.loads(header)["settings"])
        if changed:
            raise UsageError(
                f"{self.path} was begun otherwise ({changed}) and has {len(self.done)} finished "
                "rows: run the same command as then, or begin anew with --restart"
            )
        self.dropped = os.fstat(self._fd).st_size - self._end
        self._truncate(self._end)

    def _scan(self, stream: Any, start: int) -> None:
        self._end = start
        for line in stream:
            entry = _parse(line)
            if entry is None or entry.number in self.done:
                return
            self._count(entry)
            self._end += len(line)

    def _count(self, entry: Entry) -> None:
        self.done.add(entry.number)
        self.failed += entry.failed

    def add(self, entry: Entry) -> None:
        """Append a finished row.

        Raises:
            OutputError: it cannot be written; what is in the journal stays in it.
        """
        self._write(_line(entry))
        self._count(entry)
        if monotonic() - self._synced > _SYNC_SECONDS:
            self.sync()

    def entries(self) -> Iterator[Entry]:
        """What is in the journal, in the order in which it came."""
        with self._reader() as stream:
            stream.readline()
            for line in stream:
                entry = _parse(line)
                if entry is None:
                    raise OutputError(f"{self.path} has changed under mtpcli's hands")
                yield entry

    def sync(self) -> None:
        """Make it survive a power cut, too."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise write_error(self.path, error) from None
        self._synced = monotonic()

    def close(self) -> None:
        """Let go of it; one without rows is removed. Twice is harmless."""
        if self._fd < 0:
            return
        try:
            if len(self.done) == 0:
                self.path.unlink(missing_ok=True)
            else:
                with suppress(OutputError):  # it is there already, unless the power fails now
                    self.sync()
        finally:
            os.close(self._fd)
            self._fd = -1

    def remove(self) -> None:
        """Its rows are elsewhere: delete it."""
        self.path.unlink(missing_ok=True)
        os.close(self._fd)
        self._fd = -1

    def _reader(self) -> Any:
        # Another open file would let go of the lock when it is closed (POSIX does, flock does not):
        # a duplicate shares the lock, and the position, which appending does not use.
        os.lseek(self._fd, 0, os.SEEK_SET)
        return os.fdopen(os.dup(self._fd), "rb", buffering=1 << 16)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError as error:
            raise write_error(self.path, error) from None

    def _truncate(self, size: int) -> None:
        try:
            os.ftruncate(self._fd, size)
        except OSError as error:
            raise write_error(self.path, error) from None


def in_order(entries: Iterable[Entry]) -> Iterator[Entry]:
    """Entries by number, from 1; holds only those that came too early."""
    early: list[tuple[int, Entry]] = []
    due = 1
    for entry in entries:
        heapq.heappush(early, (entry.number, entry))
        while early and early[0][0] == due:
            yield heapq.heappop(early)[1]
            due += 1


def write_error(path: Path | str, error: OSError) -> OutputError:
    """A failure to write, as people read it."""
    return OutputError(f"cannot write {path}: {error.strerror or error}")


def _line(entry: Entry) -> bytes:
    body = b"%d\t%d\t%s" % (entry.number, entry.failed, entry.record)
    return b"%08x\t%s\n" % (zlib.crc32(body), body)


def _parse(line: bytes) -> Entry | None:
    """The entry on a line, or None if the line is damaged."""
    checksum, _, body = line[:-1].partition(b"\t")
    if not line.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(body):
        return None
    number, failed, record = body.split(b"\t", 2)
    return Entry(int(number), failed == b"1", record)


def _settings(line: bytes) -> dict[str, Any] | None:
    """The settings on a journal's first line, or None if it is not one, or not a whole one."""
    try:
        header = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    if not isinstance(header, dict) or header.get("journal") != _MAGIC:
        return None
    return dict(header["settings"])


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    return ", ".join(
        f"{name} {_short(before.get(name))}, now {_short(now.get(name))}" for name in names
    )


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"


def _open_locked(path: Path) -> int:
    while True:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise write_error(path, error) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one that had it may have finished and deleted it just now.
            if path.exists() and os.path.samestat(os.fstat(fd), path.stat()):
                return fd
        except BlockingIOError:
            os.close(fd)
            raise UsageError(
                f"another mtpcli batch is writing {path}: wait for it, or name another output"
            ) from None
        except OSError as error:
            os.close(fd)
            raise OutputError(f"cannot lock {path}: {error.strerror}") from None
        os.close(fd)
