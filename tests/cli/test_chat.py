"""`mtpcli chat`, driven by lines on standard input."""

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

from tests.conftest import ROOT, Pair, Result

Run = Callable[..., Result]


@pytest.fixture
def chat(run_cli: Run, demo_pair: Pair) -> Run:
    """Chat with the embedded pair; answers have an end, whatever it was taught."""

    def run(*arguments: str | Path, stdin: str, **options: Any) -> Result:
        fixed = ["-m", demo_pair.target, "--threads", "1", "-n", "40", "--draft-depth", "3"]
        return run_cli("chat", *fixed, *arguments, stdin=stdin, **options)

    return run


def table(stderr: str) -> list[list[int]]:
    """Prompt tokens of each answer in the last /stats: all, kept, decoded, decoded again."""
    last = stderr[stderr.rindex("  answer") :]
    rows = re.findall(r"^ +\d+((?: +\d+){4}) ", last, re.MULTILINE)
    return [[int(number) for number in row.split()] for row in rows]


def test_every_line_is_a_turn(chat: Run) -> None:
    turns = "What is the capital of France?\n\nWhat is the capital of Italy?\n"
    result = chat("--temperature", "0", stdin=turns)
    assert result.exit_code == 0
    assert result.stderr == ""
    answers = result.stdout.splitlines()
    assert len(answers) == 2
    assert "<" not in result.stdout


def test_the_conversation_is_remembered(chat: Run) -> None:
    turns = "Hello, I am Oscar.\nWhat is my name?\n"
    answers = chat("--temperature", "0", stdin=turns).stdout.splitlines()
    assert len(answers) == 2
    assert "Oscar" in answers[1]


def test_drafts_do_not_change_a_conversation(chat: Run) -> None:
    turns = "Tell me a story about Mia, a small fox.\nThank you!\n/regenerate\n/undo\nAnd now?\n"
    arguments = ["--seed", "3", "--commands"]
    drafted = chat(*arguments, stdin=turns)
    assert drafted.exit_code == 0
    assert chat(*arguments, "--no-draft", stdin=turns).stdout == drafted.stdout


def test_a_turn_that_does_not_fit_is_refused_and_the_rest_goes_on(chat: Run) -> None:
    turns = "word " * 200 + "\nHello!\n"
    result = chat("--ctx", "128", stdin=turns)
    assert result.exit_code == 4
    assert result.stderr.count("\n") == 1 and "the context" in result.stderr
    assert result.stderr.startswith("error: ")
    assert len(result.stdout.splitlines()) >= 1


def test_a_line_that_is_no_text_ends_it(chat: Run) -> None:
    # Python reads other bytes as well, or raises, as the user's language has it.
    for handler in ("strict", "surrogateescape"):
        result = chat(
            "-n", "3", stdin=b"Hello!\nH\xf6\nBye!\n", env={"PYTHONIOENCODING": f"utf-8:{handler}"}
        )
        assert (result.exit_code, result.stdout.count("\n")) == (4, 1)
        assert result.stderr == "error: a line of standard input is not UTF-8 text\n"


def test_commands_are_text_unless_asked_for(chat: Run, tmp_path: Path) -> None:
    result = chat("--temperature", "0", "-n", "5", stdin="/save secret.json\n")
    assert result.exit_code == 0
    assert result.stdout.strip()
    assert not (tmp_path / "secret.json").exists()
    result = chat("--commands", stdin="/save secret.json\n")
    assert result.stdout == ""
    assert (tmp_path / "secret.json").exists()


def test_a_turn_costs_its_new_tokens(chat: Run) -> None:
    turns = "Hello!\nWho are you?\nThank you!\n/stats\n"
    arguments = ["--temperature", "0", "-n", "12", "--commands"]
    first, second, third = table(chat(*arguments, stdin=turns).stderr)
    assert first[1] == 0
    # What a turn decodes: `<|turn>user\n`, the message, `<turn|>\n`, and the beginning of the
    # answer, which is the first prompt less `<bos>`.
    assert second[2] < first[0] + 8 and third[2] < first[0] + 8
    assert second[0] == second[1] + second[2] and third[0] == third[1] + third[2]
    # The last answer, and nothing before it, is decoded again as the template renders it now.
    assert 0 < second[3] <= 16 and 0 < third[3] <= 16


