"""What every command shares."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from tests.conftest import Result

Run = Callable[..., Result]


def test_version_names_the_binding_and_llama_cpp(run_cli: Run) -> None:
    result = run_cli("--version")
    assert result.exit_code == 0
    assert re.fullmatch(
        r"mtpcli \d+\.\d+\.\d+ \(llama-cpp-python [\d.]+, llama\.cpp \S+\)\n", result.stdout
    )


@pytest.mark.parametrize(
    "command", ["generate", "chat", "convert", "inspect", "demo", "bench", "batch"]
)
def test_help_loads_neither_llama_cpp_nor_numpy(run_cli: Run, command: str) -> None:
    result = run_cli(command, "--help", env={"PYTHONPROFILEIMPORTTIME": "1"})
    assert result.exit_code == 0
    assert "Usage" in result.stdout
    assert "llama_cpp" not in result.stderr
    assert "| numpy\n" not in result.stderr


def test_without_a_command_it_helps(run_cli: Run) -> None:
    result = run_cli()
    assert result.exit_code == 0
    assert "generate" in result.stdout


def test_an_unknown_command_is_a_usage_error(run_cli: Run) -> None:
    result = run_cli("nonsense")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
