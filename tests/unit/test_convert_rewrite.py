"""Drafter files of the old architecture `gemma4_assistant`, rewritten."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from convert import ConvertError, convert_model, rewrite_drafter
from convert.gguf_file import read_header
from tests import snapshots

Edit = Callable[[dict[str, Any], dict[str, Any]], Any]
OLD, NEW = "gemma4_assistant", "gemma4-assistant"


def read(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keys as (types, value) and tensors as (type, shape, bytes)."""
    reader = gguf.GGUFReader(path)
    keys = {
        name: (field.types, field.contents())
        for name, field in reader.fields.items()
        if not name.startswith("GGUF.")
    }
    tensors = {t.name: (t.tensor_type, t.shape.tolist(), t.data.copy()) for t in reader.tensors}
    return keys, tensors


@pytest.fixture
def modern(tmp_path: Path) -> Path:
    snapshot = snapshots.write_drafter(tmp_path / "snapshot")
    return convert_model(snapshot, tmp_path / "modern.gguf", "q8_0")


def write_old(
    modern: Path, path: Path, edit: Edit = lambda keys, tensors: None, arch: str = OLD
) -> Path:
    """What a converter of the time would have written instead of `modern`."""
    keys, tensors = read(modern)
    kind = gguf.GGMLQuantizationType
    for new, old in (("pre", "mtp.pre"), ("post", "mtp.post")):
        tensors[f"{old}_projection.weight"] = tensors.pop(f"nextn.{new}_projection.weight")
    _, centroids = keys.pop("mtpcli.ordered_head.centroids")
    _, ordering = keys.pop("mtpcli.ordered_head.token_ordering")
    table = np.array(centroids, np.float32).reshape(snapshots.CENTROIDS, -1)
    tensors["mtp.centroids.weight"] = (kind.F32, None, table)
    tensors["mtp.token_ordering.weight"] = (kind.I32, None, np.array(ordering, np.int32))
    keys[f"{OLD}.centroid_top_k"] = keys.pop("mtpcli.ordered_head.top_k")
    keys[f"{OLD}.n_centroids"] = keys.pop("mtpcli.ordered_head.num_centroids")
    keys[f"{OLD}.n_embd_backbone"] = keys.pop(f"{NEW}.embedding_length_out")
    del keys[f"{NEW}.nextn_predict_layers"], keys["mtpcli.fingerprint"]
    edit(keys, tensors)
    writer = gguf.GGUFWriter(path, arch)
    for name, (types, value) in keys.items():
        if name != "general.architecture":
            item = types[-1] if len(types) > 1 else None
            writer.add_key_value(name.replace(NEW, arch), value, types[0], item)
    for name, (tensor_type, _, data) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_a_rewritten_file_is_the_one_converted_today(modern: Path, tmp_path: Path) -> None:
    old = write_old(modern, tmp_path / "drafter.Q8_0.gguf")
    new = rewrite_drafter(old, tmp_path / "out")
    assert new == tmp_path / "out" / "mtp-drafter.Q8_0.gguf"
    (keys, tensors), (wanted_keys, wanted_tensors) = read(new), read(modern)
    assert keys == wanted_keys
    assert tensors.keys() == wanted_tensors.keys()
    for name, (kind, shape, data) in wanted_tensors.items():
        assert tensors[name][:2] == (kind, shape)
        np.testing.assert_array_equal(tensors[name][2], data)


def test_todays_names_with_a_head_of_tensors(modern: Path, tmp_path: Path) -> None:
    def rename(keys: dict[str, Any], tensors: dict[str, Any]) -> None:
        tensors["masked_embd_centroids.weight"] = tensors.pop("mtp.centroids.weight")
        tensors["masked_embd_ordering"] = tensors.pop("mtp.token_ordering.weight")
        for part in ("pre", "post"):
            tensor = tensors.pop(f"mtp.{part}_projection.weight")
            tensors[f"nextn.{part}_projection.weight"] = tensor
        keys[f"{NEW}.embedding_length_out"] = keys.pop(f"{OLD}.n_embd_backbone")
        keys[f"{NEW}.nextn_predict_layers"] = ([gguf.GGUFValueType.UINT32], 4)
        for key in ("centroid_top_k", "n_centroids"):
            keys[f"{NEW}.{key}"] = keys.pop(f"{OLD}.{key}")

    old = write_old(modern, tmp_path / "old.gguf", rename, arch=NEW)
    (keys, tensors), (wanted_keys, wanted_tensors) = (
        read(path) for path in (rewrite_drafter(old, tmp_path / "out"), modern)
    )
    assert keys == wanted_keys
    assert tensors.keys() == wanted_tensors.keys()


