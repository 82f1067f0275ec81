"""Where rows come from: lines of JSON, tables, files of text. Read as they are needed."""

from __future__ import annotations

import csv
import hashlib
import json
import math
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from glob import glob, has_magic
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from mtpcli.batch.rows import Row
from mtpcli.batch.shapes import Kind, is_openai
from mtpcli.errors import InputError, UsageError

MAX_LINE = 1 << 26
_SUFFIXES: dict[str, Kind] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "csv",
}
_TEXT_SUFFIXES = (".txt", ".md")
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Measure:
    """What one pass over the input tells: its rows, and a digest that changes when it does."""

    rows: int
    digest: str


class Source(Protocol):
    """An input.

    Attributes:
        kind: of its rows.
        columns: names of a table's columns, None elsewhere.
        paths: the files that are read; none for standard input.
    """

    kind: Kind
    columns: list[str] | None
    paths: list[Path]

    def measure(self) -> Measure | None:
        """Read it all once; None if it can be read only once."""
        ...

    def rows(self) -> Iterator[Row]:
        """The rows, once."""
        ...


class LineSource:
    """JSON lines, OpenAI requests or a table, from a stream of bytes."""

    def __init__(
        self, stream: BinaryIO, name: str, kind: Kind | None, *, delimiter: str = ","
    ) -> None:
        """Read the beginning.

        Args:
            kind: None looks whether the first row is a request of OpenAI's batch interface.

        Raises:
            InputError: a table without a header.
        """
        self._stream = stream
        self._name = name
        self._delimiter = delimiter
        self._seekable = stream.seekable()
        self.paths: list[Path] = []
        self.columns: list[str] | None = None
        lines = read_lines(stream)
        first = next(lines, b"")
        if kind is None:
            kind = "openai" if is_openai(parse_json(first)[0]) else "jsonl"
        self.kind: Kind = kind
        self._rows = self._parse(chain([first], lines))

    def measure(self) -> Measure | None:
        """See `Source`."""
        if not self._seekable:
            return None
        digest = hashlib.blake2b(digest_size=16)
        self._stream.seek(0)
        while block := self._stream.read(1 << 20):
            digest.update(block)
        self._stream.seek(0)
        lines = read_lines(self._stream)
        if self.kind == "csv":
            count = sum(1 for _ in self._parse(lines))
        else:
            count = sum(1 for line in lines if line.strip())
        self._stream.seek(0)
        self._rows = self._parse(read_lines(self._stream))
        return Measure(count, digest.hexdigest())

    def _parse(self, lines: Iterable[bytes]) -> Iterator[Row]:
        if self.kind != "csv":
            return json_rows(lines)
        self.columns, rows = table_rows(lines, self._name, self._delimiter)
        return rows

    def rows(self) -> Iterator[Row]:
        """See `Source`."""
        return self._rows


class FileSource:
    """Files of text, a row each."""

    kind: Kind = "text"
    columns: list[str] | None = None

    def __init__(self, paths: list[Path], folder: Path) -> None:
        """`folder` contains all the paths; they are called by their names below it."""
        self.paths = paths
        self.names = [path.relative_to(folder).as_posix() for path in paths]

    def measure(self) -> Measure:
        """See `Source`."""
        digest = hashlib.blake2b(digest_size=16)
        for row in self.rows():
            digest.update(json.dumps([row.fields, row.problem]).encode())
        return Measure(len(self.paths), digest.hexdigest())

    def rows(self) -> Iterator[Row]:
        """See `Source`."""
        for number, (path, name) in enumerate(zip(self.paths, self.names, strict=True), 1):
            text, problem = _read_text(path)
            yield Row(number, None, {"file": name, "name": path.stem, "text": text}, problem)


def _read_text(path: Path) -> tuple[str, str | None]:
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_LINE + 1)
        if len(data) > MAX_LINE:
            return "", f"is larger than {MAX_LINE >> 20} MiB"
        text = data.removeprefix(_BOM).decode("utf-8").strip("\n")
    except OSError as error:
        return "", f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        return "", "is not UTF-8 text"
    return text, None if text.strip() else "is empty"


_ENDLESS = 1 << 30


def read_lines(stream: BinaryIO) -> Iterator[bytes]:
    """Lines with their ends; of one that is longer than `MAX_LINE` only so much and a byte."""
    while line := stream.readline(MAX_LINE + 1):
        if len(line) > MAX_LINE and not line.endswith(b"\n"):
            size = len(line)
            while (rest := stream.readline(1 << 20)) and not rest.endswith(b"\n"):
                size += len(rest)
                if size > _ENDLESS:
                    raise InputError(f"a line of more than {_ENDLESS >> 20} MiB: is it a device?")
        yield line


def parse_json(line: bytes) -> tuple[dict[str, Any], str | None]:
    """The object on a line, or an empty one and what is wrong."""
    if len(line) > MAX_LINE:
        return {}, f"is longer than {MAX_LINE >> 20} MiB"
    try:
        value = json.loads(
            line.removeprefix(_BOM).decode("utf-8"), parse_constant=_refuse, parse_float=_finite
        )
    except UnicodeDecodeError:
        return {}, "is not UTF-8 text"
    except (ValueError, RecursionError) as error:
        # "Expecting value: line 1 column 5 (char 4)": the line is ours to tell.
        reason = getattr(error, "msg", "") or "numbers or nesting out of bounds"
        return {}, f"is not JSON: {reason}, column {getattr(error, 'pos', 0) + 1}"
    if not isinstance(value, dict):
        return {}, "is not a JSON object"
    return value, None


def _refuse(name: str) -> float:
    raise ValueError(name)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def json_rows(lines: Iterable[bytes]) -> Iterator[Row]:
    """Rows of JSON lines; blank lines are none."""
    number = 0
    for place, line in enumerate(lines, 1):
        if line.strip():
            number += 1
            yield Row(number, place, *parse_json(line))


