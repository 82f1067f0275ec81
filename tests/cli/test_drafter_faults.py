"""The drafter fails on the way, in llama.cpp itself: a warning, and the same text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mtpcli.llama.gguf import read_metadata
from tests.conftest import PATIENCE, Pair, Result

Faulty = Callable[..., Result]

PROMPT = "Write a short story about a brave cat named Leo who finds a key."
# llama.cpp asks this callback at every node of the drafter's graph whether to give up.
FAULT = """
import sys
from mtpcli.__main__ import main
from mtpcli.llama import context, lib

left = int(sys.argv.pop(1))
opened, decoded = context.DrafterContext.__init__, context.DrafterContext.decode
tired = lib.load().ggml_abort_callback(lambda data: left < 0)

def open_(self, *args, **options):
    if not left:
        raise context.ModelError("no memory for it")
    opened(self, *args, **options)
    self._lib.llama_set_abort_callback(self.handle, tired, None)

def decode(self, rows):
    global left
    left -= 1
    decoded(self, rows)

context.DrafterContext.__init__, context.DrafterContext.decode = open_, decode
main()
"""
WARNING = "mtpcli: warning: the drafter failed and is not used any more; the text is the same, "


@pytest.fixture
def faulty(demo_pair: Pair, tmp_path: Path) -> Faulty:
    """Run a command whose drafter fails after so many decodes, 0 when it is opened."""

    def run(decodes: int, command: str, *arguments: str | Path, stdin: str = "") -> Result:
        model = ["-m", str(demo_pair.target), "--threads", "1"]
        done = subprocess.run(
            [sys.executable, "-c", FAULT, str(decodes), command, *model, *map(str, arguments)],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={
                **os.environ,
                "XDG_CACHE_HOME": str(tmp_path / "cache"),
                "XDG_STATE_HOME": str(tmp_path / "state"),
            },
            timeout=PATIENCE,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Result(done.stdout, done.stderr, done.returncode)

    return run


def test_generate(faulty: Faulty, run_cli: Faulty, demo_pair: Pair) -> None:
    options = (PROMPT, "--seed", "4", "-n", "60", "--json")
    plain = run_cli("generate", "-m", demo_pair.target, "--threads", "1", "--no-draft", *options)
    expected = json.loads(plain.stdout)
    assert (expected["speculation"]["failure"], expected["warnings"]) == (None, [])
    stopped = "llama.cpp failed to decode 1 rows (status 2)"
    for decodes, depth, reason in (
        (0, "auto", "no memory for it"),
        (3, "auto", stopped),  # while its speed is measured
        (17, "3", stopped),
    ):
        result = faulty(decodes, "generate", *options, "--draft-depth", depth)
        assert result.exit_code == 0
        answer = json.loads(result.stdout)
        assert (answer["text"], answer["tokens"]) == (expected["text"], expected["tokens"])
        (warning,) = answer["warnings"]
        assert result.stderr == f"mtpcli: warning: {warning}\n"
        assert result.stderr.startswith(WARNING) and reason in warning
        speculation = answer["speculation"]
        assert speculation["failure"].startswith(reason)
        assert speculation["drafter"] == (None if decodes == 0 else "mtp")
        assert (speculation["drafted"] > 0) == (decodes == 17)


def test_a_batch_of_several_sequences(
    faulty: Faulty, run_cli: Faulty, demo_pair: Pair, tmp_path: Path
) -> None:
    rows = [{"prompt": f"{PROMPT} {number}", "max_tokens": 20 + number} for number in range(6)]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    options = ("in.jsonl", "--seed", "4", "-p", "3")
    result = faulty(25, "batch", *options, "--draft-depth", "4", "--json-summary", "sum.json")
    plain = run_cli("batch", "-m", demo_pair.target, "--threads", "1", "--no-draft", *options)
    assert (result.exit_code, result.stdout) == (0, plain.stdout)
    warning, summary = result.stderr.splitlines()
    assert warning.startswith(WARNING) and "6 answered" in summary
    figures = json.loads((tmp_path / "sum.json").read_text())
    assert figures["speculation"]["drafted"] > 0
    assert figures["speculation"]["failure"] in figures["warnings"][0]


@pytest.mark.slow
def test_a_chat_goes_on(faulty: Faulty, run_cli: Faulty, demo_pair: Pair) -> None:
    turns = f"{PROMPT}\nAnd then?\nWhat is 2 + 3?\n"
    options = ("--seed", "4", "-n", "40", "--draft-depth", "3")
    result = faulty(9, "chat", *options, stdin=turns)
    plain = run_cli(
        *("chat", "-m", demo_pair.target, "--threads", "1", "--no-draft", *options), stdin=turns
    )
    assert (result.exit_code, result.stdout) == (0, plain.stdout)
    assert result.stderr.count("warning") == 1
    assert "warning: the drafter failed" in result.stderr


@pytest.fixture(scope="module")
def useless(demo_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A drafter whose tokens have changed places: what it says is never right."""
    path = tmp_path_factory.mktemp("useless") / "drafter.gguf"
    data = bytearray(demo_pair.drafter.read_bytes())
    tensor = read_metadata(demo_pair.drafter).tensor("token_embd.weight")
    assert tensor
    end = tensor.offset + tensor.n_bytes
    rows = np.frombuffer(data[tensor.offset : end], np.uint8).reshape(tensor.shape[-1], -1)
    data[tensor.offset : end] = np.roll(rows, 700, axis=0).tobytes()
    path.write_bytes(data)
    return path


def test_drafts_that_are_never_right(run_cli: Faulty, demo_pair: Pair, useless: Path) -> None:
    options = ("generate", "-m", demo_pair.target, PROMPT, "--seed", "4", "--json")
    result = run_cli(*options, "--threads", "1", "--drafter", useless, "--draft-depth", "3")
    answer = json.loads(result.stdout)
    assert result.exit_code == 0 and result.stderr.count("\n") == 1
    assert result.stderr == f"mtpcli: warning: {answer['warnings'][0]}\n"
    assert "drafts 0 were right" in result.stderr and "another target" in result.stderr