def test_undo_and_regenerate_cost_next_to_nothing(chat: Run) -> None:
    turns = "Hello!\nWho are you?\n/regenerate\n/undo\n/undo\nHello!\n/stats\n"
    result = chat("--temperature", "0", "-n", "12", "--commands", stdin=turns)
    rows = table(result.stderr)
    assert len(rows) == 4
    # The same prompt: its last token is decoded, for its logits.
    assert rows[2][2:] == [1, 0]
    # The history ends before the answer; what opens one is decoded.
    assert rows[3][2] < 8 and rows[3][3] == 0
    answers = result.stdout.splitlines()
    assert answers[1] == answers[2] and answers[0] == answers[3]


def test_thoughts_are_shown_apart_and_never_fed_back(chat: Run, tmp_path: Path) -> None:
    turns = "What is 12 plus 7?\nHello!\n/save kept.json\n/stats\n"
    result = chat("--thinking", "--temperature", "0", "--commands", "-n", "60", stdin=turns)
    messages = json.loads((tmp_path / "kept.json").read_text("utf-8"))["messages"]
    thought, answer = messages[1]["thought"], messages[1]["content"]
    assert thought in result.stderr and thought not in result.stdout
    assert result.stdout.splitlines()[0] == answer
    for token in ("<|channel>", "<channel|>", "<turn|>"):
        assert token not in result.stdout + result.stderr
    # The second prompt is the first, the first answer and the new message: no room for a thought.
    first, second = table(result.stderr)
    assert second[0] < first[0] + len(answer) + len("Hello!") + 10


def test_the_oldest_turns_leave_with_a_notice(chat: Run) -> None:
    turns = "".join(f"Tell me a story about number {number}.\n" for number in range(6))
    result = chat("--ctx", "160", "--temperature", "0", stdin=turns)
    assert result.exit_code == 0
    assert "the context is full: the model does not see the" in result.stderr
    assert "error" not in result.stderr


def test_save_and_load(chat: Run, tmp_path: Path) -> None:
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    turns = "/system Be brief.\nHello!\nWho are you?\n/save kept.json --state\nThank you!\n"
    first = chat("--seed", "4", "--commands", stdin=turns, env=state)
    assert "2 turns saved to kept.json, and the cells of" in first.stderr
    content = json.loads((tmp_path / "kept.json").read_text("utf-8"))
    assert [message["role"] for message in content["messages"]] == [
        "system",
        *["user", "assistant"] * 2,
    ]
    assert content["sampling"]["top_p"] == 0.95  # as the model's file recommends
    expected = first.stdout.splitlines()[2:]
    for tampered, reason in ((False, "nothing to decode again"), (True, "was changed")):
        if tampered:
            path = tmp_path / "kept.json.state"
            state_bytes = bytearray(path.read_bytes())
            state_bytes[-1] ^= 1
            path.write_bytes(state_bytes)
        loaded = chat("--commands", "--load", "kept.json", stdin="Thank you!\n/stats\n", env=state)
        assert reason in loaded.stderr
        assert loaded.stdout.splitlines() == expected
        (row,) = table(loaded.stderr)
        assert (row[3] == 0) is not tampered


def test_options_go_before_what_a_file_says(chat: Run, tmp_path: Path) -> None:
    (tmp_path / "kept.json").write_text(
        json.dumps(
            {
                "messages": [{"role": "system", "content": "Be kind."}],
                "sampling": {"temperature": 0.25, "top_k": 3, "seed": 5},
            }
        )
    )
    options = ["--commands", "--load", "kept.json"]
    as_saved = chat(*options, stdin="/set\n/system\n").stderr.splitlines()
    assert as_saved[1:] == [
        "temperature 0.25 · top-k 3 · top-p 0.95 · seed 5 · max-tokens 40",
        "system prompt: Be kind.",
    ]
    more = ["--temperature", "0", "--seed", "6", "--system", "Be brief."]
    changed = chat(*options, *more, stdin="/set\n/system\n").stderr.splitlines()
    assert changed[1:] == [
        "temperature 0 · top-k 3 · top-p 0.95 · seed 6 · max-tokens 40",
        "system prompt: Be brief.",
    ]
    missing = chat("--load", "none.json", stdin="Hello!\n")
    assert (missing.exit_code, missing.stdout) == (4, "")
    assert missing.stderr == "error: cannot read none.json: No such file or directory\n"


