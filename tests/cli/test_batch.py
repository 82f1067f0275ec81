"""`mtpcli batch` as its users see it: what goes in, what comes out, and what is said meanwhile."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE, Pair, Result

Run = Callable[..., Result]

ROWS: list[dict[str, Any]] = [
    {"id": "story", "prompt": "Write a short story about a brave cat named Leo who finds a key."},
    {"prompt": "What is 27 + 45?", "temperature": 0, "max_tokens": 5},
    {"messages": [{"role": "user", "content": "Hi"}], "seed": 7},
    {"prompt": "Write a short story about a brave cat named Leo who finds a key."},
    {"prompt": "Hello", "stop": ["e", "a", "i", "o", "u"]},
]


@pytest.fixture
def batch(run_cli: Run, demo_pair: Pair) -> Run:
    """Run `mtpcli batch` with the embedded pair's files, short answers and a fixed depth."""

    def run(*arguments: str | Path, **options: Any) -> Result:
        fixed = ("-m", demo_pair.target, "--threads", "1", "--draft-depth", "2", "--ctx", "512")
        limit = () if "-n" in arguments else ("-n", "12")
        return run_cli("batch", *arguments, *fixed, *limit, **options)

    return run


def write(path: Path, rows: list[Any]) -> None:
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_json_lines(batch: Run, run_cli: Run, demo_pair: Pair, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    for name in ("out.jsonl.new", "sum.json.new"):
        (tmp_path / name).write_text("mine")
    result = batch("in.jsonl", "-o", "out.jsonl", "--json-summary", "sum.json")
    assert (result.exit_code, result.stdout) == (0, "")
    assert re.fullmatch(r"mtpcli: 5 rows: 5 answered, 0 failed · \d+ tokens in .*\n", result.stderr)
    for name in ("out.jsonl.new", "sum.json.new"):
        assert (tmp_path / name).read_text() == "mine"
        (tmp_path / name).unlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", "out.jsonl", "sum.json"]
    found = records((tmp_path / "out.jsonl").read_text("utf-8"))
    for number, (record, row) in enumerate(zip(found, ROWS, strict=True), 1):
        assert list(record) == ["line", *row, "response"]
        assert record["line"] == number
        assert {key: record[key] for key in row} == row
        assert list(record["response"]) == ["text", "finish_reason", "usage", "seed"]
    answers = [record["response"] for record in found]
    assert answers[0]["text"] != answers[3]["text"], "rows must differ"
    assert answers[1]["usage"]["completion_tokens"] == 5
    assert answers[2]["seed"] == 7
    assert answers[4]["finish_reason"] == "stop"
    summary = json.loads((tmp_path / "sum.json").read_text("utf-8"))
    assert (summary["rows"], summary["answered"], summary["failed"]) == (5, 5, 0)
    assert summary["complete"] is True
    used = sum(answer["usage"]["completion_tokens"] for answer in answers)
    assert summary["completion_tokens"] == used
    assert summary["speculation"]["drafter"] == "mtp" and summary["speculation"]["drafted"] > 0
    # The seed that is told gives the same text alone.
    seed = str(answers[3]["seed"])
    again = run_cli(
        *("generate", ROWS[3]["prompt"], "-m", demo_pair.target, "-n", "12"),
        *("--seed", seed, "--json", "--threads", "1", "--no-draft"),
    )
    assert json.loads(again.stdout)["text"] == answers[3]["text"]


def test_neither_order_nor_neighbours_nor_drafts_change_a_row(batch: Run, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    whole = batch("in.jsonl", "-q").stdout
    assert len(records(whole)) == 5
    assert batch("in.jsonl", "-q", "-p", "1", "--no-draft").stdout == whole
    assert batch("in.jsonl", "-q", "-p", "3", "-o", "out.jsonl").stdout == ""
    assert (tmp_path / "out.jsonl").read_text("utf-8") == whole
    mixed = batch("in.jsonl", "-q", "-p", "2", "--as-finished").stdout
    assert mixed != whole and sorted(mixed.splitlines()) == sorted(whole.splitlines())
    assert batch("in.jsonl", "-q", "--seed", "1").stdout != whole


def test_a_long_system_prompt_is_decoded_once(batch: Run, tmp_path: Path) -> None:
    system = "Answer in few words, and say so when something is unclear. " * 12
    own = [{"role": "system", "content": "Brief."}, {"role": "user", "content": "Hi"}]
    write(tmp_path / "in.jsonl", [*ROWS, {"messages": own}])
    result = batch("in.jsonl", "--system", system, "-p", "3", "--json-summary", "sum.json")
    assert result.exit_code == 0
    found = records(result.stdout)
    summary = json.loads((tmp_path / "sum.json").read_text("utf-8"))
    used = [record["response"]["usage"]["prompt_tokens"] for record in found]
    assert summary["prompt_tokens"] == sum(used)
    # Of the first five rows all but the first have it, at most 79 tokens of its end are anew.
    assert min(used) < 50 and max(used) < 300
    assert 4 * (min(used[:5]) - 110) < summary["reused_prompt_tokens"] < 4 * min(used[:5])
    # With it in the rows nothing is shared, and the answers are the same.
    chats = [row.get("messages", [{"role": "user", "content": row.get("prompt")}]) for row in ROWS]
    begin = {"role": "system", "content": system}
    rows = [
        {key: value for key, value in row.items() if key != "prompt"} | {"messages": [begin, *chat]}
        for row, chat in zip(ROWS, chats, strict=True)
    ]
    write(tmp_path / "in.jsonl", rows)
    whole = batch("in.jsonl", "-p", "2", "--json-summary", "sum.json", "-o", "out.jsonl")
    assert whole.exit_code == 0
    assert json.loads((tmp_path / "sum.json").read_text("utf-8"))["reused_prompt_tokens"] == 0
    answers = [record["response"] for record in found]
    each = [row["response"] for row in records((tmp_path / "out.jsonl").read_text("utf-8"))]
    assert answers[:5] == each


def test_bad_rows_become_records_and_the_rest_goes_on(batch: Run, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", [ROWS[1], "", "{broken", {"prompt": 5}, ROWS[2]])
    with (tmp_path / "in.jsonl").open("ab") as stream:
        stream.write(b'{"prompt": "\xff"}\n{"prompt": "' + b"long " * 3000 + b'"}\n')
        stream.write(b'{"prompt": "x", "temperature": "hot"}\n{"prompt": "x", "schema": 5}\n')
    result = batch("in.jsonl", "-o", "out.jsonl")
    assert (result.exit_code, result.stdout) == (4, "")
    found = records((tmp_path / "out.jsonl").read_text("utf-8"))
    assert [record["line"] for record in found] == [1, 3, 4, 5, 6, 7, 8, 9]
    assert ["response" in record for record in found] == [True, False, False, True, *[False] * 4]
    errors = {record["line"]: record["error"] for record in found if "error" in record}
    assert all(error["line"] == line for line, error in errors.items())
    said = ["", "", "", "not JSON", "prompt", "", "UTF-8", "the context", "temperature", "schema"]
    for line, error in errors.items():
        assert said[line] in error["message"]
        assert f"mtpcli: line {line}: {error['message']}" in result.stderr
    assert "8 rows: 2 answered, 6 failed" in result.stderr


def test_fail_fast_stops_at_the_first_bad_row(batch: Run, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", [*ROWS, "{broken", *ROWS])
    result = batch("in.jsonl", "-o", "out.jsonl", "--fail-fast", "-p", "2")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "stopped at line 6: is not JSON" in result.stderr
    assert "5 finished rows are kept in" in result.stderr and "out.jsonl.part" in result.stderr
    assert not (tmp_path / "out.jsonl").exists()
    rest = batch("in.jsonl", "-o", "out.jsonl", "-p", "2")
    assert rest.exit_code == 4
    assert "going on: 5 rows are finished already" in rest.stderr
    assert len(records((tmp_path / "out.jsonl").read_text("utf-8"))) == 11


def test_openai_requests(batch: Run, tmp_path: Path) -> None:
    chat = {"model": "x", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 3}
    schema = {"type": "json_schema", "json_schema": {"name": "c", "schema": {"enum": ["red"]}}}
    write(
        tmp_path / "in.jsonl",
        [
            {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": chat},
            {"custom_id": "b", "url": "/v1/completions", "body": {"prompt": "Once upon"}},
            {"custom_id": "c", "url": "/v1/embeddings", "body": {}},
            {"custom_id": "d", "body": {**chat, "max_tokens": 20, "response_format": schema}},
        ],
    )
    result = batch("in.jsonl", "-o", "out.jsonl")
    assert result.exit_code == 4
    a, b, c, d = records((tmp_path / "out.jsonl").read_text("utf-8"))
    assert [record["custom_id"] for record in (a, b, c, d)] == ["a", "b", "c", "d"]
    body = a["response"]["body"]
    assert body["choices"][0]["message"]["role"] == "assistant"
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 3
    assert b["response"]["body"]["choices"][0]["text"]
    assert c["response"] is None and "url" in c["error"]["message"]
    assert json.loads(d["response"]["body"]["choices"][0]["message"]["content"]) == "red"


def test_a_table_with_a_template(batch: Run, tmp_path: Path) -> None:
    (tmp_path / "people.csv").write_text('name,city\nZoë,"Rome, old"\nBo\nUma,Oslo\n', "utf-8")
    result = batch("people.csv", "--template", "Greet {name} from {city}.", "-o", "out.jsonl")
    assert result.exit_code == 4
    first, second, third = records((tmp_path / "out.jsonl").read_text("utf-8"))
    assert (first["line"], first["name"], first["city"]) == (2, "Zoë", "Rome, old")
    assert second["error"] == {"line": 3, "message": "has 1 columns, the header 2"}
    assert third["response"]["text"]


def test_files_of_text(batch: Run, tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    for name in ("a", "b"):
        (notes / f"{name}.txt").write_text(f"Repeat this text: {name}.\n")
    (notes / "c.txt").write_bytes(b"\xff")
    result = batch("notes", "--template", "{text} Please.", "-o", "answers")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "c.txt: is not UTF-8 text" in result.stderr
    found = sorted(path.name for path in (tmp_path / "answers").iterdir())
    assert found == ["a.txt", "b.txt", "errors.jsonl"]
    assert (tmp_path / "answers" / "a.txt").read_text().endswith("\n")
    again = batch("notes", "-o", "answers")
    assert again.exit_code == 2 and "--restart" in again.stderr
    # A pattern into one file; the template is not what makes the record.
    result = batch("notes/[ab].txt", "-o", "out.jsonl", "-q")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [record["file"] for record in records((tmp_path / "out.jsonl").read_text())] == [
        "a.txt",
        "b.txt",
    ]


def test_a_pipeline(batch: Run, tmp_path: Path) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in ROWS[:3])
    result = batch("-", stdin=lines)
    assert result.exit_code == 0
    assert len(records(result.stdout)) == 3
    assert list(tmp_path.glob("*.part")) == []
    # With a file for output, standard input may be given again after a kill.
    assert batch("-", "-o", "out.jsonl", stdin=lines).exit_code == 0
    assert (tmp_path / "out.jsonl").read_text("utf-8") == result.stdout


def test_thoughts_and_grammars(batch: Run, tmp_path: Path) -> None:
    colour = {"prompt": "A colour.", "schema": {"enum": ["red", "blue"]}}
    (tmp_path / "g.gbnf").write_text('root ::= "yes" | "no"\n')
    write(tmp_path / "in.jsonl", [colour, {"prompt": "Is it?"}])
    first, second = records(batch("in.jsonl", "--grammar", "g.gbnf", "-q").stdout)
    assert json.loads(first["response"]["text"]) in ("red", "blue")
    assert second["response"]["text"] in ("yes", "no")
    write(tmp_path / "in.jsonl", [{"prompt": "What is 27 + 45?", "temperature": 0}])
    (record,) = records(batch("in.jsonl", "--thinking", "-n", "60", "-q").stdout)
    assert "thought" in record["response"]
    assert "<" not in record["response"]["text"]


def test_a_dry_run_counts_and_writes_nothing(batch: Run, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", [*ROWS, "{broken"] * 20)
    before = sorted(tmp_path.iterdir())
    result = batch("in.jsonl", "-o", "out.jsonl", "--dry-run")
    assert (result.exit_code, result.stdout) == (4, "")
    assert "120 rows, 20 of them would fail" in result.stderr
    assert result.stderr.count("not JSON") == 10, "the first ones are enough"
    assert sorted(tmp_path.iterdir()) == before
    for _ in range(2):  # the second one replaces the first one's summary
        result = batch("in.jsonl", "--dry-run", "-q", "--json-summary", "s.json")
        assert (result.exit_code, result.stderr) == (4, "")
    summary = json.loads((tmp_path / "s.json").read_text())
    assert (summary["rows"], summary["failed"]) == (120, 20)
    assert summary["prompt_tokens"] > 100 * summary["longest_prompt"] / 4


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["missing.jsonl"], 4, "missing.jsonl"),
        (["in.dat"], 2, "--format"),
        (["in.jsonl", "-o", "no/out.jsonl"], 2, "no is not a folder"),
        (["in.jsonl", "-o", "sub"], 2, "sub is a folder"),
        (["in.jsonl", "-o", "in.jsonl", "--restart"], 2, "in.jsonl is an input"),
        (["no*/*.txt", "-o", "notes", "--restart"], 2, "notes/a.txt is an input"),
        (["notes", "-o", "link", "--restart"], 2, "link/a.txt is an input"),
        (["notes/*.txt", "-o", "out.jsonl"], 2, "out.jsonl exists already"),
        (["in.jsonl", "in.csv"], 2, "in.csv is none"),
        (["in.jsonl", "--json-summary", "in.jsonl"], 2, "in.jsonl is an input"),
        (["in.jsonl", "-o", "x.jsonl", "--json-summary", "x.jsonl"], 2, "x.jsonl is the output"),
        (["in.jsonl", "-o", "x.jsonl", "--json-summary", "x.jsonl.part"], 2, "is the output"),
        (["in.jsonl", "--json-summary", "no/s.json"], 2, "cannot write no/s.json"),
        (["in.jsonl", "--json-summary", "out.jsonl"], 2, "out.jsonl exists already and is no"),
        (["in.jsonl", "--json-summary", "mine.json"], 2, "mine.json exists already and is no"),
        (["in.jsonl", "-o", "out.jsonl"], 2, "out.jsonl exists already"),
        (["in.jsonl", "--template", "x {"], 2, "--template"),
        (["in.csv"], 2, "columns a, b"),
        (["in.csv", "--template", "{c}"], 2, "{c}"),
        (["in.jsonl", "--top-p", "0"], 2, "--top-p"),
        (["in.jsonl", "--raw", "--thinking"], 2, "--raw"),
        (["in.jsonl", "--parallel", "0"], 2, "--parallel"),
        (["in.jsonl", "--grammar", "in.csv"], 4, "grammar"),
        (["in.jsonl", "-o", "x.jsonl", "--drafter", "missing.gguf"], 3, "missing.gguf"),
        ([], 2, "INPUT"),
    ],
)
def test_errors_are_one_line(
    run_here: Run, demo_pair: Pair, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    (tmp_path / "in.dat").touch()
    (tmp_path / "in.csv").write_text("a,b\n1,2\n")
    (tmp_path / "out.jsonl").write_text("mine")
    (tmp_path / "mine.json").write_text('{"model": "a"}')
    (tmp_path / "sub").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.txt").write_text("mine too")
    (tmp_path / "link").symlink_to("notes")
    before = sorted(tmp_path.iterdir())
    result = run_here("batch", *arguments, "-m", demo_pair.target, "--threads", "1", "--ctx", "512")
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert says in result.stderr
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "out.jsonl").read_text() == "mine"
    assert (tmp_path / "notes" / "a.txt").read_text() == "mine too"


def test_a_terminal_sees_a_bar_with_the_figures(demo_pair: Pair, tmp_path: Path) -> None:
    write(tmp_path / "in.jsonl", ROWS)
    master, slave = os.openpty()
    arguments = ["batch", "in.jsonl", "-o", "out.jsonl", "-m", str(demo_pair.target)]
    fixed = ("--draft-depth", "2", "--threads", "1")
    # Every round is shown, however quick it is.
    code = (
        "from mtpcli.cli import batch_progress; batch_progress._REFRESH_SECONDS = 0; "
        "from mtpcli.__main__ import main; main()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, *fixed, "-n", "12", "-p", "1"],
        stdout=subprocess.PIPE,
        stderr=slave,
        cwd=tmp_path,
        env={**os.environ, "COLUMNS": "120", "TERM": "xterm"},
    )
    os.close(slave)
    seen = b""
    while True:
        try:
            block = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not block:
            break
        seen += block
    os.close(master)
    assert process.communicate(timeout=PATIENCE)[0] == b""
    assert process.returncode == 0
    text = re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", seen.decode("utf-8", "replace"))
    assert re.search(r"\d/5 rows", text) and "tokens/s" in text and "accepted" in text
    assert "5 rows: 5 answered" in text
