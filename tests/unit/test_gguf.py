"""Headers through ggml's reader: every value as written, every broken file one line."""

from __future__ import annotations

import gc
import os
import random
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from mtpcli.errors import ModelError
from mtpcli.llama.gguf import TensorInfo, read_metadata
from mtpcli.llama.gguf_walk import peek_string
from tests.gguf_files import TOKENS, write_drafter, write_gguf, write_target


def test_every_type_of_value(tmp_path: Path) -> None:
    path = tmp_path / "all.gguf"
    writer = gguf.GGUFWriter(path, "gemma4")
    scalars: dict[str, tuple[Any, gguf.GGUFValueType]] = {
        "u8": (255, gguf.GGUFValueType.UINT8),
        "i8": (-128, gguf.GGUFValueType.INT8),
        "u16": (65535, gguf.GGUFValueType.UINT16),
        "i16": (-32768, gguf.GGUFValueType.INT16),
        "u32": (2**32 - 1, gguf.GGUFValueType.UINT32),
        "i32": (-(2**31), gguf.GGUFValueType.INT32),
        "u64": (2**64 - 1, gguf.GGUFValueType.UINT64),
        "i64": (-(2**63), gguf.GGUFValueType.INT64),
        "f32": (0.5, gguf.GGUFValueType.FLOAT32),
        "f64": (0.1, gguf.GGUFValueType.FLOAT64),
        "yes": (True, gguf.GGUFValueType.BOOL),
        "no": (False, gguf.GGUFValueType.BOOL),
        "text": ("zwölf\n", gguf.GGUFValueType.STRING),
        "empty text": ("", gguf.GGUFValueType.STRING),
    }
    for key, (value, kind) in scalars.items():
        writer.add_key_value(key, value, kind)
    writer.add_array("ints", [1, -2, 3])
    writer.add_array("floats", [0.5, -0.25])
    writer.add_array("bools", [True, False, True])
    writer.add_array("strings", ["a", "zwölf", ""])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()

    metadata = read_metadata(path).metadata
    for key, (value, _) in scalars.items():
        assert metadata[key] == value
        assert type(metadata[key]) is type(value)
    for key, dtype, values in (
        ("ints", np.int32, [1, -2, 3]),
        ("floats", np.float32, [0.5, -0.25]),
        ("bools", np.bool_, [True, False, True]),
    ):
        array = metadata[key]
        assert isinstance(array, np.ndarray)
        assert array.dtype == dtype
        assert array.tolist() == values


def test_strings_are_lazy_and_outlive_the_file(tmp_path: Path) -> None:
    tokens: Any = read_metadata(write_target(tmp_path / "t.gguf")).metadata["tokenizer.ggml.tokens"]
    gc.collect()
    assert len(tokens) == len(TOKENS)
    assert list(tokens) == TOKENS
    assert tokens[-1] == "d" and tokens[4:6] == ["a", "b"]
    assert tokens.index("<bos>") == 2
    for outside in (8, -9):
        with pytest.raises(IndexError):
            tokens[outside]


def test_tensors(tmp_path: Path) -> None:
    shapes = {"token_embd.weight": (8, 8), "output_norm.weight": (3,), "cube": (2, 3, 4)}
    file = read_metadata(write_target(tmp_path / "t.gguf", tensors=shapes))
    start = gguf.GGUFReader(file.path).data_offset
    assert file.tensors == (
        TensorInfo("token_embd.weight", (8, 8), "f32", 256, start),
        TensorInfo("output_norm.weight", (3,), "f32", 12, start + 256),
        TensorInfo("cube", (2, 3, 4), "f32", 96, start + 288),
    )
    assert [tensor.n_elements for tensor in file.tensors] == [64, 3, 24]
    assert file.tensor("cube") is file.tensors[2] and file.tensor("ball") is None


def test_architecture_and_its_values(tmp_path: Path) -> None:
    path = write_drafter(tmp_path / "zwölf.gguf")
    file = read_metadata(path)
    assert file.architecture == "gemma4-assistant"
    assert file.arch_value("embedding_length_out") == 64
    assert file.arch_value("nothing") is None
    assert file.path == path and file.size_bytes == path.stat().st_size


def test_peek(tmp_path: Path) -> None:
    path = write_target(tmp_path / "t.gguf")
    assert peek_string(path, "general.architecture") == "gemma4"
    assert peek_string(path, "gemma4.block_count") is None
    assert peek_string(path, "nothing") is None
    assert peek_string(tmp_path, "general.architecture") is None
    path.write_bytes(path.read_bytes()[:60])
    assert peek_string(path, "general.architecture") is None


