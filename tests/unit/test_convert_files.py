"""The files as files: names, replacing, progress, and that nothing half written stays behind."""

from __future__ import annotations

import resource
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest

from convert import ConvertError, convert_model, convert_pair
from convert.card import file_stem, snapshot_name
from tests import snapshots


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return snapshots.write_target(tmp_path / "gemma-4-T2B-it")


@pytest.fixture
def drafter(tmp_path: Path) -> Path:
    return snapshots.write_drafter(tmp_path / "gemma-4-T2B-it-assistant")


def test_a_pair_is_named_after_its_target(target: Path, drafter: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    paths = convert_pair(target, drafter, out, "q4_0")
    assert paths == [out / "gemma-4-T2B-it-Q4_0.gguf", out / "mtp-gemma-4-T2B-it-Q8_0.gguf"]
    assert sorted(out.iterdir()) == sorted(paths)
    architectures = [gguf.GGUFReader(p).fields["general.architecture"].contents() for p in paths]
    assert architectures == ["gemma4", "gemma4-assistant"]


def test_auto_is_resolved_in_the_name(target: Path, tmp_path: Path) -> None:
    assert convert_pair(target, None, tmp_path / "out") == [
        tmp_path / "out" / "gemma-4-T2B-it-BF16.gguf"
    ]


@pytest.mark.parametrize(
    ("folder", "name", "stem"),
    [
        ("gemma-4-E2B-it", "gemma-4-E2B-it", "gemma-4-E2B-it"),
        ("models--google--gemma-4-E2B-it/snapshots/4f1c", "gemma-4-E2B-it", "gemma-4-E2B-it"),
        ("a b/\u00fcber model", "\u00fcber model", "ber-model"),
        ("..hidden", "..hidden", "hidden"),
        ("\u2603", "\u2603", "model"),
    ],
)
def test_names_of_snapshots(tmp_path: Path, folder: str, name: str, stem: str) -> None:
    assert snapshot_name(tmp_path / folder) == name
    assert file_stem(tmp_path / folder) == stem


def test_a_snapshot_in_the_hubs_cache_is_called_by_its_repository(tmp_path: Path) -> None:
    folder = tmp_path / "models--google--gemma-4-T2B-it" / "snapshots" / "4f1c0ffee"
    (path,) = convert_pair(snapshots.write_target(folder), None, tmp_path / "out")
    assert path.name == "gemma-4-T2B-it-BF16.gguf"
    fields = gguf.GGUFReader(path).fields
    assert fields["general.name"].contents() == "Gemma 4 T2B It"
    assert "general.version" not in fields


def test_existing_files_are_replaced_only_by_force(target: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.gguf"
    output.write_bytes(b"precious")
    with pytest.raises(ConvertError, match=r"out\.gguf: exists already; use --force"):
        convert_model(target, output)
    assert output.read_bytes() == b"precious"
    convert_model(target, output, force=True)
    assert output.read_bytes()[:4] == b"GGUF"


def test_one_existing_file_of_a_pair_stops_both(
    target: Path, drafter: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mtp-gemma-4-T2B-it-Q8_0.gguf").touch()
    with pytest.raises(ConvertError, match="exists already"):
        convert_pair(target, drafter, out)
    assert [path.name for path in out.iterdir()] == ["mtp-gemma-4-T2B-it-Q8_0.gguf"]


def test_a_folder_is_no_output(target: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="is a folder"):
        convert_model(target, tmp_path, force=True)


def test_a_failing_drafter_takes_the_target_along(target: Path, tmp_path: Path) -> None:
    tensors = snapshots.drafter_tensors()
    name = "model.layers.3.mlp.up_proj.weight"
    tensors[name] = snapshots.widened(tensors[name]) * np.float32(1e9)
    drafter = snapshots.write_snapshot(tmp_path / "bad", snapshots.DRAFTER_CONFIG, tensors)
    out = tmp_path / "out"
    with pytest.raises(ConvertError, match="too large for f16"):
        convert_pair(target, drafter, out, "q8_0", "f16")
    assert not out.exists()


def interrupt_after(calls: int, error: BaseException) -> Callable[[int, int], None]:
    """A progress callback that raises on its n-th call."""
    left = calls

    def progress(done: int, total: int) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            raise error

    return progress


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("bug"), OSError(28, "full")])
@pytest.mark.parametrize("calls", [1, 100])
def test_an_interrupted_conversion_leaves_what_stood_before(
    target: Path, drafter: Path, tmp_path: Path, error: BaseException, calls: int
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    before = out / "gemma-4-T2B-it-Q8_0.gguf"
    before.write_bytes(b"precious")
    wanted = ConvertError if isinstance(error, OSError) else type(error)
    with pytest.raises(wanted):
        convert_pair(
            target, drafter, out, "q8_0", force=True, progress=interrupt_after(calls, error)
        )
    assert list(out.iterdir()) == [before]
    assert before.read_bytes() == b"precious"


def test_a_disk_that_fills_up(target: Path, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    output = tmp_path / "out" / "model.gguf"
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(ConvertError, match=r"out: cannot be written: File too large"):
            convert_model(target, output)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not output.parent.exists()


def test_an_output_below_a_file(target: Path) -> None:
    with pytest.raises(ConvertError, match=r"config\.json: is no folder"):
        convert_model(target, target / "config.json" / "model.gguf")


def test_progress_counts_all_bytes_of_both_files(
    target: Path, drafter: Path, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    paths = convert_pair(
        target, drafter, tmp_path / "out", progress=lambda done, total: seen.append((done, total))
    )
    tensor_bytes = sum(t.n_bytes for path in paths for t in gguf.GGUFReader(path).tensors)
    assert {total for _, total in seen} == {tensor_bytes}
    done = [done for done, _ in seen]
    assert done == sorted(done)
    assert done[-1] == tensor_bytes


def test_memory_does_not_grow_with_the_model(tmp_path: Path) -> None:
    wide = 1 << 15
    tensors = snapshots.target_tensors()
    for layer in range(4):
        width = wide * (2 if layer >= 2 else 1)
        mlp = f"model.layers.{layer}.mlp."
        tensors[mlp + "down_proj.weight"] = np.ones((snapshots.HIDDEN, width), np.uint16)
        for name in ("gate_proj.weight", "up_proj.weight"):
            tensors[mlp + name] = np.ones((width, snapshots.HIDDEN), np.uint16)
    config = {**snapshots.TARGET_CONFIG, "intermediate_size": wide}
    folder = snapshots.write_snapshot(tmp_path / "wide", config, tensors)
    source_bytes = sum(tensor.nbytes for tensor in tensors.values())
    del tensors
    tracemalloc.start()
    try:
        convert_model(folder, tmp_path / "wide.gguf", "bf16")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert source_bytes > 75e6
    assert peak < 24e6


def test_refuses_pairs_that_cannot_run_together(
    target: Path, drafter: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ConvertError, match="is a drafter; name its target"):
        convert_pair(drafter, None, out)
    with pytest.raises(ConvertError, match="is not a drafter but a Gemma4ForCausalLM"):
        convert_pair(target, target, out)
    other = snapshots.write_drafter(tmp_path / "other", num_key_value_heads=2)
    with pytest.raises(ConvertError, match=r"heads and dimension \(2, 16\), target has \(1, 16\)"):
        convert_pair(target, other, out)
    tokenizer = snapshots.tokenizer()
    vocab = tokenizer["model"]["vocab"]
    vocab["a"], vocab["b"] = vocab["b"], vocab["a"]
    snapshots.write_json(drafter / "tokenizer.json", tokenizer)
    with pytest.raises(ConvertError, match="tokens are not those of the target"):
        convert_pair(target, drafter, out)
    assert not out.exists()
