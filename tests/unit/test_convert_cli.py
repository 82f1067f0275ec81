"""`mtpcli convert`: what it prints where, and its exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import snapshots

RunCli = Callable[..., Any]


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return snapshots.write_target(tmp_path / "gemma-4-T2B-it")


def test_prints_the_files_and_nothing_else(run_cli: RunCli, target: Path, tmp_path: Path) -> None:
    drafter = snapshots.write_drafter(tmp_path / "drafter")
    out = tmp_path / "out"
    done = run_cli("convert", target, "--drafter", drafter, "--outtype", "q4_0", "-o", out)
    assert (done.exit_code, done.stderr) == (0, "")
    paths = [out / "gemma-4-T2B-it-Q4_0.gguf", out / "mtp-gemma-4-T2B-it-Q8_0.gguf"]
    assert done.stdout.splitlines() == [str(path) for path in paths]
    assert sorted(out.iterdir()) == paths


def test_presets_are_named_as_people_name_them(
    run_cli: RunCli, target: Path, tmp_path: Path
) -> None:
    done = run_cli("convert", target, "-o", tmp_path / "out", "--outtype", "Q4_K_M")
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"{tmp_path / 'out' / 'gemma-4-T2B-it-Q4_K_M.gguf'}\n"


def test_bad_snapshots_are_one_line_and_exit_code_3(
    run_cli: RunCli, target: Path, tmp_path: Path
) -> None:
    (target / "model.safetensors").write_bytes(b"\0" * 100)
    done = run_cli("convert", target, "-o", tmp_path / "out")
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.startswith(f"error: {target / 'model.safetensors'}: ")
    assert done.stderr.count("\n") == 1


def test_existing_files_need_force(run_cli: RunCli, target: Path, tmp_path: Path) -> None:
    first, second, third = (
        run_cli("convert", target, "-o", tmp_path / "out", *force)
        for force in ([], [], ["--force"])
    )
    assert [first.exit_code, second.exit_code, third.exit_code] == [0, 2, 0]
    assert "--force" in second.stderr


def test_unknown_types_are_a_usage_error(run_cli: RunCli, target: Path, tmp_path: Path) -> None:
    done = run_cli("convert", target, "-o", tmp_path / "out", "--drafter-outtype", "q9")
    assert done.exit_code == 2
    assert "--drafter-outtype q9: is not one of auto, f32" in done.stderr


def test_a_file_is_rewritten_alone(run_cli: RunCli, tmp_path: Path) -> None:
    file = tmp_path / "drafter.gguf"
    file.write_bytes(b"GGUF")
    done = run_cli("convert", file, "-o", tmp_path / "out")
    assert done.exit_code == 3
    assert done.stderr == f"error: {file}: cut inside its header; download it again\n"
    done = run_cli("convert", file, "-o", tmp_path / "out", "--outtype", "q4_0")
    assert done.exit_code == 2


def test_says_what_it_leaves_out(run_cli: RunCli, tmp_path: Path) -> None:
    tensors = snapshots.target_tensors()
    tensors["model.vision_tower.weight"] = np.zeros((1000, 1000), np.uint16)
    target = snapshots.write_snapshot(tmp_path / "model", snapshots.TARGET_CONFIG, tensors)
    done = run_cli("convert", target, "-o", tmp_path / "out")
    assert done.exit_code == 0
    assert "left out vision and audio (2.0 MB)" in done.stderr