def table_rows(
    lines: Iterable[bytes], name: str, delimiter: str
) -> tuple[list[str], Iterator[Row]]:
    """Columns and rows of a table.

    Raises:
        InputError: it has no header, or one that names a column twice.
    """
    csv.field_size_limit(MAX_LINE)
    # Bytes that are not UTF-8 are found again in the fields, so that only their row is lost.
    texts = (line.removeprefix(_BOM).decode("utf-8", "surrogateescape") for line in lines)
    reader = csv.reader(texts, delimiter=delimiter, strict=True)
    try:
        columns = next(reader, [])
    except csv.Error as error:
        raise InputError(f"{name} does not begin with the names of columns: {error}") from None
    if not any(columns) or len(set(columns)) < len(columns) or not _is_text(columns):
        raise InputError(f"{name} must begin with a line of different column names")

    def rows() -> Iterator[Row]:
        number = 0
        while True:
            line = reader.line_num + 1
            try:
                values = next(reader, None)
            except csv.Error as error:
                number += 1
                yield Row(number, line, {}, f"is not a row of the table: {error}")
                continue
            if values is None:
                return
            if values:
                number += 1
                yield _table_row(number, line, columns, values)

    return columns, rows()


def _table_row(number: int, line: int, columns: list[str], values: list[str]) -> Row:
    if not _is_text(values):
        return Row(number, line, {}, "is not UTF-8 text")
    if len(values) != len(columns):
        return Row(number, line, {}, f"has {len(values)} columns, the header {len(columns)}")
    return Row(number, line, dict(zip(columns, values, strict=True)))


def _is_text(values: list[str]) -> bool:
    return not any("\ud800" <= char <= "\udfff" for value in values for char in value)


def open_source(inputs: list[str], kind: Kind | None, spool: Path | None) -> Source:
    """The input that the arguments mean.

    Args:
        inputs: a file, `-`, a folder, a pattern, or several files of text.
        kind: None goes by the name.
        spool: folder for a copy of standard input, which makes it measurable; None reads it as
            it comes.

    Raises:
        UsageError: nobody can tell what kind of input it is.
        InputError: it cannot be read.
    """
    name = inputs[0]
    if len(inputs) > 1 or _is_pattern(name) or Path(name).is_dir():
        if kind not in (None, "text"):
            raise UsageError(f"--format {kind} reads one file at a time")
        files = _text_files(inputs)
        rows = [path for path in files.paths if path.suffix.lower() in _SUFFIXES]
        if kind is None and rows:
            raise UsageError(
                f"several inputs are files of text, a row each, and {rows[0].name} is none: name "
                "it alone, several JSONL files as `cat FILES | mtpcli batch -`, or say "
                "--format text"
            )
        return files
    if name == "-":
        if kind == "text":
            raise UsageError("--format text reads files, and not standard input")
        return LineSource(_standard_input(spool), "standard input", kind)
    path = Path(name)
    if kind == "text":
        return _text_files(inputs)
    if kind is None and path.suffix.lower() not in _SUFFIXES and path.exists():
        raise UsageError(
            f"{path}: say --format jsonl, csv or text, because its name does not tell which it is"
        )
    table = _SUFFIXES.get(path.suffix.lower()) == "csv"
    try:
        stream = path.open("rb")  # not closed: it lives as long as the source
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if path.suffix.lower() == ".json" and stream.peek(64).lstrip()[:1] == b"[":
        raise UsageError(f"{path} is one JSON array: write it in lines (`jq -c '.[]' {path}`)")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    source = LineSource(stream, str(path), kind or ("csv" if table else None), delimiter=delimiter)
    source.paths = [path]
    return source


def _is_pattern(name: str) -> bool:
    return has_magic(name) and not Path(name).exists()


def _standard_input(spool: Path | None) -> BinaryIO:
    stream: BinaryIO = sys.stdin.buffer
    if spool is None:
        return stream
    try:
        copy: Any = tempfile.TemporaryFile(dir=spool)  # noqa: SIM115 - it lives with the source
        shutil.copyfileobj(stream, copy)
        copy.flush()
    except OSError as error:
        raise InputError(f"cannot keep standard input in {spool}: {error.strerror}") from None
    copy.seek(0)
    return copy


def _text_files(inputs: list[str]) -> FileSource:
    folder = Path(inputs[0])
    if len(inputs) == 1 and folder.is_dir():
        folder = _absolute(folder)
        try:
            found = [path for path in folder.iterdir() if path.suffix.lower() in _TEXT_SUFFIXES]
        except OSError as error:
            raise InputError(f"cannot read {folder}: {error.strerror}") from None
        paths = sorted(path for path in found if path.is_file() and path.name[0] != ".")
        if not paths:
            raise InputError(f"{folder} has no {' or '.join(_TEXT_SUFFIXES)} files")
        return FileSource(paths, folder)
    paths = []
    for name in inputs:
        pattern = _is_pattern(name)
        if not pattern and not Path(name).exists():
            raise InputError(f"cannot read {name}: there is no such file")
        matches = glob(name, recursive=True) if pattern else [name]  # noqa: PTH207 - any root
        paths += [_absolute(match) for match in matches]
    paths = sorted(path for path in set(paths) if not path.is_dir())
    if not paths:
        raise InputError(f"no file matches {' '.join(inputs)}")
    return FileSource(paths, Path(os.path.commonpath([path.parent for path in paths])))


def _absolute(path: str | Path) -> Path:
    """Without `..`, so that names below a common folder stay below it; links are not followed."""
    return Path(os.path.abspath(path))  # noqa: PTH100 - Path.resolve follows links
