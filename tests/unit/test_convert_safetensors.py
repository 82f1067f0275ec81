"""The safetensors reader: what it reads, and how little it believes."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convert.errors import ConvertError
from convert.safetensors import read_file, read_snapshot
from tests import snapshots


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


@pytest.mark.parametrize("dtype", [np.uint16, np.float16, np.float32, np.int64])
def test_reads_what_was_written(path: Path, dtype: Any) -> None:
    wanted = np.arange(12).astype(dtype).reshape(3, 4)
    other = np.ones(5, np.float32)
    path.write_bytes(snapshots.safetensors({"other": other, "wanted": wanted}))
    tensor = read_file(path)["wanted"]
    assert tensor.shape == (3, 4)
    np.testing.assert_array_equal(tensor.read(), wanted.reshape(-1))
    np.testing.assert_array_equal(tensor.read(5, 3), wanted.reshape(-1)[5:8])


def test_reads_scalars_and_empty_tensors(path: Path) -> None:
    tensors = {"scalar": np.float32(3).reshape(()), "empty": np.zeros((0, 4), np.float32)}
    path.write_bytes(snapshots.safetensors(tensors))
    read = read_file(path)
    assert read["scalar"].read().tolist() == [3.0]
    assert read["empty"].read().size == 0


def entry(shape: Any, offsets: Any, dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("header", "size", "complaint"),
    [
        ({"a": entry([2], [0, 8])}, 4, "cut"),
        ({"a": entry([2], [0, 8])}, 12, "4 bytes after the last tensor"),
        ({"a": entry([2], [0, 8]), "b": entry([2], [4, 12])}, 12, "tensor b overlaps"),
        ({"a": entry([1], [0, 4]), "b": entry([1], [8, 12])}, 12, "tensor b follows a gap"),
        ({"a": entry([2**62, 4], [0, 16])}, 16, "tensor a needs"),
        ({"a": entry([3], [0, 8])}, 8, "tensor a needs 12 bytes"),
        ({"a": entry([-2], [0, 8])}, 8, "malformed shape"),
        ({"a": entry([True, 2], [0, 8])}, 8, "malformed shape"),
        ({"a": entry("2", [0, 8])}, 8, "malformed shape"),
        ({"a": entry([2], [8])}, 8, "malformed shape or data_offsets"),
        ({"a": entry([2], [8, 0])}, 8, "tensor a needs"),
        ({"a": entry([2], [0, 8], "F4")}, 8, "unsupported dtype 'F4'"),
        ({"a": entry([2], [0, 8], ["F32"])}, 8, "unsupported dtype"),
        ({"a": [2]}, 8, "is not an object"),
    ],
)
def test_refuses_headers_that_lie(
    path: Path, header: dict[str, Any], size: int, complaint: str
) -> None:
    path.write_bytes(snapshots.with_header(header, bytes(size)))
    with pytest.raises(ConvertError, match=complaint) as error:
        read_file(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        (b"", "not a complete safetensors file"),
        (b"GGUF", "not a complete safetensors file"),
        (struct.pack("<Q", 2**63) + b"{}", "not a complete safetensors file"),
        (struct.pack("<Q", 10) + b"{}", "not a complete safetensors file"),
        (struct.pack("<Q", 2) + b"{]", "not valid JSON"),
        (struct.pack("<Q", 2) + b"[]", "a JSON object is expected"),
        (struct.pack("<Q", 2) + b"\xff\xff", "not valid JSON"),
        (struct.pack("<Q", 13) + b'{"a":1,"a":1}', "key 'a' appears twice"),
        (struct.pack("<Q", 200_000) + b"[" * 200_000, "nested too deeply"),
    ],
)
def test_refuses_what_is_no_safetensors_file(path: Path, raw: bytes, complaint: str) -> None:
    path.write_bytes(raw)
    with pytest.raises(ConvertError, match=complaint):
        read_file(path)


def test_refuses_a_huge_header_before_reading_it(path: Path) -> None:
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 200_000_000))
        file.truncate(300_000_000)  # sparse: takes no space
    with pytest.raises(ConvertError, match="header of 200000000 bytes"):
        read_file(path)


def test_says_which_file_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match=r"model\.safetensors: not found"):
        read_snapshot(tmp_path)


def test_a_file_that_shrinks_after_it_was_listed_is_an_error(path: Path) -> None:
    path.write_bytes(snapshots.safetensors({"a": np.ones(100, np.float32)}))
    tensor = read_file(path)["a"]
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ConvertError, match="ends inside tensor a"):
        tensor.read()


def test_types_it_cannot_convert_are_an_error_only_when_read(path: Path) -> None:
    path.write_bytes(snapshots.safetensors({"a": np.ones(4, np.uint8)}))
    tensor = read_file(path)["a"]
    with pytest.raises(ConvertError, match="tensor a is U8; BF16, F16 and F32"):
        tensor.read()


class TestShards:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        tensors = {name: np.full(3, ord(name), np.float32) for name in "abcd"}
        return snapshots.write_snapshot(tmp_path / "model", {}, tensors, shards=2)

    def test_tensors_of_all_shards_are_found(self, folder: Path) -> None:
        tensors = read_snapshot(folder)
        assert sorted(tensors) == list("abcd")
        assert {name: tensor.read()[0] for name, tensor in tensors.items()} == {
            name: ord(name) for name in "abcd"
        }

    def test_missing_shard(self, folder: Path) -> None:
        (folder / "model-00002-of-00002.safetensors").unlink()
        with pytest.raises(ConvertError, match=r"model-00002-of-00002\.safetensors: not found"):
            read_snapshot(folder)

    @pytest.mark.parametrize("shard", ["../model.safetensors", "/etc/passwd", "a/b"])
    def test_shards_must_be_plain_names(self, folder: Path, shard: str) -> None:
        index = {"weight_map": {"a": shard}}
        snapshots.write_json(folder / "model.safetensors.index.json", index)
        with pytest.raises(ConvertError, match="not a plain file name"):
            read_snapshot(folder)

    @pytest.mark.parametrize("index", [{}, {"weight_map": []}, {"weight_map": {"a": 1}}])
    def test_index_without_a_map(self, folder: Path, index: Any) -> None:
        snapshots.write_json(folder / "model.safetensors.index.json", index)
        with pytest.raises(ConvertError, match="weight_map"):
            read_snapshot(folder)

    def test_index_and_shards_must_agree(self, folder: Path) -> None:
        one, two = (f"model-0000{n}-of-00002.safetensors" for n in (1, 2))
        sound = {"a": one, "c": one, "b": two, "d": two}
        index = folder / "model.safetensors.index.json"
        snapshots.write_json(index, {"weight_map": {**sound, "e": two}})
        with pytest.raises(ConvertError, match="lacks tensor e"):
            read_snapshot(folder)
        snapshots.write_json(index, {"weight_map": {**sound, "c": two}})
        with pytest.raises(ConvertError, match="tensor c is not listed for it"):
            read_snapshot(folder)
