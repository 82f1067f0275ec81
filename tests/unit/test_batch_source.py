"""Rows out of files: each kind, whole and broken."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from mtpcli.batch import source
from mtpcli.batch.rows import Row
from mtpcli.batch.shapes import Kind
from mtpcli.batch.source import FileSource, LineSource, open_source
from mtpcli.errors import InputError, UsageError


def lines(data: bytes, kind: Kind | None = None) -> LineSource:
    return LineSource(io.BytesIO(data), "input", kind)


def table(data: bytes) -> list[Row]:
    return list(lines(data, "csv").rows())


def test_json_lines() -> None:
    data = b'\xef\xbb\xbf{"prompt": "a"}\n\n  \r\n{"prompt": "\xc3\xa9"}\r\n{"prompt": "c"}'
    found = lines(data)
    assert found.kind == "jsonl"
    assert [(row.number, row.line, row.fields["prompt"]) for row in found.rows()] == [
        (1, 1, "a"),
        (2, 4, "é"),
        (3, 5, "c"),
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b"not json", "is not JSON: Expecting value, column 1"),
        (b'{"a": }', "column 7"),
        (b"[1]", "is not a JSON object"),
        (b"5", "is not a JSON object"),
        (b'{"a": "\xff"}', "is not UTF-8"),
        (b'{"a": NaN}', "out of bounds"),
        (b'{"a": 1e999}', "out of bounds"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b"[" * 100000, "is not JSON"),
        (b"\x00\x01\x02", "is not JSON"),
    ],
)
def test_a_bad_line_costs_only_itself(line: bytes, problem: str) -> None:
    first, second = lines(line + b'\n{"prompt": "b"}\n').rows()
    assert first.problem is not None and problem in first.problem
    assert (first.number, first.line) == (1, 1)
    assert (second.problem, second.fields) == (None, {"prompt": "b"})


def test_a_line_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "MAX_LINE", 100)
    long = b'{"prompt": "' + b"x" * 300 + b'"}\n'
    first, second = lines(long + b'{"prompt": "b"}').rows()
    assert first.problem is not None and "longer than" in first.problem
    assert second.line == 2 and second.fields == {"prompt": "b"}


def test_openai_requests_are_recognised() -> None:
    assert lines(b'{"custom_id": "a", "body": {}}\n').kind == "openai"
    assert lines(b'{"custom_id": "a", "prompt": "b"}\n').kind == "jsonl"
    assert lines(b"").kind == "jsonl"


def test_a_table() -> None:
    data = b'\xef\xbb\xbfname,text\r\nZo\xc3\xab,"two\nlines, and ""quotes"""\n\nBo,\n'
    found = lines(data, "csv")
    assert found.columns == ["name", "text"]
    assert list(found.rows()) == [
        Row(1, 2, {"name": "Zoë", "text": 'two\nlines, and "quotes"'}),
        Row(2, 5, {"name": "Bo", "text": ""}),
    ]


def test_bad_rows_of_a_table() -> None:
    data = b'a,b\n1\n1,2,3\n\xff,2\n"x"y,2\n1,2\n"open,2\n'
    rows = table(data)
    assert [row.line for row in rows] == [2, 3, 4, 5, 6, 7]
    assert [bool(row.problem) for row in rows] == [True, True, True, True, False, True]
    assert rows[0].problem == "has 1 columns, the header 2"


@pytest.mark.parametrize("data", [b"", b"\n", b"a,a\n1,2\n", b'"open\n', b"\xff,b\n1,2\n"])
def test_tables_without_a_header(data: bytes) -> None:
    with pytest.raises(InputError, match="column"):
        lines(data, "csv")


@pytest.mark.parametrize(
    ("data", "kind", "rows"),
    [(b'{"a": 1}\n\n{"a"\n', None, 2), (b'a\n"1\n2"\n3\n', "csv", 2), (b"", None, 0)],
)
def test_measuring(data: bytes, kind: Kind | None, rows: int) -> None:
    found = lines(data, kind)
    measure = found.measure()
    assert measure is not None and measure.rows == rows
    assert len(list(found.rows())) == rows
    assert lines(data, kind).measure() == measure
    other = lines(data + b" ", kind).measure()
    assert other is not None and other.digest != measure.digest


def write(folder: Path, **files: str | bytes) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def test_a_folder(tmp_path: Path) -> None:
    write(tmp_path, b_txt="B\n", a_md="A", c_txt=b"\xff", d_txt="\n", e_json="{}", sub__f_txt="F")
    found = open_source([str(tmp_path)], None, None)
    assert [(row.fields["file"], row.fields["text"], row.problem) for row in found.rows()] == [
        ("a.md", "A", None),
        ("b.txt", "B", None),
        ("c.txt", "", "is not UTF-8 text"),
        ("d.txt", "", "is empty"),
    ]
    before = found.measure()
    write(tmp_path, b_txt="C")
    assert open_source([str(tmp_path)], None, None).measure() != before


def test_patterns_and_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, x__a_txt="1", y__a_txt="2", y__b_txt="3", z_txt="4")
    monkeypatch.chdir(tmp_path / "y")

    def names(*inputs: str) -> list[str]:
        found = open_source(list(inputs), None, None)
        assert isinstance(found, FileSource)
        return found.names

    assert names("../*/*.txt") == ["x/a.txt", "y/a.txt", "y/b.txt"]
    assert names("../**/*.txt") == ["x/a.txt", "y/a.txt", "y/b.txt", "z.txt"]
    assert names("b.txt", "a.txt", "./a.txt") == ["a.txt", "b.txt"]
    # However they are named, outputs stay inside their folder.
    assert names("a.txt", "../z.txt") == ["y/a.txt", "z.txt"]


@pytest.mark.parametrize(
    ("inputs", "kind", "error"),
    [
        (["missing.jsonl"], None, InputError),
        (["missing.txt", "x.txt"], None, InputError),
        (["*.nothing"], None, InputError),
        (["x.dat"], None, UsageError),
        (["x.txt", "y.txt"], "csv", UsageError),
        (["-"], "text", UsageError),
        (["empty"], None, InputError),
        (["array.json"], None, UsageError),
    ],
)
def test_inputs_that_cannot_be(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    inputs: list[str],
    kind: Kind | None,
    error: type[Exception],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.dat").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "array.json").write_text('[{"prompt": "a"}]')
    with pytest.raises(error):
        open_source(inputs, kind, None)


def test_kinds_by_name_and_by_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.csv", "a.tsv", "a.txt", "a.jsonl", "a.dat"):
        (tmp_path / name).write_text("x\ty\n1\t2\n" if name == "a.tsv" else "{}\n")
    assert open_source(["a.csv"], None, None).kind == "csv"
    assert open_source(["a.tsv"], None, None).columns == ["x", "y"]
    assert open_source(["a.dat"], "text", None).kind == "text"
    assert open_source(["a.dat"], "openai", None).kind == "openai"
    assert open_source(["a.jsonl"], None, None).kind == "jsonl"
    request = '{"custom_id": "a", "body": {}}'
    (tmp_path / "b[1].jsonl").write_text(request)
    assert open_source(["b[1].jsonl"], None, None).kind == "openai"
    assert open_source(["b[1].jsonl"], "jsonl", None).kind == "jsonl"
