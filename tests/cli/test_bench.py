"""`mtpcli bench`: plain, automatic and fixed depths on the same prompts."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

from tests.conftest import Pair, Result
from tests.terminal import Terminal

Run = Callable[..., Result]


def test_modes_give_the_same_text(run_cli: Run, demo_pair: Pair, tmp_path: Path) -> None:
    prompts = {"story": ["Tell me a story about Mia, a small fox."], "hello": ["Hello!"]}
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    arguments = ["bench", "-m", demo_pair.target, "--prompts", "prompts.json", "--runs", "1"]
    arguments += [
        "--depths",
        "2",
        "-n",
        "24",
        "--plot",
        "speed.svg",
        "--seed",
        "3",
        "--threads",
        "1",
    ]
    result = run_cli(*arguments, "--json")
    assert result.exit_code == 0, result.stderr
    assert result.stderr == ""
    found = json.loads(result.stdout)
    rows, heads = found["results"], found["heads"]
    assert [(row["workload"], row["mode"]) for row in rows] == [
        (name, mode) for name in prompts for mode in ("plain", "auto", "2")
    ]
    for row in rows:
        assert row["equal"]
        assert row["tokens_per_second"] > 0
        assert row["speedup"] == 1.0 or row["mode"] != "plain"
    fixed = rows[2]
    assert len(fixed["acceptance_by_position"]) == 2
    assert fixed["depths"].keys() <= {"0", "1", "2"}
    assert rows[0]["depths"].keys() == {"0"}
    # The drafter has an ordered head, though it does not pay at this size.
    assert heads["ordered_ms"] > heads["ordered_numpy_ms"] > 0
    assert heads["dense_ms"] > 0 and heads["ratio"] > 0
    assert 0 < heads["ordered_mb"] < 2
    assert all(0 < row["rest_share"] < 1 for row in rows)
    assert (tmp_path / "speed.svg").read_text().startswith("<svg")

    again = run_cli(*arguments, "--markdown")
    assert again.exit_code == 2 and "--force" in again.stderr
    table = run_cli(*arguments, "--markdown", "--force").stdout.splitlines()
    assert {line.count("|") for line in table[: 2 + len(rows)]} == {13}
    assert table[2 + len(rows)] == ""
    assert table[3 + len(rows) :][0].startswith("A draft step takes ")


def test_depths_that_are_none(run_here: Run) -> None:
    for depths in ("0", "16", "x", "-1"):
        result = run_here("bench", "--depths", depths)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: ") and "--depths" in result.stderr


def test_made_up_pairs_that_are_none(run_here: Run) -> None:
    for arguments, says in (
        (["--synthetic", "e3b"], "not one of e2b"),
        (["--synthetic", "e2b", "--quant", "q9"], "--quant q9"),
        (["--acceptance", "0.5"], "--synthetic"),
        (["--synthetic", ""], "not one of e2b"),
        (["--remove"], "--remove goes with --synthetic"),
        (["--quant", "q8_0"], "--quant goes with --synthetic"),
        (["--synthetic", "e2b", "-m", "x.gguf"], "--model and --synthetic"),
        (["--synthetic", "e2b", "--drafter", "x.gguf"], "--drafter and --synthetic"),
        (["--json", "--markdown"], "--json and --markdown"),
        (["--plot", "no/speed.svg"], "no is not a folder"),
        (["--plot", "/"], "/ is a folder: name a file, such as /speeds.svg"),
        (["--plot", "/", "--force"], "/ is a folder: name a file, such as /speeds.svg"),
        (["--synthetic", "e2b", "--acceptance", "2"], "acceptance"),
    ):
        result = run_here("bench", *arguments)
        assert result.exit_code == 2
        assert result.stderr.startswith("error: ") and says in result.stderr


def test_a_context_of_a_few_tokens(run_cli: Run, demo_pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("Hello!\n")
    few = ["--prompts", "short.txt", "--depths", "1", "--runs", "1", "-n", "2", "--ctx", "24"]
    # A picture that cannot be drawn takes no figures along.
    picture = ["--plot", "/proc/speed.svg"]
    result = run_cli("bench", "-m", demo_pair.target, "--threads", "1", *few, *picture, "--json")
    assert result.exit_code == 4
    assert result.stderr == "error: cannot write /proc/speed.svg: No such file or directory\n"
    assert json.loads(result.stdout)["heads"]["dense_ms"] > 0


def test_a_terminal_of_80_columns_gets_whole_words(demo_pair: Pair, tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("Hello!\n")
    command = ["bench", "-m", str(demo_pair.target), "--prompts", str(tmp_path / "short.txt")]
    few = ["--depths", "1", "--runs", "1", "-n", "2", "--ctx", "64", "--threads", "1"]
    with Terminal(
        [sys.executable, "-m", "mtpcli", *command, *few], os.environ, size=(30, 80)
    ) as terminal:
        assert terminal.close() == 0
    for words in ("workload", "tokens/s", "speedup", "plain", "1.00x", "equal", "--json"):
        assert words in terminal.text
    assert "…" not in terminal.text
