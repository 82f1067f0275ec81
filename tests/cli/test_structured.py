"""`mtpcli generate --json-schema` and `--grammar`, as their users see them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Pair, Result
from tests.schemas import PERSON, validates

Run = Callable[..., Result]
PROMPT = "Write this as JSON: Rita is 48 years old and likes blue."
CHOICE = 'root ::= ("yes" | "no") " because " [a-z ]{1,20} "."\n'


@pytest.fixture
def generate(run_cli: Run, demo_pair: Pair, tmp_path: Path) -> Run:
    """Run `mtpcli generate` with the embedded pair, a schema and a grammar beside it."""
    return with_forms(run_cli, demo_pair, tmp_path)


@pytest.fixture
def generate_here(run_here: Run, demo_pair: Pair, tmp_path: Path) -> Run:
    """The same in this process."""
    return with_forms(run_here, demo_pair, tmp_path)


def with_forms(run_mtpcli: Run, demo_pair: Pair, tmp_path: Path) -> Run:
    (tmp_path / "person.json").write_text(json.dumps(PERSON))
    (tmp_path / "choice.gbnf").write_text(CHOICE)

    def run(*arguments: str | Path, **options: object) -> Result:
        # A fixed depth, or every test would measure the machine first.
        fixed = ["-m", demo_pair.target, "--threads", "1", "--draft-depth", "3"]
        return run_mtpcli("generate", *fixed, PROMPT, *arguments, **options)

    return run


def test_the_answer_is_json_and_the_same_with_and_without_drafts(generate: Run) -> None:
    schema = ["--json-schema", "person.json", "--seed", "3"]
    drafted = generate(*schema, "--stats")
    assert drafted.exit_code == 0, drafted.stderr
    assert validates(json.loads(drafted.stdout), PERSON)
    assert "drafted tokens accepted" in drafted.stderr
    assert generate(*schema, "--no-draft").stdout == drafted.stdout
    # In --json the text is a string, exactly what the grammar saw: no line end of ours.
    answer = json.loads(generate(*schema, "--json").stdout)
    assert answer["text"] + "\n" == drafted.stdout
    assert answer["finish_reason"] == "stop"


def test_a_grammar(generate: Run) -> None:
    result = generate("--grammar", "choice.gbnf", "--temperature", "0")
    assert result.exit_code == 0
    word, because, reason = result.stdout.removesuffix(".\n").split(" ", 2)
    assert (word in ("yes", "no"), because) == (True, "because")
    assert 1 <= len(reason) <= 20


def test_a_cut_is_told(generate: Run) -> None:
    result = generate("--json-schema", "person.json", "-n", "4", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["finish_reason"] == "length"
    assert result.stderr == "mtpcli: cut at the token limit: the answer is not complete\n"


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("no.json", "{", "no.json is not JSON: Expecting property name"),
        ("no.json", "[" * 100_000, "nested too deeply"),
        ("no.json", '{"type": "strin"}', 'no.json: #: "strin" is no type'),
        ("no.json", '{"items": {"not": {}}}', "no.json: #/items: `not`"),
        ("no.json", b"\xff\xfe", "no.json is not UTF-8 text"),
        ("missing.json", None, "cannot read missing.json"),
        ("no.gbnf", 'root ::= "x', "line 1 of the grammar"),
        ("no.gbnf", 'root ::= root "x" | "y"', "left recursion"),
        ("no.gbnf", 'root ::= ("a" | )*', "left recursion"),
        ("no.gbnf", 'root ::= "x"{9999}', "2000 repetitions"),
    ],
)
def test_bad_files_are_one_line(
    generate_here: Run, tmp_path: Path, name: str, content: str | bytes | None, says: str
) -> None:
    if content is not None:
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / name).write_bytes(data)
    result = generate_here("--grammar" if name.endswith("gbnf") else "--json-schema", name)
    assert (result.exit_code, result.stdout) == (4, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert says in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--json-schema", "person.json", "--grammar", "choice.gbnf"],
        ["--json-schema", "person.json", "--thinking"],
    ],
)
def test_options_that_exclude_each_other(generate_here: Run, arguments: list[str]) -> None:
    result = generate_here(*arguments)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "--json-schema" in result.stderr
