"""`mtpcli demo`: texts and a table."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.conftest import Result

Run = Callable[..., Result]


def test_demo_compares_the_same_texts(run_cli: Run) -> None:
    result = run_cli("demo", "--runs", "1", "--json", "--draft-depth", "3", "--threads", "1")
    assert result.exit_code == 0, result.stderr
    prompts = json.loads(result.stdout)["prompts"]
    assert [prompt["name"] for prompt in prompts] == ["story", "json", "echo"]
    for prompt in prompts:
        assert prompt["equal"]
        assert prompt["speedup"] > 0
        assert prompt["tokens_per_round"] > 1
        assert len(prompt["acceptance_by_position"]) == 3


def test_demo_shows_text_and_a_table(run_cli: Run) -> None:
    result = run_cli("demo", "--runs", "1", "--threads", "1")
    assert result.exit_code == 0, result.stderr
    for word in ("speedup", "story", "json", "echo", "equal"):
        assert word in result.stdout
    assert "\x1b" not in result.stdout, "colour without a terminal"
    assert " \n" not in result.stdout, "blanks at the end of a line in a pipe"


def test_demo_needs_a_depth(run_cli: Run) -> None:
    result = run_cli("demo", "--draft-depth", "0")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
