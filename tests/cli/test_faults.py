"""Faults of processes and memory that are not one command's own."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from mtpcli.config import RuntimeConfig
from mtpcli.errors import ModelError
from mtpcli.llama.gguf import read_metadata
from mtpcli.machine import MachineMemory
from mtpcli.placement import check_memory
from tests.conftest import PATIENCE, Pair, Result

Run = Callable[..., Result]


def test_an_abort_of_llama_cpp_is_a_line(run_cli: Run) -> None:
    code = (
        "import ctypes\nfrom mtpcli.llama import lib\nprint('half', end='')\n"
        "lib.ggml().ggml_abort(b'/a/b.c', 7, b'%s', b'GGML_ASSERT(x) failed')"
    )
    for keep, wanted in (("", 3), ("1", -signal.SIGABRT)):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "MTPCLI_KEEP_ABORT": keep},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)),
        )
        assert done.returncode == wanted
        assert done.stderr.endswith("b.c:7: GGML_ASSERT(x) failed\n")
        assert done.stderr.count("\n") == 1
        if not keep:
            assert (done.stdout, done.stderr[:25]) == ("half", "error: llama.cpp gave up,")


def test_a_context_larger_than_memory_is_refused(demo_pair: Pair) -> None:
    target = read_metadata(demo_pair.target)
    memory = MachineMemory(10**9, 500 * 10**6)
    check_memory(target, RuntimeConfig(4096, n_seq=32), memory)
    with pytest.raises(ModelError, match=r"context of 4096 tokens for each of 64 sequences takes"):
        check_memory(target, RuntimeConfig(4096, n_seq=64), memory)
    # More than the model was made for: whoever makes the context says so.
    check_memory(target, RuntimeConfig(2**30, n_seq=64), memory)


def test_memory_that_python_does_not_get(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mtpcli import __main__
    from mtpcli.cli import app

    def fail(**_options: object) -> None:
        raise MemoryError

    monkeypatch.setattr(app, "app", fail)
    monkeypatch.setattr(__main__, "_mend_streams", lambda: None)
    assert __main__.run() == 3
    stderr = capsys.readouterr().err
    assert stderr.startswith("error: not enough memory") and "--ctx" in stderr


@pytest.mark.parametrize("how", ["renamed", "cut short", "cut short while mapped"])
def test_a_model_replaced_while_it_runs(demo_pair: Pair, tmp_path: Path, how: str) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(demo_pair.target.read_bytes())
    options = ["--raw", "Once", "--temperature", "3", "--top-p", "1", "-n", "60", "--seed", "2"]
    command = [sys.executable, "-m", "mtpcli", "generate", *options, "--no-draft"]
    command += ["--threads", "1", "-m", str(model)]
    command += ["--no-mmap"] if how == "cut short" else []
    whole = subprocess.run(command, input=b"", capture_output=True, check=True).stdout
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, bufsize=0
    )
    assert process.stdout
    text = process.stdout.read(1) or b""
    if how == "renamed":
        other = tmp_path / "other"
        other.write_bytes(b"something else")
        other.replace(model)
    else:
        os.truncate(model, 4096)
    rest, stderr = process.communicate(timeout=PATIENCE)
    if how == "cut short while mapped":
        assert process.returncode == 3 and whole.startswith(text + rest)
        assert stderr.startswith(b"error: a file that is mapped into memory cannot be read")
        assert stderr.count(b"\n") == 1 and b"--no-mmap" in stderr
    else:
        assert (process.returncode, text + rest, stderr) == (0, whole, b"")
