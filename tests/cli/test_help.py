"""Help and completion: quick, with examples, and installed by the program itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from mtpcli.cli.app import app
from mtpcli.cli.options import files
from tests.conftest import PATIENCE, ROOT

GROUP: Any = typer.main.get_command(app)


def run(tmp_path: Path, *arguments: str, **more: str) -> str:
    """Run as pip installs it: completion is for `mtpcli` and not for `python -m mtpcli`."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; sys.argv[0] = 'mtpcli'; from mtpcli.__main__ import main; main()",
            *arguments,
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "HOME": str(tmp_path),
            "XDG_CONFIG_HOME": str(tmp_path),
            "SHELL": "/bin/bash",
            **more,
        },
        cwd=tmp_path,
        timeout=PATIENCE,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize("command", GROUP.commands)
def test_help_has_examples(tmp_path: Path, command: str) -> None:
    text = run(tmp_path, command, "--help")
    examples = text[text.index("Examples:") :]
    assert f"mtpcli {command}" in examples
    assert "\x1b" not in text


def test_help_loads_no_model_library() -> None:
    # It is what keeps `--help` below a third of a second.
    code = (
        "import sys; from mtpcli.cli.app import app; "
        "print([name for name in ('llama_cpp', 'numpy', 'jinja2', 'gguf') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.strip() == "[]"


def complete(tmp_path: Path, line: str) -> list[str]:
    """What bash is offered at the end of a line."""
    words = line.split(" ")
    text = run(
        tmp_path,
        _MTPCLI_COMPLETE="complete_bash",
        COMP_WORDS=line,
        COMP_CWORD=str(len(words) - 1),
    )
    return text.split()


def test_completion_of_commands_options_and_files(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    for name in ("gemma.gguf", "gemma.txt", "mtp-gemma.gguf", "schema.json"):
        (tmp_path / name).touch()
    assert complete(tmp_path, "mtpcli gen") == ["generate"]
    assert complete(tmp_path, "mtpcli generate --json") == ["--json", "--json-schema"]
    assert complete(tmp_path, "mtpcli generate -m g") == ["gemma.gguf"]
    assert complete(tmp_path, "mtpcli generate --json-schema s") == ["schema.json"]
    # A folder among the candidates: the shell itself knows how to walk into it.
    assert complete(tmp_path, "mtpcli generate -m m") == []


def test_files_in_another_folder(tmp_path: Path) -> None:
    for name in ("b.gguf", "a.gguf", "c.bin"):
        (tmp_path / name).touch()
    assert files(".gguf")(f"{tmp_path}/") == [f"{tmp_path}/a.gguf", f"{tmp_path}/b.gguf"]
    assert files(".gguf")(f"{tmp_path}/missing/x") == []


def test_install_completion(tmp_path: Path) -> None:
    # Typer asks the processes above it which shell they are; the tests have none.
    said = run(
        tmp_path,
        "--install-completion",
        "bash",
        _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1",
    )
    assert "bash completion installed" in said
    scripts = list((tmp_path / ".bash_completions").iterdir())
    assert [path.name for path in scripts] == ["mtpcli.sh"]
    assert str(scripts[0]) in (tmp_path / ".bashrc").read_text()
    checked = subprocess.run(["bash", "-n", scripts[0]], capture_output=True, check=True)
    assert checked.stderr == b""
