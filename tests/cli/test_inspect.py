"""`mtpcli inspect`: the header as a table or as JSON, misfits as exit code 3."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Pair, Result
from tests.gguf_files import write_drafter, write_gguf, write_target
from tests.terminal import Terminal

Run = Callable[..., Result]
HEAD = {"mtpcli.ordered_head.num_centroids": 16, "mtpcli.ordered_head.top_k": 4}
SAMPLING = {
    "general.sampling.temp": 1.0,
    "general.sampling.top_k": 64,
    "general.sampling.top_p": 0.95,
}


def rows(stdout: str) -> dict[str, str]:
    """The table as label to cells; labels and cells are two blanks apart."""
    lines = [line for line in stdout.splitlines() if "  " in line]
    return {line[:13].strip(): line[13:].strip() for line in lines}


def test_table_of_a_target(tmp_path: Path, run_here: Run) -> None:
    extra = {**SAMPLING, "general.name": "Mini", "tokenizer.chat_template": "{{ messages }}"}
    path = write_target(tmp_path / "t.gguf", extra=extra)
    result = run_here("inspect", path)
    assert (result.exit_code, result.stderr) == (0, "")
    assert "\x1b" not in result.stdout
    assert " \n" not in result.stdout
    assert rows(result.stdout) == {
        "file": str(path),
        "kind": "target (gemma4)",
        "usable": "yes",
        "name": "Mini",
        "size": f"{path.stat().st_size / 1000:.1f} kB",
        "parameters": "64",
        "tensors": "1, f32 100.0%",
        "context": "1024 tokens",
        "vocabulary": "8 tokens",
        "layers": "3, 2 sliding",
        "window": "128 tokens",
        "hidden size": "64",
        "heads": "4, key-value 2/1",
        "head size": "32, sliding 16",
        "sampling": "temperature 1.0, top-k 64, top-p 0.95",
        "chat template": "yes",
    }


def test_json_of_a_drafter(tmp_path: Path, run_here: Run) -> None:
    tensors = {"token_embd.weight": (8, 8), "output_norm.weight": (32,)}
    path = write_drafter(tmp_path / "d.gguf", extra=HEAD, tensors=tensors)
    result = run_here("inspect", path, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert answer["pair"] is None
    (summary,) = answer["files"]
    assert summary["kind"] == "drafter" and summary["problem"] is None
    assert summary["ordered_head"] == {"centroids": 16, "top_k": 4}
    assert summary["target_hidden_size"] == 64 and summary["kv_heads"] == [2, 1]
    assert summary["sampling"] == {"temperature": None, "top_k": None, "top_p": None}
    assert summary["tensor_types"] == [{"type": "f32", "tensors": 2, "bytes": 384, "share": 1.0}]
    assert summary["parameters"] == 96


@pytest.mark.parametrize("swapped", [False, True])
def test_two_that_fit(tmp_path: Path, run_here: Run, swapped: bool) -> None:
    files = [write_target(tmp_path / "t.gguf"), write_drafter(tmp_path / "d.gguf")]
    result = run_here("inspect", *(reversed(files) if swapped else files))
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[-1] == "d.gguf drafts for t.gguf"


def test_two_that_do_not(tmp_path: Path, run_here: Run) -> None:
    target = write_target(tmp_path / "t.gguf")
    drafter = write_drafter(tmp_path / "d.gguf", {"embedding_length_out": 96})
    why = (
        f"{drafter} does not fit {target}: "
        "it is made for hidden states of size 96, the target has 64"
    )
    result = run_here("inspect", target, drafter)
    assert (result.exit_code, result.stderr) == (3, f"error: {why}\n")
    result = run_here("inspect", target, drafter, "--json")
    assert (result.exit_code, result.stderr) == (3, f"error: {why}\n")
    assert json.loads(result.stdout)["pair"] == {
        "target": str(target),
        "drafter": str(drafter),
        "fits": False,
        "problem": why,
    }


def test_drafter_beside_a_target(tmp_path: Path, run_here: Run) -> None:
    target = write_target(tmp_path / "t.gguf")
    drafter = write_drafter(tmp_path / "d.gguf")
    assert "d.gguf drafts for t.gguf" in run_here("inspect", target).stdout
    write_drafter(drafter, {"attention.sliding_window": 7})
    result = run_here("inspect", target)
    assert result.exit_code == 0
    assert "made for a sliding window of 7, the target has 128" in result.stdout


def test_metadata_is_data(tmp_path: Path, run_here: Run) -> None:
    name = "[bold red]name[/]\x1b]0;title\x07\nsecond line"
    path = write_target(tmp_path / "t.gguf", extra={"general.name": name})
    assert rows(run_here("inspect", path).stdout)["name"] == (
        "[bold red]name[/]␛]0;title␇ second line"
    )
    answer = json.loads(run_here("inspect", path, "--json").stdout)
    assert answer["files"][0]["name"] == name


def test_foreign_model_is_described_all_the_same(tmp_path: Path, run_here: Run) -> None:
    path = write_gguf(tmp_path / "l.gguf", "llama", {"block_count": 2})
    result = run_here("inspect", path)
    assert result.exit_code == 0
    table = rows(result.stdout)
    assert table["kind"] == "other (llama)" and table["layers"] == "2"
    assert table["usable"] == ("no: is a model of architecture llama; mtpcli runs Gemma 4 (gemma4)")


@pytest.mark.parametrize(
    ("content", "why"),
    [(None, "does not exist"), (b"", "is empty"), (b"GGUF\x03", "is cut short"), (b"x", "is not")],
)
def test_broken_file(tmp_path: Path, run_here: Run, content: bytes | None, why: str) -> None:
    path = tmp_path / "broken.gguf"
    if content is not None:
        path.write_bytes(content)
    result = run_here("inspect", path)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"error: {path} {why}") and result.stderr.count("\n") == 1


def test_usage(run_here: Run) -> None:
    result = run_here("inspect")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "error: " in result.stderr


def test_the_embedded_pair(demo_pair: Pair, run_here: Run) -> None:
    result = run_here("inspect", demo_pair.target, demo_pair.drafter, "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    target, drafter = answer["files"]
    assert answer["pair"]["fits"] and target["problem"] is None and drafter["problem"] is None
    assert target["chat_template"] and target["tensor_types"][0]["type"] == "q8_0"
    assert drafter["ordered_head"] and drafter["fingerprint"] == target["fingerprint"]


def test_many_files_stand_in_several_tables_on_a_terminal(demo_pair: Pair) -> None:
    files = [str(demo_pair.target)] * 8
    with Terminal(
        [sys.executable, "-m", "mtpcli", "inspect", *files], os.environ, size=(30, 80)
    ) as terminal:
        assert terminal.close() == 0
    assert terminal.text.count("16.1 million") == 8, "words were broken"
    assert terminal.text.count("parameters") == 3
