"""Presets of llama.cpp's own quantiser."""

from __future__ import annotations

from pathlib import Path

import pytest

from convert import ConvertError
from convert.gguf_file import read_header
from mtpcli.errors import ModelError
from mtpcli.llama.quantize import quantize
from mtpcli.presets import convert_pair
from tests import snapshots


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return snapshots.write_target(tmp_path / "gemma-4-T2B-it")


@pytest.fixture
def drafter(tmp_path: Path) -> Path:
    return snapshots.write_drafter(tmp_path / "drafter")


def test_a_pair_in_two_presets(target: Path, drafter: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    seen: list[tuple[int, int]] = []
    paths = convert_pair(
        target, drafter, out, "iq4_nl", "q5_k_m", progress=lambda *step: seen.append(step)
    )
    assert [path.name for path in paths] == [
        "gemma-4-T2B-it-IQ4_NL.gguf",
        "mtp-gemma-4-T2B-it-Q5_K_M.gguf",
    ]
    assert sorted(out.iterdir()) == sorted(paths)
    first, second = (read_header(path) for path in paths)
    assert first.tensors["blk.0.attn_q.weight"].kind.name == "IQ4_NL"
    assert second.value("general.file_type") == 17
    # What only we understand must survive another program's hands.
    assert first.value("mtpcli.fingerprint") == second.value("mtpcli.fingerprint")
    ordering = snapshots.drafter_tensors()["masked_embedding.token_ordering"]
    assert second.value("mtpcli.ordered_head.token_ordering") == ordering.tolist()
    assert seen[-1] == (len(second.tensors), len(second.tensors))


def test_a_preset_beside_a_plain_type(target: Path, drafter: Path, tmp_path: Path) -> None:
    paths = convert_pair(target, drafter, tmp_path / "out", "q6_k", "q8_0")
    assert [path.name for path in paths] == [
        "gemma-4-T2B-it-Q6_K.gguf",
        "mtp-gemma-4-T2B-it-Q8_0.gguf",
    ]


def test_existing_files_need_force(target: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (path,) = convert_pair(target, None, out, "q6_k", "q8_0")
    before = path.stat().st_mtime_ns
    with pytest.raises(ConvertError, match="exists already; use --force"):
        convert_pair(target, None, out, "q6_k", "q8_0")
    assert (list(out.iterdir()), path.stat().st_mtime_ns) == ([path], before)
    convert_pair(target, None, out, "q6_k", "q8_0", force=True)
    assert path.stat().st_mtime_ns > before


def test_after_a_failure_nothing_is_left(target: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (target / "tokenizer.json").unlink()
    with pytest.raises(ConvertError, match=r"tokenizer\.json: not found"):
        convert_pair(target, None, out, "q6_k", "q8_0")
    assert not out.exists()


def test_an_interrupt_reaches_the_quantiser(target: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    def interrupt(done: int, total: int) -> None:
        if total < 1000:  # tensors, not bytes: the quantiser is at work
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert_pair(target, None, out, "q6_k", "q8_0", progress=interrupt)
    assert not out.exists()


def test_says_why_llama_cpp_refuses(tmp_path: Path) -> None:
    source = tmp_path / "source.gguf"
    source.write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"source\.gguf: llama\.cpp cannot quantise it to Q6_K"):
        quantize(source, tmp_path / "out.gguf", "q6_k")