def test_what_is_wrong_with_a_command_is_one_line(chat: Run, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    wrong = {
        "/undone": "error: there is no command /undone: did you mean /undo? /help lists all",
        "/set temperature -1": "error: temperature is a number from 0 to 1000000",
        "/set presence-penalty 1e308": "error: presence-penalty is a number from -1000000 to 1000",
        "/set top-p 0": "error: top-p is a number from 1e-06 to 1",
        "/set top-k many": "error: top-k is a whole number from 0 to 2147483648",
        "/set colour red": "error: nothing is called colour: /set knows temperature, ",
        "/seed -1": "error: seed is a whole number from 0 to 18446744073709551615",
        "/think maybe": "error: /think takes one of: on, off, hidden",
        "/undo": "error: there is no message yet",
        "/regenerate": "error: there is no message yet",
        "/edit": "error: there is no message yet",
        "/load none.json": "error: cannot read none.json: No such file or directory",
        "/load": "error: /load takes one file name",
        "/save 'a": "error: a quotation mark is missing",
        "/save thesis.txt": "error: thesis.txt exists and is not a saved conversation",
        "/save no/such/folder.json": "error: cannot write no/such/folder.json: No such file",
        f"/save {'x' * 300}": "error: xxx",
        "/save ~nobody-of-that-name/x": "error: /save: no file can be called ~nobody",
        "/load a\0b": "error: /load: no file can be called a␀b",
        "/load pipe": "error: pipe is not a saved conversation: it is no file",
        "/load .": "error: . is not a saved conversation: it is no file",
        "/save pipe": "error: pipe exists and is not a saved conversation",
        "/save beside --state": "error: beside.state exists and is not a saved state",
        "/save beside": "0 turns saved to beside",
    }
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "beside.state").write_text("years of work")
    result = chat("--commands", stdin="\n".join([*wrong, "/exit", "Hello!"]))
    assert result.exit_code == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert len(lines) == len(wrong)
    for line, expected in zip(lines, wrong.values(), strict=True):
        assert line.startswith(expected)
    for name in ("thesis.txt", "beside.state"):
        assert (tmp_path / name).read_text() == "years of work"


def test_settings_and_help(chat: Run) -> None:
    commands = "/set\n/set top-k 5\n/seed 7\n/set max-tokens 9\n/system Be kind.\n/think hidden\n"
    result = chat(
        "--commands", "--seed", "1", stdin=commands + "/help\n/stats\n/reset\n/system off\n"
    )
    assert result.exit_code == 0 and result.stdout == ""
    for line in (
        "temperature 1 · top-k 64 · top-p 0.95 · seed 1 · max-tokens 40",
        "temperature 1 · top-k 5 · top-p 0.95 · seed 1 · max-tokens 40",
        "seed 7",
        "system prompt: Be kind.",
        "thinking on, hidden",
        "  /save FILE [--state]         keep the conversation, and its KV cells",
        "nothing was answered yet",
        "system prompt: none",
    ):
        assert line in result.stderr.splitlines()


def test_a_message_may_begin_with_a_slash(chat: Run, tmp_path: Path) -> None:
    chat("--commands", "-n", "4", stdin="//etc is a folder\n/save kept.json\n")
    messages = json.loads((tmp_path / "kept.json").read_text("utf-8"))["messages"]
    assert messages[0]["content"] == "/etc is a folder"


def test_help_is_quick() -> None:
    code = (
        "import sys; sys.argv = ['mtpcli', 'chat', '--help']\n"
        "from mtpcli.__main__ import run\n"
        "assert run() == 0\n"
        "slow = {'llama_cpp', 'numpy', 'prompt_toolkit', 'jinja2'} & set(sys.modules)\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert "--commands" in done.stdout
