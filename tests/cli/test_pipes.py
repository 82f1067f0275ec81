"""`mtpcli generate` in shell pipelines, driven by bash as a person would."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, Pair
from tests.held import Held
from tests.terminal import Terminal

# Long enough to be under way when something happens.
ENDLESS = "--raw Once --temperature 3 --top-p 1"
# Two runs, for `xargs` and `for`.
TWO = "--raw -n 4 --temperature 0"


@pytest.fixture
def environment(tmp_path: Path, demo_pair: Pair) -> dict[str, str]:
    """A person's environment: a command `mtpcli`, and a config file that names the pair."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "mtpcli").write_text(f'#!/bin/sh\nexec {sys.executable} -m mtpcli "$@"\n')
    (folder / "mtpcli").chmod(0o755)
    (tmp_path / "config.toml").write_text(
        f'model = "{demo_pair.target}"\nthreads = 1\ndraft-depth = 3\nseed = 5\n'
    )
    return {
        **os.environ,
        "PATH": f"{folder}:{os.environ['PATH']}",
        "MTPCLI_CONFIG": str(tmp_path / "config.toml"),
        "HOME": str(tmp_path),
    }


Shell = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def shell(tmp_path: Path, environment: dict[str, str]) -> Shell:
    """Run a line in bash; its exit code is that of the first command in the pipe."""

    def run(line: str, **more: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["bash", "-c", f"{line}\nexit ${{PIPESTATUS[0]}}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            env={**environment, **more},
            cwd=tmp_path,
            timeout=PATIENCE,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    return run


def test_head_ends_it_at_once_and_quietly(shell: Shell) -> None:
    # At once: the text itself has no end.
    done = shell(f"mtpcli generate {ENDLESS} | head -c 1")
    assert (done.returncode, len(done.stdout), done.stderr) == (0, 1, "")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("mtpcli generate Hello -n 9 >&-", "Bad file descriptor"),
        ("mtpcli generate Hello -n 9 > /dev/full", "No space left on device"),
        ("mtpcli generate Hello -n 2 --json > /dev/full", "No space left on device"),
        ("mtpcli generate --help > /dev/full", "No space left on device"),
    ],
)
def test_output_that_cannot_be_written_is_one_line_and_exit_code_4(
    shell: Shell, line: str, says: str
) -> None:
    done = shell(line)
    assert done.returncode == 4
    assert done.stderr == f"error: cannot write the output: {says}\n"


def test_closed_input_and_closed_errors(shell: Shell) -> None:
    done = shell("mtpcli generate Hello -n 3 --stats <&- 2>&-")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == shell("mtpcli generate Hello -n 3").stdout
    assert shell("mtpcli generate <&-").returncode == 2


@pytest.mark.parametrize("nobody", ["/dev/full", ">(exec true)"])
def test_an_answer_does_not_need_somebody_who_reads_the_rest(shell: Shell, nobody: str) -> None:
    # Bash waits for what reads, so that it has left before the first line is written.
    line = "mtpcli generate 'What is 27 + 45?' --thinking --temperature 0"
    done = shell(f"exec 3> {nobody}; wait $!; {line} 2>&3")
    assert (done.returncode, done.stdout) == (0, shell(line).stdout)


def test_answers_go_to_files_and_the_rest_to_the_screen(shell: Shell, tmp_path: Path) -> None:
    done = shell("echo 'A red box.' | mtpcli generate 'Repeat this text.' --stats > msg")
    assert done.stdout == ""
    assert done.stderr.startswith("mtpcli: ") and done.stderr.count("\n") == 1
    answer = (tmp_path / "msg").read_text()
    # Piped text goes before the argument, and `-` alone reads all of it.
    whole = shell("printf 'A red box.\\n\\nRepeat this text.' > p; mtpcli generate - < p")
    assert (whole.stdout, whole.stderr) == (answer, "")


def test_xargs_in_parallel_gives_a_line_each(shell: Shell) -> None:
    line = f"printf '%s\\n' One Two Three Four | xargs -P 2 -I@ mtpcli generate {TWO} --json @"
    done = shell(line)
    assert done.stderr == ""
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == 4
    one = json.loads(shell(f"mtpcli generate {TWO} --json One").stdout)
    assert one["tokens"] in [answer["tokens"] for answer in answers]


def test_xargs_hears_of_a_failure(shell: Shell) -> None:
    line = f"printf '%s\\n' One -f | xargs -P 2 -I@ mtpcli generate {TWO} --json @; exit $?"
    done = shell(line)
    assert done.returncode == 123
    assert len(done.stdout.splitlines()) == 1 and done.stderr.startswith("error: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_signal_ends_it_with_what_was_written(
    environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    with (
        (tmp_path / "out").open("wb") as out,
        Held(
            ("mtpcli.cli.output", "AnswerWriter.write", 5),
            ["generate", *ENDLESS.split()],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.PIPE,
            env=environment,
        ) as held,
    ):
        held.process.send_signal(number)
        _, stderr = held.process.communicate(timeout=PATIENCE)
    assert stderr == b""
    # By the signal itself, for there is nothing to put away: a shell calls that 128 + N too.
    assert held.process.returncode == (130 if number == signal.SIGINT else -number)
    # Whole characters, as far as it came.
    assert (tmp_path / "out").read_bytes().decode()


def test_colour_only_on_a_terminal_and_not_against_ones_will(
    shell: Shell, environment: dict[str, str]
) -> None:
    command = ["mtpcli", "generate", "What is 27 + 45?", "--thinking", "--temperature", "0"]
    piped = shell(" ".join(f"'{word}'" for word in command))
    assert "\x1b" not in piped.stdout + piped.stderr
    for more in ({}, {"NO_COLOR": "1"}):
        # Found by this process's PATH, not by the one that the program gets.
        program = environment["PATH"].split(":")[0] + "/mtpcli"
        with Terminal([program, *command[1:]], {**environment, **more}) as terminal:
            assert terminal.close() == 0
        # Thoughts are dimmed; the statistics that a terminal gets have no colour.
        assert ("\x1b[2m" in terminal.raw) == (not more)
        assert "seed 5" in terminal.raw
