"""The config file: which setting wins, and mistakes in one line that names file and key."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from mtpcli.__main__ import run
from mtpcli.cli.app import app
from mtpcli.cli.config_file import defaults
from tests.conftest import Pair, Result

Run = Callable[..., Result]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config" / "mtpcli" / "config.toml"
    path.parent.mkdir(parents=True)
    return path


def answer(result: Result) -> dict[str, object]:
    assert result.exit_code == 0, result.stderr
    value: dict[str, object] = json.loads(result.stdout)
    return value


def test_option_then_environment_then_file_then_model(
    run_cli: Run, demo_pair: Pair, config: Path, tmp_path: Path
) -> None:
    # A relative path is relative to the file.
    (config.parent / "mine.gguf").symlink_to(demo_pair.target)
    (config.parent / "mine-drafter.gguf").symlink_to(demo_pair.drafter)
    config.write_text(
        'model = "mine.gguf"\ndrafter = "mine-drafter.gguf"\nseed = 1\nthreads = 1\n'
        "draft-depth = 2\n"
        "[generate]\njson = true\nseed = 5\nmax-tokens = 3\ntemperature = 0\nstop = ['x', 'y']\n"
    )
    first = answer(run_cli("generate", "Hello!"))
    assert first["seed"] == 5, "the command's own table beats the top"
    assert first["model"] == str(config.parent / "mine.gguf")
    assert first["usage"] == {"prompt_tokens": 15, "completion_tokens": 3}
    # The environment names another model. The drafter of the file was not meant for that one.
    (config.parent / "mine-drafter.gguf").unlink()
    second = answer(
        run_cli("generate", "Hello!", "--seed", "6", env={"MTPCLI_MODEL": str(demo_pair.target)})
    )
    assert (second["seed"], second["model"]) == (6, str(demo_pair.target))
    other = tmp_path / "other.gguf"
    other.symlink_to(demo_pair.target)
    third = answer(
        run_cli(
            *("generate", "Hello!", "-n", "1", "-m", other),
            env={"MTPCLI_MODEL": str(demo_pair.target)},
        )
    )
    assert (third["model"], len(str(third["tokens"]).split())) == (str(other), 1)
    # Another file, and none at all.
    (tmp_path / "empty.toml").write_text("")
    plain = run_cli(
        *("generate", "Hello!", "-n", "1", "-m", other, "--no-draft"),
        env={"MTPCLI_CONFIG": "empty.toml"},
    )
    assert plain.exit_code == 0 and not plain.stdout.startswith("{")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("thread = 4", "thread: no command"),
        # An option of a command that runs no model does not belong at the top.
        ('outtype = "q8_0"', "outtype: no command"),
        ("[generates]\nseed = 1", "[generates] is no command"),
        ("[generate]\nspeed = 1", "[generate] speed: no option"),
        ("[generate]\nhelp = true", "[generate] help: no option"),
        ("[generate]\njson = 1", "json: true or false, not 1"),
        ("threads = true", "threads: text or a number, not True"),
        ('threads = "four"', "'--threads'"),
        ("top-p = 7", "'--top-p'"),
        ("presence-penalty = nan", "'--presence-penalty'"),
        ('threads = "four"\nmodel = "~nobody-of-that-name/m.gguf"', "'--threads'"),
        ("[generate]\nstop = 'x'", "stop: a list, not 'x'"),
        ("seed = [1]", "seed: a single value, not [1]"),
        ("seed 1", "is not TOML"),
        (f"seed = {'[' * 10000}", "nested too deeply"),
        # As some editors write it: with a byte order mark.
        ("\ufefftop-p = 7", "'--top-p'"),
    ],
)
def test_mistakes_name_the_file_and_the_key(
    config: Path,
    content: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    config.write_text(content)
    monkeypatch.setenv("MTPCLI_CONFIG", str(config))
    monkeypatch.setattr(sys, "argv", ["mtpcli", "generate", "Hello!"])
    assert run() == 2
    stdout, stderr = capsys.readouterr()
    assert stdout == ""
    assert stderr.startswith(f"error: {config}") and stderr.count("\n") == 1
    assert says in stderr


def test_every_command_that_runs_a_model_reads_the_top(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.write_text("threads = 3")
    monkeypatch.setenv("MTPCLI_CONFIG", str(config))
    commands: Any = typer.main.get_command(app)
    found = {name for name, settings in defaults(commands.commands).items() if settings}
    assert found == {"generate", "chat", "batch", "demo", "bench", "verify"}


def test_verify_takes_the_model_of_the_file_too(
    run_cli: Run, demo_pair: Pair, config: Path, tmp_path: Path
) -> None:
    (config.parent / "mine.gguf").symlink_to(demo_pair.target)
    (tmp_path / "its-drafter.gguf").symlink_to(demo_pair.drafter)
    config.write_text('model = "mine.gguf"\ndrafter = "../../its-drafter.gguf"\n')
    found = answer(run_cli("verify", "--count", "1", "-n", "2", "--seeds", "0", "--json"))
    files = [Path(str(found[half])).resolve() for half in ("model", "drafter")]
    assert files == [demo_pair.target.resolve(), demo_pair.drafter.resolve()]
    assert found["model"] == str(config.parent / "mine.gguf")
    # The drafter of the file was not meant for another model.
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "target.gguf").symlink_to(demo_pair.target)
    other = run_cli("verify", "alone/target.gguf")
    assert other.exit_code == 3
    assert other.stderr.startswith("error: no drafter that fits lies beside alone/target.gguf")


def test_a_broken_file_does_not_stand_in_the_way_of_help(run_cli: Run, config: Path) -> None:
    config.write_text("seed 1")
    assert run_cli("--help").exit_code == 0
    assert run_cli("generate", "--help").exit_code == 0
    for words in (["Hello!"], ["--", "--help"], ["--system", "-h", "Hello!"]):
        result = run_cli("generate", *words)
        assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
        assert str(config) in result.stderr


def test_a_file_that_is_named_must_exist(run_cli: Run) -> None:
    result = run_cli("generate", "Hello!", env={"MTPCLI_CONFIG": "no.toml"})
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "MTPCLI_CONFIG" in result.stderr and "no.toml" in result.stderr


def test_a_home_that_is_no_folder_has_no_file(run_cli: Run) -> None:
    result = run_cli("list", env={"XDG_CONFIG_HOME": "/dev/null"})
    assert (result.exit_code, result.stdout) == (0, "") and "no models in" in result.stderr
