"""What every command shares."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.conftest import PATIENCE, ROOT, Result

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


@pytest.mark.parametrize("module", ["mtpcli.interrupts", "mtpcli.cli.app", "typer"])
def test_ctrl_c_while_modules_are_imported_is_quiet(module: str) -> None:
    code = (
        "import _signal, os, sys\n"
        "class Interrupt:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}: _signal.raise_signal(_signal.SIGINT)\n"
        "before = set(sys.modules)\n"
        "from mtpcli.__main__ import main\n"
        # What is imported before `main` runs can be interrupted with a traceback.
        "assert set(sys.modules) - before <= {'__future__', 'mtpcli', 'mtpcli.__main__'}\n"
        "sys.meta_path.insert(0, Interrupt())\n"
        "main()"
    )
    done = subprocess.run(
        # Without what virtual environments import by themselves.
        [sys.executable, "-S", "-c", code],
        capture_output=True,
        env={"PYTHONPATH": ":".join([str(ROOT), *sys.path])},
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_an_unknown_command_is_a_usage_error(run_cli: Run) -> None:
    result = run_cli("nonsense")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        "generate Hi -m",
        "generate Hi --drafter",
        "generate Hi --file",
        "generate Hi --json-schema",
        "generate Hi --grammar",
        "chat --load",
        "batch in.jsonl --json-summary",
        "batch in.jsonl -o",
        "batch",
        "bench --prompts",
        "bench --plot",
        "verify",
        "verify x.gguf",
        "verify --prompts",
        "inspect",
        "inspect x.gguf",
        "convert -o out",
        "convert x -o",
        "convert x -o out --drafter",
    ],
)
def test_a_file_without_a_name_is_not_the_current_folder(run_here: Run, line: str) -> None:
    result = run_here(*line.split(), "")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert "empty" in result.stderr


@pytest.mark.parametrize("command", ["generate Hi", "batch in.jsonl"])
def test_nothing_is_no_text_to_stop_at(run_here: Run, command: str) -> None:
    result = run_here(*command.split(), "--stop", "x", "--stop", "")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "'--stop': it is empty" in result.stderr
