"""Targets and drafters told apart, and fitted, by their headers."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mtpcli.errors import ModelError
from mtpcli.llama.gguf import read_metadata
from mtpcli.pair import (
    check_drafter,
    check_pair,
    check_target,
    drafters_beside,
    find_drafter,
    kv_heads,
    vocabulary_size,
)
from tests.gguf_files import TOKENS, write_drafter, write_gguf, write_target


def target_problem(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        check_target(read_metadata(path))
    return str(caught.value).removeprefix(f"{path} ")


def drafter_problem(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        check_drafter(read_metadata(path))
    return str(caught.value).removeprefix(f"{path} ")


def misfit(target: Path, drafter: Path) -> str:
    with pytest.raises(ModelError) as caught:
        check_pair(read_metadata(target), read_metadata(drafter))
    message = str(caught.value)
    prefix = f"{drafter} does not fit {target}: "
    assert message.startswith(prefix) and "\n" not in message
    return message.removeprefix(prefix)


def test_a_pair_fits(tmp_path: Path) -> None:
    target = read_metadata(write_target(tmp_path / "t.gguf"))
    drafter = read_metadata(write_drafter(tmp_path / "d.gguf"))
    check_target(target)
    check_drafter(drafter)
    check_pair(target, drafter)
    assert vocabulary_size(target) == len(TOKENS)
    assert [kv_heads(target, layer) for layer in (0, 2, -1, -2)] == [2, 1, 1, 2]


@pytest.mark.parametrize(
    ("architecture", "why"),
    [
        ("gemma4-assistant", "is a drafter, not a model of its own: name it with --drafter"),
        ("gemma4_assistant", "is a drafter, not a model of its own: name it with --drafter"),
        ("llama", "is a model of architecture llama; mtpcli runs Gemma 4 (gemma4)"),
        ("clip", "is a projector for images (mmproj)"),
        ("x\x1b[31m", "is a model of architecture x␛[31m; mtpcli runs"),
    ],
)
def test_not_a_target(tmp_path: Path, architecture: str, why: str) -> None:
    assert target_problem(write_gguf(tmp_path / "t.gguf", architecture, {})).startswith(why)


@pytest.mark.parametrize(
    ("architecture", "why"),
    [
        ("gemma4", "is a Gemma 4 model of its own, not a drafter"),
        ("gemma4_assistant", "has the early architecture name gemma4_assistant"),
        ("eagle3", "is a model of architecture eagle3; mtpcli runs Gemma 4 (gemma4-assistant)"),
    ],
)
def test_not_a_drafter(tmp_path: Path, architecture: str, why: str) -> None:
    assert drafter_problem(write_gguf(tmp_path / "d.gguf", architecture, {})).startswith(why)


def test_vocabulary_without_weights(tmp_path: Path) -> None:
    path = write_target(tmp_path / "t.gguf", tensors={})
    assert target_problem(path) == "holds a vocabulary but no weights"


# Each of these ends the process, or worse, when llama.cpp meets it.
BAD_VALUES: list[tuple[dict[str, Any], str]] = [
    ({"block_count": None}, "gemma4.block_count is missing"),
    ({"block_count": "three"}, "gemma4.block_count is no whole number"),
    ({"block_count": 0}, "it claims 0 layers"),
    ({"block_count": 100_000}, "it claims 100000 layers"),
    ({"block_count": 4}, "gemma4.attention.head_count_kv does not list 4 layers"),
    ({"attention.head_count": 0}, "layer 0 has 0 heads on 2 key-value heads"),
    ({"attention.head_count": 3}, "layer 0 has 3 heads on 2 key-value heads"),
    ({"attention.head_count_kv": 0}, "layer 0 has 4 heads on 0 key-value heads"),
    ({"attention.value_length": 16}, "its keys and values differ in length"),
    ({"attention.value_length_swa": 32}, "its keys and values differ in length"),
    ({"rope.dimension_count": 7}, "7 of 32 dimensions rotate"),
    ({"rope.dimension_count": 0}, "0 of 32 dimensions rotate"),
    ({"rope.dimension_count_swa": 18}, "18 of 16 dimensions rotate"),
    ({"attention.layer_norm_rms_epsilon": -1.0}, "its norms add -1.0 to the variance"),
    ({"attention.layer_norm_rms_epsilon": float("nan")}, "its norms add nan to the variance"),
    ({"attention.sliding_window_pattern": None}, "does not list its layers"),
    ({"attention.sliding_window_pattern": [True, False]}, "1 of 2 listed layers slide"),
    ({"attention.sliding_window_pattern": [False] * 3}, "0 of 3 listed layers slide"),
    ({"attention.shared_kv_layers": 2}, "fewer than two layers keep keys and values"),
    ({"attention.shared_kv_layers": 1}, "share keys and values of another kind"),
    ({"expert_count": 8}, "it uses 0 of 8 experts"),
    ({"expert_count": 8, "expert_used_count": 9}, "it uses 9 of 8 experts"),
    ({"expert_used_count": 1}, "it uses 1 of 0 experts"),
]


@pytest.mark.parametrize(("changes", "why"), BAD_VALUES, ids=lambda value: str(value))
def test_values_that_would_end_the_process(
    tmp_path: Path, changes: dict[str, Any], why: str
) -> None:
    problem = target_problem(write_target(tmp_path / "t.gguf", changes))
    assert problem.startswith("is damaged: ") and why in problem


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("bos_token_id", 8, "tokenizer.ggml.bos_token_id is 8, which is no token"),
        ("eos_token_id", "two", "tokenizer.ggml.eos_token_id is two, which is no token"),
    ],
)
def test_special_token_that_is_none(tmp_path: Path, key: str, value: Any, why: str) -> None:
    extra = {f"tokenizer.ggml.{key}": value}
    for write, problem in ((write_target, target_problem), (write_drafter, drafter_problem)):
        assert problem(write(tmp_path / "x.gguf", extra=extra)) == f"is damaged: {why}"


def test_special_token_that_is_not_there(tmp_path: Path) -> None:
    extra = {"tokenizer.ggml.bos_token_id": 0xFFFFFFFF, "tokenizer.ggml.eos_token_id": 7}
    check_target(read_metadata(write_target(tmp_path / "t.gguf", extra=extra)))


def test_no_vocabulary(tmp_path: Path) -> None:
    path = write_target(tmp_path / "t.gguf", tokens=[])
    assert target_problem(path) == "is damaged: it has no vocabulary"


def test_sampling_that_is_no_number(tmp_path: Path) -> None:
    path = write_target(tmp_path / "t.gguf", extra={"general.sampling.top_k": "many"})
    assert target_problem(path) == "is damaged: general.sampling.top_k is not a number"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"nextn_predict_layers": 1}, "1 of its 2 layers draft"),
        ({"embedding_length_out": None}, "gemma4-assistant.embedding_length_out is missing"),
        ({"embedding_length_out": 32}, "its target's hidden size would be its own"),
    ],
)
def test_damaged_drafter(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    assert drafter_problem(write_drafter(tmp_path / "d.gguf", changes)) == f"is damaged: {why}"


def test_ordered_head_as_tensors(tmp_path: Path) -> None:
    tensors = {"token_embd.weight": (8, 8), "masked_embd_centroids.weight": (8, 4)}
    problem = drafter_problem(write_drafter(tmp_path / "d.gguf", tensors=tensors))
    assert problem.startswith("carries its ordered head as tensors")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"embedding_length_out": 96},
            "it is made for hidden states of size 96, the target has 64",
        ),
        (
            {"attention.sliding_window": 512},
            "it is made for a sliding window of 512, the target has 128",
        ),
        (
            {"attention.key_length": 64, "attention.value_length": 64},
            "it is made for head dimension 64, the target has 32",
        ),
        (
            {"attention.key_length_swa": 64, "attention.value_length_swa": 64},
            "it is made for sliding head dimension 64, the target has 16",
        ),
        (
            {"attention.head_count_kv": [1, 1]},
            "it is made for sliding key-value heads 1, the target has 2",
        ),
        (
            {"attention.head_count_kv": 2},
            "it is made for key-value heads 2, the target has 1",
        ),
        (
            {"rope.freq_base": 5e5},
            "it is made for rotation base 500000.0, the target has 1000000.0",
        ),
        (
            {"embedding_length_out": 96, "attention.head_count_kv": 1},
            "it is made for hidden states of size 96, the target has 64; "
            "it is made for sliding key-value heads 1, the target has 2",
        ),
    ],
    ids=lambda value: str(value),
)
def test_drafter_of_another_target(tmp_path: Path, changes: dict[str, Any], why: str) -> None:
    target = write_target(tmp_path / "t.gguf")
    assert misfit(target, write_drafter(tmp_path / "d.gguf", changes)) == why


def test_vocabulary_of_another_size(tmp_path: Path) -> None:
    target = write_target(tmp_path / "t.gguf")
    drafter = write_drafter(tmp_path / "d.gguf", tensors={"token_embd.weight": (8, 9)})
    assert misfit(target, drafter) == "it is made for a vocabulary of 9, the target has 8"


def test_other_tokens_in_a_vocabulary_of_the_same_size(tmp_path: Path) -> None:
    target = write_target(tmp_path / "t.gguf")
    drafter = write_drafter(tmp_path / "d.gguf", tokens=[*TOKENS[:-1], "z"])
    assert misfit(target, drafter) == "their vocabularies differ"


def test_fingerprints_decide_when_both_have_one(tmp_path: Path) -> None:
    def marked(mark: str) -> dict[str, str]:
        return {"mtpcli.fingerprint": mark}

    target = write_target(tmp_path / "t.gguf", extra=marked("aa"))
    same = write_drafter(tmp_path / "same.gguf", extra=marked("aa"))
    other = write_drafter(tmp_path / "other.gguf", extra=marked("bb"))
    check_pair(read_metadata(target), read_metadata(same))
    check_pair(read_metadata(target), read_metadata(write_drafter(tmp_path / "none.gguf")))
    assert misfit(target, other) == "their vocabularies differ"


def test_target_whose_last_layers_cannot_be_read(tmp_path: Path) -> None:
    pattern = {"attention.sliding_window_pattern": [True, False, True]}
    target = write_target(tmp_path / "t.gguf", pattern)
    assert misfit(target, write_drafter(tmp_path / "d.gguf")).startswith(
        "the target's last two layers"
    )


def test_drafter_is_found_by_what_it_is(tmp_path: Path) -> None:
    target = write_target(tmp_path / "gemma-4-mini-it-Q8_0.gguf")
    assert find_drafter(target) is None
    # Names lie: a target called a drafter, a foreign drafter, a broken file, a text file.
    write_target(tmp_path / "mtp-gemma-4-mini-it.gguf")
    write_drafter(tmp_path / "mtp-gemma-4-mini.gguf", {"embedding_length_out": 96})
    (tmp_path / "mtp.gguf").write_bytes(b"GGUF")
    (tmp_path / "notes.txt").write_text("gemma4-assistant")
    assert find_drafter(target) is None
    (found,) = drafters_beside(read_metadata(target))
    assert found.path.name == "mtp-gemma-4-mini.gguf" and "size 96" in found.problem
    drafter = write_drafter(tmp_path / "x.GGUF")
    assert find_drafter(target) == drafter


def test_drafter_in_the_mtp_folder(tmp_path: Path) -> None:
    target = write_target(tmp_path / "t.gguf")
    (tmp_path / "MTP").mkdir()
    drafter = write_drafter(tmp_path / "MTP" / "d.gguf")
    assert find_drafter(target) == drafter


def test_of_several_that_fit_the_name_decides_then_the_size(tmp_path: Path) -> None:
    target = write_target(tmp_path / "gemma-4-E2B-it-Q4_0.gguf")
    write_drafter(tmp_path / "a.gguf")
    write_drafter(tmp_path / "mtp-gemma-4-E4B-it.gguf")
    named = write_drafter(tmp_path / "mtp-gemma-4-E2B-it.gguf")
    assert find_drafter(target) == named
    bigger = {"token_embd.weight": (8, 8), "more": (999,)}
    shutil.move(named, tmp_path / "mtp-gemma-4-E2B-it-small.gguf")
    write_drafter(tmp_path / "mtp-gemma-4-E2B-it-big.gguf", tensors=bigger)
    found = find_drafter(target)
    assert found and found.name == "mtp-gemma-4-E2B-it-small.gguf"


def test_links_of_a_download_cache(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    snapshot.mkdir()
    for name, write in (("t.gguf", write_target), ("d.gguf", write_drafter)):
        blob = write(blobs / f"{name}.blob")
        (snapshot / name).symlink_to(blob)
    assert find_drafter(snapshot / "t.gguf") == snapshot / "d.gguf"
