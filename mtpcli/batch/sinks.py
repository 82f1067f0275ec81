"""Where records go: a file, a folder of files, a stream."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from mtpcli.batch.journal import Done, Entry, Journal, in_order, write_error
from mtpcli.batch.source import FileSource, Source
from mtpcli.errors import UsageError
from mtpcli.files import replacing

if TYPE_CHECKING:
    from mtpcli.batch.settings import BatchOptions

FOLDER_JOURNAL = ".mtpcli-batch.part"
FOLDER_ERRORS = "errors.jsonl"
_MAX_SUMMARY = 1 << 20
_JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")


class Sink(Protocol):
    """Takes records in any order.

    Attributes:
        done: rows that it has.
        failed: how many of them failed.
        window: how many rows at most may lie between the first unfinished one and the next.
        journal: where finished rows are kept for a later run, None if they are not.
    """

    done: Done
    window: int

    @property
    def failed(self) -> int: ...
    @property
    def journal(self) -> Path | None: ...
    def add(self, entry: Entry) -> None:
        """Take a finished row.

        Raises:
            OutputError: it cannot be written.
            BrokenPipeError: nobody reads any more.
        """
        ...

    def finish(self) -> None:
        """There are no more rows: let the output appear."""
        ...

    def close(self) -> None:
        """Let go of everything; twice is harmless."""
        ...


class FileSink:
    """A file that appears when it is complete; until then a journal beside it.

    Memory is held for the numbers of rows that finish early, and at the end for their records.
    """

    window = 4096

    def __init__(
        self, path: Path, settings: Mapping[str, Any], *, ordered: bool, restart: bool
    ) -> None:
        """See `Journal` for the rest.

        Raises:
            UsageError: the file exists, and nothing says that it may be replaced.
        """
        self._path = Path(os.path.realpath(path))
        self._ordered = ordered
        self.journal = self._path.with_name(f"{self._path.name}.part")
        if self._path.exists() and not restart and not self.journal.exists():
            raise UsageError(
                f"{path} exists already, from a finished run or otherwise: "
                "--restart generates it anew"
            )
        self._journal = Journal(self.journal, settings, restart=restart)
        self.done = self._journal.done

    @property
    def failed(self) -> int:
        """See `Sink`."""
        return self._journal.failed

    def add(self, entry: Entry) -> None:
        """See `Sink`."""
        self._journal.add(entry)

    def finish(self) -> None:
        """See `Sink`."""
        entries = self._journal.entries()
        lines = in_order(entries) if self._ordered else entries
        write_whole(self._path, (line for entry in lines for line in (entry.record, b"\n")))
        self._journal.remove()

    def close(self) -> None:
        """See `Sink`."""
        self._journal.close()


class FolderSink:
    """A file per row in a folder, each whole when it appears; failures in one file of their own.

    The journal inside the folder has all records until the end, so that a file that was not
    written before a kill is written by the next run, without generating it anew.
    """

    window = 4096

    def __init__(
        self, folder: Path, names: list[str], settings: Mapping[str, Any], *, restart: bool
    ) -> None:
        """Make the folder; `names` are the files that will be in it.

        Raises:
            UsageError: one of them exists, and nothing says that it may be replaced.
        """
        self._folder = folder
        self.journal = folder / FOLDER_JOURNAL
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(folder, error) from None
        if not restart and not self.journal.exists():
            for name in [*names, FOLDER_ERRORS]:
                if (folder / name).exists():
                    raise UsageError(f"{folder / name} exists already: --restart replaces it")
        self._journal = Journal(self.journal, settings, restart=restart)
        if restart:
            for name in [*names, FOLDER_ERRORS]:
                (folder / name).unlink(missing_ok=True)
        self.done = self._journal.done

    @property
    def failed(self) -> int:
        """See `Sink`."""
        return self._journal.failed

    def add(self, entry: Entry) -> None:
        """See `Sink`."""
        self._journal.add(entry)
        if not entry.failed:
            self._write(json.loads(entry.record))

    def finish(self) -> None:
        """See `Sink`."""
        for entry in self._journal.entries():
            if not entry.failed:
                self._write(json.loads(entry.record))
        if self.failed:
            failures = (entry for entry in in_order(self._journal.entries()) if entry.failed)
            write_whole(
                self._folder / FOLDER_ERRORS,
                (line for entry in failures for line in (entry.record, b"\n")),
            )
        self._journal.remove()

    def close(self) -> None:
        """See `Sink`."""
        self._journal.close()

    def _write(self, record: Mapping[str, Any]) -> None:
        path = self._folder / record["file"]
        if path.exists():
            return
        text = str(record["response"]["text"])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(path, error) from None
        data = text.encode("utf-8", "replace")
        write_whole(path, [data if data.endswith(b"\n") else data + b"\n"])


class StreamSink:
    """A pipe or a device: what is written is gone, so nothing is kept for another run."""

    window = 256
    journal: Path | None = None

    def __init__(self, stream: BinaryIO, name: str, *, ordered: bool) -> None:
        self.done = Done()
        self.failed = 0
        self._stream, self._name, self._ordered = stream, name, ordered
        self._early: dict[int, bytes] = {}
        self._due = 1

    def add(self, entry: Entry) -> None:
        """See `Sink`."""
        self.done.add(entry.number)
        self.failed += entry.failed
        if not self._ordered:
            self._write(entry.record)
            return
        self._early[entry.number] = entry.record
        while (record := self._early.pop(self._due, None)) is not None:
            self._write(record)
            self._due += 1

    def finish(self) -> None:
        """See `Sink`."""
        self.close()

    def close(self) -> None:
        """Write what still waits for earlier rows that will not come."""
        for number in sorted(self._early):
            self._write(self._early.pop(number))

    def _write(self, record: bytes) -> None:
        try:
            self._stream.write(record + b"\n")
            self._stream.flush()
        except OSError as error:
            self._early.clear()
            if isinstance(error, BrokenPipeError):
                raise
            raise write_error(self._name, error) from None


def is_stream(path: Path) -> bool:
    """Whether it is a pipe or a device, which a file cannot replace."""
    return path.exists() and not path.is_file() and not path.is_dir()


def spool_folder(output: str | None) -> Path | None:
    """Where an input that cannot be read twice is kept; None for an output without a journal.

    Raises:
        UsageError: the output's folder does not exist.
    """
    if output is None or is_stream(Path(output)):
        return None
    folder = Path(output).parent
    if not folder.is_dir():
        raise UsageError(f"cannot write {output}: {folder} is not a folder")
    return folder


def open_sink(given: BatchOptions, source: Source, settings: Mapping[str, Any]) -> Sink:
    """The output that the options mean.

    Raises:
        UsageError: it exists, or cannot be an output for this input.
        OutputError: it cannot be written.
    """
    ordered = not given.as_finished
    if given.output is None:
        return StreamSink(sys.stdout.buffer, "standard output", ordered=ordered)
    path = Path(given.output)
    if is_stream(path):
        try:
            stream = path.open("wb", buffering=0)
        except OSError as error:
            raise write_error(path, error) from None
        return StreamSink(stream, str(path), ordered=ordered)
    if isinstance(source, FileSource) and path.suffix.lower() not in _JSON_SUFFIXES:
        _spare_inputs(source, [path / name for name in [*source.names, FOLDER_ERRORS]])
        return FolderSink(path, source.names, settings, restart=given.restart)
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name a file, such as {path / 'answers.jsonl'}")
    _spare_inputs(source, [path])
    return FileSink(path, settings, ordered=ordered, restart=given.restart)


def check_summary(given: BatchOptions, source: Source) -> None:
    """See before the work that the summary can be written, and onto nothing that is needed.

    Raises:
        UsageError: it is an input, the output, in no folder, or something else that should stay.
    """
    path = given.json_summary
    if path is None or is_stream(path):
        return
    _spare_inputs(source, [path])
    if path.is_dir() or not path.parent.is_dir():
        raise UsageError(f"cannot write {path}: name a file in a folder that exists")
    output = given.output and os.path.realpath(given.output)
    if output and os.path.realpath(path) in (output, f"{output}.part"):
        raise UsageError(f"{path} is the output: name another file for the summary")
    if path.exists() and not given.restart and not _is_summary(path):
        raise UsageError(f"{path} exists already and is no summary: --restart replaces it")


def _is_summary(path: Path) -> bool:
    """Whether it is empty, or an earlier run's: a run that goes on replaces its own."""
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_SUMMARY)
        return not text or {"complete", "model"} <= json.loads(text).keys()
    except (OSError, ValueError, RecursionError, AttributeError):
        return False


def _spare_inputs(source: Source, outputs: Iterable[Path]) -> None:
    """Refuse to write over what is read, be it by another name.

    Raises:
        UsageError: an output is an input.
    """
    inputs = {_identity(path) for path in source.paths} - {None}
    for path in outputs:
        if _identity(path) in inputs:
            raise UsageError(f"{path} is an input: name another output")


def _identity(path: Path) -> tuple[int, int] | None:
    """What a file is whatever it is called, None if there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def write_whole(path: Path, parts: Iterable[bytes]) -> None:
    """Write a file that appears complete, or not at all.

    Raises:
        OutputError: it cannot be written; nothing is left of it.
    """
    try:
        with replacing(path) as stream:
            stream.writelines(parts)
    except OSError as error:
        raise write_error(path, error) from None


def write_json(path: Path, value: Any) -> None:
    """Write an object for people and programs, to a file or a device.

    Raises:
        OutputError: it cannot be written.
    """
    data = json.dumps(value, ensure_ascii=False, indent=2).encode("utf-8", "replace") + b"\n"
    if not is_stream(path):
        write_whole(path, [data])
        return
    try:
        path.write_bytes(data)
    except OSError as error:
        raise write_error(path, error) from None
