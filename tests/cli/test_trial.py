"""Model files that end llama.cpp end a child process, and cost that once."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mtpcli.trial import ensure_tried
from tests import snapshots
from tests.conftest import Result
from tests.fuzz.gguf_codec import build, parse

WORDS = ("a", "--raw", "--max-tokens", "3", "--threads", "1", "--draft-depth", "2", "--ctx", "64")
TRY = {"MTPCLI_TRUST_FILES": ""}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A tiny target with its drafter beside it."""
    from convert import convert_pair

    target = snapshots.write_target(tmp_path / "small")
    drafter = snapshots.write_drafter(tmp_path / "small-drafter")
    return convert_pair(target, drafter, tmp_path, "q8_0")[0]


def test_sound_files_are_tried_once(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drafter = next(model.parent.glob("mtp-*.gguf"))
    monkeypatch.setenv("MTPCLI_TRUST_FILES", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(model.parent / "cache"))
    ensure_tried(model, drafter)
    (mark,) = (model.parent / "cache" / "mtpcli" / "tried").iterdir()
    tried = mark.stat().st_mtime_ns
    ensure_tried(model, drafter)
    assert mark.stat().st_mtime_ns == tried
    os.utime(model)
    ensure_tried(model, drafter)
    assert len(list(mark.parent.iterdir())) == 2


def test_a_file_that_ends_llama_cpp_is_one_line(
    run_cli: Callable[..., Result], model: Path
) -> None:
    file = parse(model.read_bytes())
    tokens = file.entry("tokenizer.ggml.tokens").value
    tokens[200] = tokens[201]  # an assertion in llama.cpp: only all tokens together tell
    model.write_bytes(build(file))
    result = run_cli("generate", "-m", model, *WORDS, env=TRY)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"error: llama.cpp cannot use {model}")
    assert "SIGABRT" in result.stderr and "GGML_ASSERT" in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (model.parent / "cache" / "mtpcli" / "tried").exists()