def reason(path: Path) -> str:
    """Why a file is refused; the line must begin with its name."""
    with pytest.raises(ModelError) as caught:
        read_metadata(path)
    message = str(caught.value)
    assert message.startswith(f"{path} ") and "\n" not in message
    return message.removeprefix(f"{path} ")


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"GG", "is cut short"),
        (b"GGUF\x03\0\0\0", "is cut short"),
        (b"hello, this is text", "is not a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "is a web page"),
        (b"PK\x03\x04rest", "is a zip or PyTorch file"),
        (struct.pack("<Q", 90) + b'{"a":{}}', "is a safetensors file"),
        (struct.pack("<4sIQQ", b"GGUF", 1, 0, 0), "is GGUF version 1;"),
        (struct.pack("<4sIQQ", b"GGUF", 9, 0, 0), "is GGUF version 9;"),
        (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "is a big-endian GGUF file"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 2**60), "is damaged: it claims"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 2**60, 0), "is damaged: it claims"),
        (struct.pack("<4sIQQQI", b"GGUF", 3, 0, 1, 0, 0), "is damaged: one of its keys is empty"),
        (struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, 2**64 - 1), "is damaged: a length"),
        (struct.pack("<4sIQQQ1sI", b"GGUF", 3, 0, 1, 1, b"k", 77), "is damaged: a value has"),
        (
            struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 8, 2**40),
            "is damaged: it claims an array of 1099511627776 strings",
        ),
    ],
)
def test_no_gguf_file(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    assert reason(path).startswith(why)


def test_no_file_at_all(tmp_path: Path) -> None:
    assert reason(tmp_path / "none.gguf") == "does not exist"
    assert reason(tmp_path).startswith("is a directory")
    assert "cannot be read" in reason(tmp_path / ("x" * 300))
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        assert reason(tmp_path / "pipe") == "is not a regular file"


def test_cut_anywhere(tmp_path: Path) -> None:
    whole = write_drafter(tmp_path / "d.gguf").read_bytes()
    path = tmp_path / "cut.gguf"
    for size in range(0, len(whole), 7):
        path.write_bytes(whole[:size])
        assert reason(path).startswith(("is cut short", "is damaged or cut short", "is empty"))
    path.write_bytes(whole[:-1])
    assert reason(path).startswith(f"is cut short: 1 of {len(whole)} bytes are missing")


def test_ggmls_own_complaint_is_quoted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_target(tmp_path / "t.gguf", tensors={"x\x1b[31m": (4,)})
    data = bytearray(path.read_bytes())
    kind = data.rindex(b"x\x1b[31m") + len(b"x\x1b[31m") + 4 + 8
    data[kind : kind + 4] = struct.pack("<I", 5000)
    path.write_bytes(data)
    assert reason(path) == (
        "is damaged or cut short: tensor 'x␛[31m' has invalid ggml type 5000. should be in [0, 43)"
    )
    assert capfd.readouterr() == ("", "")


def test_damage_never_aborts(tmp_path: Path, in_subprocess: Callable[[str], None]) -> None:
    """Random bytes in the header: read or refused, but never the end of the process."""
    path = write_drafter(tmp_path / "d.gguf")
    in_subprocess(f"""
        import random
        from pathlib import Path
        from mtpcli.errors import ModelError
        from mtpcli.llama.gguf import read_metadata

        path, noise = Path({str(path)!r}), random.Random(0)
        whole = path.read_bytes()
        for _ in range(500):
            data = bytearray(whole)
            for _ in range(noise.choice((1, 1, 2, 4))):
                data[noise.randrange(4, len(data) - 256)] = noise.choice((0, 1, 8, 9, 127, 255))
            path.write_bytes(data)
            try:
                for value in read_metadata(path).metadata.values():
                    len(value) if hasattr(value, "__len__") else None
            except ModelError:
                pass
    """)


def test_words_of_a_big_vocabulary_are_read_when_asked_for(tmp_path: Path) -> None:
    noise = random.Random(0)
    tokens = [f"token{noise.random()}" for _ in range(100_000)]
    path = write_gguf(tmp_path / "big.gguf", "gemma4", {}, tokens=tokens)
    words: Any = read_metadata(path).metadata["tokenizer.ggml.tokens"]
    assert not isinstance(words, list)
    assert len(words) == 100_000
    assert words[99_999] == tokens[-1]


def test_reading_a_header_loads_no_backend() -> None:
    code = (
        "import sys; from mtpcli.llama import gguf; gguf._ggml(); "
        "sys.exit('llama_cpp' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
