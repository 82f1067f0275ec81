"""`mtpcli plan`: what it prints, where, and what it leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, Pair, Result
from tests.gguf_files import write_gguf
from tests.held import Held

Run = Callable[..., Result]


def cache(tmp_path: Path) -> list[Path]:
    """What stands in the cache, but for the vocabulary of costs."""
    folder = tmp_path / "cache" / "mtpcli"
    return sorted(folder.iterdir()) if folder.exists() else []


def test_the_embedded_pair(tmp_path: Path, demo_pair: Pair, run_cli: Run) -> None:
    result = run_cli(
        "plan", demo_pair.target, "--json", "--ctx", 512, "--threads", 1,
        "--acceptance", 0.4, "--acceptance", 0.8,
    )  # fmt: skip
    assert (result.exit_code, result.stderr) == (0, "")
    answer = json.loads(result.stdout)
    assert set(answer) == {
        "model", "quant", "file", "ctx", "threads", "layers", "parameters", "drafter", "memory",
        "disk", "other_quant", "speed", "advice", "next",
    }  # fmt: skip
    assert (answer["quant"], answer["ctx"], answer["threads"]) == ("Q8_0", 512, 1)
    assert answer["file"] == str(demo_pair.target) and answer["drafter"] is True
    memory = answer["memory"]
    assert memory["verdict"] in ("fits", "swaps", "does not fit")
    parts = ("weights", "kv", "drafter", "compute", "program")
    assert memory["total"] == sum(memory[part] for part in parts)
    assert answer["disk"]["fits"] and answer["disk"]["checkpoint"] == 0
    speed = answer["speed"]
    assert speed["plain_tokens_per_second"] > 0 and speed["prompt_tokens_per_second"] > 0
    assert [rate["acceptance"] for rate in speed["mtp"]] == [0.4, 0.8]
    assert all(rate["tokens_per_second"] > 0 and 0 <= rate["depth"] <= 15 for rate in speed["mtp"])
    assert {"1", "2", "8", "16"} <= set(speed["verify_ms"])
    assert all(value >= 0 for value in speed["parts_ms"].values())
    assert answer["next"] == f"mtpcli bench -m {demo_pair.target}"
    assert cache(tmp_path) == []


def test_text_without_measuring(tmp_path: Path, run_here: Run) -> None:
    result = run_here("plan", "google/gemma-4-E2B-it", "--quant", "Q4_K_M", "--no-measure")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = result.stdout.splitlines()
    assert lines[0] == "model   E2B, Q4_K_M, 4.6 billion parameters"
    assert "weights 3.4 GB + keys and values of 8192 tokens 62.9 MB" in lines[1]
    assert lines[2].startswith("disk    download 9.4 GB, files 3.5 GB, free ")
    assert lines[-1] == "Next: mtpcli pull google/gemma-4-E2B-it --quant Q4_K_M"
    assert "tokens/s" not in result.stdout
    assert cache(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["e3b"], "e3b: is not one of E2B, E4B, 12B, 26B-A4B, 31B, a GGUF file"),
        (["e2b", "--quant", "q9"], "--quant q9: is not one of f32, f16, bf16, q8_0"),
        (["e2b", "--ctx", "999999"], "--ctx 999999 is more than the 131072 tokens of e2b"),
        (["e2b", "--acceptance", "2"], "--acceptance"),
        ([], "Missing argument 'MODEL'"),
    ],
)
def test_usage(run_here: Run, arguments: list[str], says: str) -> None:
    result = run_here("plan", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr and result.stderr.count("\n") == 1


def test_files_that_are_no_model(tmp_path: Path, run_here: Run) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(b"not a model")
    result = run_here("plan", path)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"error: {path} is not a GGUF file")
    result = run_here("plan", tmp_path / "none.gguf")
    assert result.exit_code == 3 and "none.gguf does not exist" in result.stderr
    result = run_here("plan", write_gguf(path, "llama", {"block_count": 2}))
    assert result.exit_code == 3 and "architecture llama" in result.stderr


def test_a_small_model_is_told_in_millions(demo_pair: Pair, run_here: Run) -> None:
    result = run_here("plan", demo_pair.target, "--no-measure")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines()[0].endswith(", Q8_0, 16.1 million parameters")


def test_a_disk_that_is_too_small(
    demo_pair: Pair, run_here: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage("/")._replace(free=4_500_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    result = run_here("plan", demo_pair.target)
    assert (result.exit_code, result.stdout) == (4, "")
    assert "where 4.5 MB are free" in result.stderr and result.stderr.count("\n") == 1


def test_an_interrupted_plan_leaves_nothing_behind(tmp_path: Path, demo_pair: Pair) -> None:
    with Held(
        ("mtpcli.plan.measure", "small.write_sample", 1),
        ["plan", str(demo_pair.target), "--threads", "1"],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as held:
        assert len(cache(tmp_path)) == 1
        held.process.send_signal(signal.SIGINT)
        stdout, stderr = held.process.communicate(timeout=PATIENCE)
    assert (held.process.returncode, stdout, stderr) == (130, b"", b"")
    assert cache(tmp_path) == []
