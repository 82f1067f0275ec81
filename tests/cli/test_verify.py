"""`mtpcli verify` and `--exact`, on the embedded pair in types that round in different ways."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mtpcli.presets import convert_pair
from tests.conftest import ROOT, Pair, Result

Run = Callable[..., Result]
DEMO = ROOT / "mtpcli" / "demo"
FEW = ("--threads", "1", "--ctx", "72", "--count", "2", "--seeds", "1", "-n", "20")


@pytest.fixture(scope="module")
def q4_k_m(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("q4_k_m")
    return convert_pair(DEMO / "target", DEMO / "drafter", folder, "q4_k_m", "q8_0")[0]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What is found out about row counts is kept from test to test."""
    return {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))}


def verify(
    run_cli: Run, env: dict[str, str], *arguments: str | Path
) -> tuple[Result, dict[str, Any]]:
    result = run_cli("verify", *arguments, *FEW, "--json", env=env)
    assert result.exit_code in (0, 5), result.stderr
    return result, json.loads(result.stdout)


def test_eight_bits_are_lossless(run_cli: Run, demo_pair: Pair, cache: dict[str, str]) -> None:
    result = run_cli("verify", demo_pair.target, demo_pair.drafter, *FEW, env=cache)
    assert result.exit_code == 0
    assert " \n" not in result.stdout
    lines = result.stdout.splitlines()
    assert lines[-1].startswith("LOSSLESS: 4 of 4 texts are equal with and without the drafter")
    assert any(line.split()[:2] == ["greedy", "2"] for line in lines)
    assert result.stderr == ""


def test_exact_text_of_a_type_that_rounds(
    run_cli: Run, q4_k_m: Path, cache: dict[str, str]
) -> None:
    result, found = verify(run_cli, cache, q4_k_m, "--exact")
    assert result.exit_code == 0
    assert found["lossless"] and found["exact"]
    assert [text["equal"] for text in found["texts"]] == [2, 2]
    assert [row["rows"] for row in found["rows"]] == list(range(2, 17))
    assert all(row["largest_difference"] == 0 for row in found["rows"] if row["identical"])
    # The preset leaves a matrix in BF16, and single rows of it have a kernel of their own.
    assert found["same_bits"][0] == [1]
    # What was found out is kept: the next command does not do it again.
    folder = Path(cache["XDG_CACHE_HOME"]) / "mtpcli" / "costs"
    kept = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    result, again = verify(run_cli, cache, q4_k_m)
    assert again["exact_rows"] == found["exact_rows"]
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == kept
    # Whether texts differ without --exact depends on the machine.
    assert result.exit_code == (0 if again["lossless"] else 5)
    assert again["verdict"].startswith("LOSSLESS" if again["lossless"] else "DIFFERENT")


def test_generate_keeps_to_exact_rows(run_cli: Run, q4_k_m: Path, cache: dict[str, str]) -> None:
    options = ("-m", q4_k_m, "--exact", "--threads", "1", "--ctx", "72", "--seed", "7", "-n", "40")
    prompt = "Write a short story about a fox."
    drafted = run_cli("generate", prompt, *options, "--draft-depth", "7", "--json", env=cache)
    plain = run_cli("generate", prompt, *options, "--no-draft", "--json", env=cache)
    assert json.loads(drafted.stdout)["tokens"] == json.loads(plain.stdout)["tokens"]
    assert "--exact: " in drafted.stderr


# From 256 cells on llama.cpp splits a single row's attention among threads, whatever the type.
LONG = " ".join(f"What is {number} + 45? That is {number + 45}." for number in range(11, 33))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["q4_k_m", "q6_k", "f16", "bf16", "q4_0", "q8_0"])
def test_exact_text_of_every_type(run_cli: Run, tmp_path: Path, kind: str) -> None:
    target, drafter = convert_pair(DEMO / "target", DEMO / "drafter", tmp_path, kind, "q8_0")
    prompt = f"{LONG} Write a short story about a fox."
    (tmp_path / "prompts.txt").write_text(f"Write a short story about a fox.\n{prompt}\n")
    common = ("--exact", "--threads", "2", "--ctx", "512")
    report = run_cli(
        "verify", target, drafter, *common, "--prompts", "prompts.txt", "--seeds", "1", "-n", "60",
        "--json",
    )  # fmt: skip
    assert report.exit_code == 0, report.stdout
    found = json.loads(report.stdout)
    assert [text["equal"] for text in found["texts"]] == [2, 2]
    assert found["same_bits"][0] == [1]
    options = ("-m", target, *common, "--temperature", "0", "-n", "60")
    alone = run_cli("generate", prompt, *options, "--no-draft", "--json")
    assert json.loads(alone.stdout)["usage"]["prompt_tokens"] > 256
    rows = "".join(json.dumps({"prompt": prompt}) + "\n" for _ in range(2))
    many = run_cli("batch", "-", *options, "--parallel", "4", stdin=rows)
    texts = {json.loads(line)["response"]["text"] for line in many.stdout.splitlines()}
    assert texts == {json.loads(alone.stdout)["text"]}


def test_exact_and_rejection_exclude_each_other(run_here: Run, demo_pair: Pair) -> None:
    for command in ("generate", "chat"):
        result = run_here(
            command, "-m", demo_pair.target, "--exact", "--verify", "rejection", stdin="Hello"
        )
        assert result.exit_code == 2
        assert "exclude each other" in result.stderr


def test_a_target_without_a_drafter(run_here: Run, tmp_path: Path, demo_pair: Pair) -> None:
    alone = tmp_path / "alone" / "target.gguf"
    alone.parent.mkdir()
    alone.symlink_to(demo_pair.target)
    result = run_here("verify", alone)
    assert result.exit_code == 3
    assert result.stdout == ""
    assert result.stderr.startswith("error: no drafter that fits lies beside")


def test_prompts_of_ones_own(
    run_cli: Run, demo_pair: Pair, tmp_path: Path, cache: dict[str, str]
) -> None:
    (tmp_path / "mine.txt").write_text("Hello!\n\nWhat is 2 + 2?\nIgnored, for --count is 2.\n")
    pair = (demo_pair.target, demo_pair.drafter)
    _, found = verify(run_cli, cache, *pair, "--prompts", "mine.txt")
    assert [text["texts"] for text in found["texts"]] == [2, 2]
    result = run_cli("verify", demo_pair.target, "--prompts", "none.txt")
    assert result.exit_code == 4
    assert result.stderr.startswith("error: cannot read none.txt")
