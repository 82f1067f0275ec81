"""Repositories for the hub's stand-in, made of tiny random models."""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path

from convert import convert_pair
from convert.gguf_file import FileTensor, read_header
from convert.writer import OutTensor, Piece, write
from tests import snapshots
from tests.hub_stand_in import StandIn

TARGET = "google/gemma-4-E2B-it"
DRAFTER = f"{TARGET}-assistant"


def add_family(stand_in: StandIn, folder: Path, access: str = "open") -> None:
    """Checkpoints of a target and its drafter, as Google publishes them."""
    stand_in.add(TARGET, snapshots.write_target(folder / "gemma-4-E2B-it"), access)
    stand_in.add(DRAFTER, snapshots.write_drafter(folder / "gemma-4-E2B-it-assistant"), access)


def gguf_pair(folder: Path) -> tuple[bytes, bytes]:
    """GGUF files of that pair."""
    target = snapshots.write_target(folder / "gemma-4-E2B-it")
    drafter = snapshots.write_drafter(folder / "drafter")
    paths = convert_pair(target, drafter, folder / "out", "q8_0")
    return paths[0].read_bytes(), paths[1].read_bytes()


def split_in_two(whole: Path, in_first: int) -> tuple[bytes, bytes]:
    """A file as llama.cpp splits it, with some of its tensors in the first part."""
    header = read_header(whole)
    tensors = [
        OutTensor(tensor.name, tensor.shape, tensor.kind, partial(_pieces, tensor))
        for tensor in header.tensors.values()
    ]
    count = {
        "split.count": struct.pack("<IH", 2, 2),
        "split.tensors.count": struct.pack("<Ii", 5, len(tensors)),
    }
    first, second = whole.with_suffix(".1"), whole.with_suffix(".2")
    number = [{"split.no": struct.pack("<IH", 2, n)} for n in (0, 1)]
    write(first, {**header.keys, **count, **number[0]}, tensors[:in_first], _ignore)
    write(second, {**count, **number[1]}, tensors[in_first:], _ignore)
    return first.read_bytes(), second.read_bytes()


def _pieces(tensor: FileTensor) -> list[Piece]:
    return [tensor.read]


def _ignore(_count: int) -> None:
    pass