def test_quantised_centroids_are_unpacked(modern: Path, tmp_path: Path) -> None:
    def quantise(keys: dict[str, Any], tensors: dict[str, Any]) -> None:
        kind = gguf.GGMLQuantizationType.Q8_0
        _, _, table = tensors["mtp.centroids.weight"]
        tensors["mtp.centroids.weight"] = (kind, None, gguf.quants.quantize(table, kind))

    old = write_old(modern, tmp_path / "old.gguf", quantise)
    keys, _ = read(rewrite_drafter(old, tmp_path / "out"))
    wanted, _ = read(modern)
    key = "mtpcli.ordered_head.centroids"
    np.testing.assert_allclose(keys[key][1], wanted[key][1], atol=5e-4)


def test_files_without_a_head_stay_without(modern: Path, tmp_path: Path) -> None:
    def behead(keys: dict[str, Any], tensors: dict[str, Any]) -> None:
        del tensors["mtp.centroids.weight"], tensors["mtp.token_ordering.weight"]

    keys, _ = read(
        rewrite_drafter(write_old(modern, tmp_path / "old.gguf", behead), tmp_path / "o")
    )
    assert not any(key.startswith("mtpcli.ordered_head") for key in keys)


def test_refuses_files_of_other_architectures(modern: Path, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="is a file of architecture 'gemma4-assistant'"):
        rewrite_drafter(modern, tmp_path / "out")


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda k, t: t.pop("output_norm.weight"), "tensor output_norm.weight is missing"),
        (lambda k, t: t.update(extra=t["output_norm.weight"]), "tensor extra belongs to no part"),
        (lambda k, t: t.pop("mtp.token_ordering.weight"), "half of an ordered head"),
        (lambda k, t: t["mtp.token_ordering.weight"][2].fill(1), "each token exactly once"),
        (lambda k, t: k.pop(f"{OLD}.n_embd_backbone"), "n_embd_backbone is None"),
        (lambda k, t: k.pop(f"{NEW}.attention.sliding_window_pattern"), "pattern is None"),
        (lambda k, t: k.pop("tokenizer.ggml.tokens"), "has no vocabulary"),
        (lambda k, t: k.update({f"{OLD}.n_embd_backbone": ([4], 96)}), "its keys make it"),
    ],
)
def test_refuses_incomplete_files(modern: Path, tmp_path: Path, edit: Edit, complaint: str) -> None:
    old = write_old(modern, tmp_path / "old.gguf", lambda k, t: edit(k, t) and None)
    with pytest.raises(ConvertError, match=complaint):
        rewrite_drafter(old, tmp_path / "out")


def test_refuses_what_is_no_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "file.gguf"
    string = struct.pack("<Q", 1) + b"k"
    for raw, complaint in {
        b"": "cannot be read",
        b"GGML" + bytes(60): "not a GGUF file",
        struct.pack("<4sI", b"GGUF", 1) + bytes(60): "not a GGUF file",
        struct.pack("<4sI", b"GGUF", 3): "cut inside its header",
        struct.pack("<4sIQQ", b"GGUF", 3, 2**40, 0): "header claims",
        struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, 2**63): "cut inside its header",
        struct.pack("<4sIQQ", b"GGUF", 3, 0, 1) + string + struct.pack("<I", 77): "unknown type 77",
        struct.pack("<4sIQQ", b"GGUF", 3, 0, 1)
        + string
        + struct.pack("<IIQ", 9, 4, 2**62): "cut inside its header",
        struct.pack("<4sIQQ", b"GGUF", 3, 1, 0)
        + string
        + struct.pack("<IQIQ", 1, 2**40, 0, 0): "cut inside tensor k",
        struct.pack("<4sIQQ", b"GGUF", 3, 1, 0) + string + struct.pack("<I", 9): "9 dimensions",
    }.items():
        path.write_bytes(raw)
        with pytest.raises(ConvertError, match=complaint):
            read_header(path)


def test_a_file_cut_anywhere_is_refused(modern: Path, tmp_path: Path) -> None:
    raw = write_old(modern, tmp_path / "old.gguf").read_bytes()
    cut = tmp_path / "cut.gguf"
    for length in range(1, len(raw) - 32, 997):
        cut.write_bytes(raw[:length])
        with pytest.raises(ConvertError, match=r"cut|not a GGUF"):
            rewrite_drafter(cut, tmp_path / "out")
