"""The converter against llama.cpp's `convert_hf_to_gguf.py`: equal tensors, equal metadata."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import pytest

from convert import convert_model
from tests import snapshots

pytestmark = pytest.mark.reference

DEMO = Path(__file__).parents[2] / "mtpcli" / "demo"
MEMBERS = ("E2B", "E4B", "12B", "26B-A4B", "31B")
OUTTYPES = ("f32", "f16", "bf16", "q8_0")

# Derived from names of folders and counts of parameters: for people, not for programs.
FREE = {"name", "basename", "finetune", "version", "organization", "size_label"}

Upstream = Callable[[Path, str], Path]


@dataclass
class File:
    """A GGUF file as other programs see it."""

    tensors: dict[str, tuple[str, list[int], bytes]]
    keys: dict[str, tuple[list[str], Any]]


def read(path: Path) -> File:
    reader = gguf.GGUFReader(path)
    tensors = {
        tensor.name: (tensor.tensor_type.name, tensor.shape.tolist(), tensor.data.tobytes())
        for tensor in reader.tensors
    }
    keys = {
        name: ([kind.name for kind in field.types], field.contents())
        for name, field in reader.fields.items()
        if not name.startswith(("GGUF.", "mtpcli."))
        and name not in {f"general.{key}" for key in FREE}
    }
    return File(tensors, keys)


@pytest.fixture
def upstream(llama_source: Path, reference_python: str, tmp_path: Path) -> Upstream:
    """Convert a snapshot with llama.cpp's script."""

    def run(snapshot: Path, outtype: str) -> Path:
        output = tmp_path / "upstream.gguf"
        script = str(llama_source / "convert_hf_to_gguf.py")
        done = subprocess.run(
            [reference_python, script, str(snapshot), "--outtype", outtype, "--outfile", output],
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return output

    return run


def assert_same(ours: Path, theirs: Path) -> None:
    mine, other = read(ours), read(theirs)
    assert set(mine.tensors) == set(other.tensors)
    different = [name for name in mine.tensors if mine.tensors[name] != other.tensors[name]]
    assert different == []
    assert mine.keys == other.keys


@pytest.mark.parametrize("outtype", OUTTYPES)
@pytest.mark.parametrize("part", ["target", "drafter"])
def test_embedded_pair(part: str, outtype: str, upstream: Upstream, tmp_path: Path) -> None:
    snapshot = DEMO / part
    ours = convert_model(snapshot, tmp_path / "ours.gguf", outtype)
    assert_same(ours, upstream(snapshot, outtype))


@pytest.mark.parametrize("outtype", OUTTYPES)
@pytest.mark.parametrize("part", ["target", "drafter"])
def test_tiny_pair(part: str, outtype: str, upstream: Upstream, tmp_path: Path) -> None:
    write = snapshots.write_target if part == "target" else snapshots.write_drafter
    snapshot = write(tmp_path / "tiny")
    (snapshot / "README.md").write_text(
        "---\nlicense: apache-2.0\nbase_model: google/gemma-4-T2B\ntags: [a, b]\n---\n"
    )
    ours = convert_model(snapshot, tmp_path / "ours.gguf", outtype)
    assert_same(ours, upstream(snapshot, outtype))


@pytest.mark.parametrize("outtype", OUTTYPES)
@pytest.mark.parametrize("kind", ["", "-assistant"])
@pytest.mark.parametrize("member", MEMBERS)
def test_family(
    member: str, kind: str, outtype: str, family: Path, upstream: Upstream, tmp_path: Path
) -> None:
    snapshot = family / (member + kind)
    ours = convert_model(snapshot, tmp_path / "ours.gguf", outtype)
    keys = read(ours).keys
    assert ("tokenizer.ggml.suppress_tokens" in keys) == (snapshot.name == "12B")
    assert_same(ours, upstream(snapshot, outtype))
