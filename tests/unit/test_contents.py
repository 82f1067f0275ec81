"""Files that once ended llama.cpp, made it read past arrays, or ended in a traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mtpcli.config import DraftConfig, RuntimeConfig
from mtpcli.errors import ModelError
from mtpcli.llama.gguf import read_metadata
from mtpcli.pair import check_pair
from mtpcli.session import PairPaths, Session
from tests import snapshots
from tests.fuzz.gguf_codec import ARRAY, STRING, Entry, File, build, parse
from tests.fuzz.gguf_mutations import pack

Change = Callable[[File], None]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """A tiny target and its drafter in Q8_0."""
    from convert import convert_pair

    folder = tmp_path_factory.mktemp("sound")
    target = snapshots.write_target(folder / "target")
    files = convert_pair(target, snapshots.write_drafter(folder / "drafter"), folder, "q8_0")
    return files[0].read_bytes(), files[1].read_bytes()


def tensor_type(name: str, kind: int) -> Change:
    def change(file: File) -> None:
        next(info for info in file.infos if info.name == name.encode()).kind = kind
        pack(file)

    return change


def key(name: str, kind: int, value: object, element: int = 0) -> Change:
    """Set a key, `*` being the architecture's name; without a value take it away."""

    def change(file: File) -> None:
        arch = file.entry("general.architecture").value.decode()
        full = name.replace("*", arch).encode()
        file.entries = [entry for entry in file.entries if entry.key != full]
        if value is not None:
            file.entries.append(Entry(full, kind, value, element))

    return change


F16, Q5_1, I32, I8 = 1, 7, 26, 24
U32, F32 = 4, 6
TARGETS: dict[str, tuple[Change, str]] = {
    "norm in f16": (tensor_type("blk.0.post_ffw_norm.weight", F16), "is of type f16"),
    "norm in blocks": (tensor_type("blk.0.post_ffw_norm.weight", Q5_1), "is of type q5_1"),
    "whole numbers": (tensor_type("blk.1.ffn_up.weight", I32), "blk.1.ffn_up.weight is of"),
    "bytes": (tensor_type("token_embd.weight", I8), "is of type i8"),
    "sliding layers rotate what others do": (
        key("*.rope.dimension_count_swa", U32, None),
        "32 of 16 dimensions rotate",
    ),
    "two hidden sizes": (key("*.embedding_length_out", U32, 3), "two sizes"),
    "scaling": (key("*.rope.scaling.type", STRING, b"cubic"), "'cubic'"),
    "experts in groups": (key("*.expert_group_count", U32, 3), "in groups"),
    "unused experts": (key("*.expert_count", U32, 3), "0 of 3 experts"),
    "types as bytes": (key("tokenizer.ggml.token_type", ARRAY, [1] * 288, 0), "types of tokens"),
    "types as texts": (
        key("tokenizer.ggml.token_type", ARRAY, [b"1"] * 288, STRING),
        "types of tokens",
    ),
    "too few scores": (key("tokenizer.ggml.scores", ARRAY, [1.0], F32), "scores of tokens"),
    "merges as numbers": (key("tokenizer.ggml.merges", ARRAY, [1, 2], U32), "merges"),
    "no tokenizer": (key("tokenizer.ggml.model", STRING, b"none"), "its tokenizer is 'none'"),
    "token that is none": (key("tokenizer.ggml.bos_token_id", 5, -1), "which is no token"),
    "begins with no token": (key("tokenizer.ggml.bos_token_id", U32, None), "a token bos to each"),
}


@pytest.mark.parametrize(("change", "reason"), TARGETS.values(), ids=TARGETS)
def test_target_is_refused(
    sound: tuple[bytes, bytes], tmp_path: Path, change: Change, reason: str
) -> None:
    refused(sound, tmp_path, 0, change, reason)


DRAFTERS: dict[str, tuple[Change, str]] = {
    "whole numbers": (tensor_type("blk.0.ffn_down.weight", I32), "is of type i32"),
    "unused experts": (key("*.expert_count", U32, 3), "0 of 3 experts"),
}


@pytest.mark.parametrize(("change", "reason"), DRAFTERS.values(), ids=DRAFTERS)
def test_drafter_is_refused(
    sound: tuple[bytes, bytes], tmp_path: Path, change: Change, reason: str
) -> None:
    refused(sound, tmp_path, 1, change, reason)


def refused(
    sound: tuple[bytes, bytes], folder: Path, which: int, change: Change, reason: str
) -> None:
    raw = list(sound)
    file = parse(raw[which])
    change(file)
    raw[which] = build(file)
    paths = folder / "target.gguf", folder / "drafter.gguf"
    for path, content in zip(paths, raw, strict=True):
        path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        check_pair(read_metadata(paths[0]), read_metadata(paths[1]))
    message = str(caught.value)
    assert message.startswith(f"{paths[which]} is damaged: ") and reason in message
    assert "\n" not in message


def test_the_sound_pair_is_not_refused(sound: tuple[bytes, bytes], tmp_path: Path) -> None:
    paths = tmp_path / "target.gguf", tmp_path / "drafter.gguf"
    for path, content in zip(paths, sound, strict=True):
        path.write_bytes(content)
        assert build(parse(content)) == content
    check_pair(read_metadata(paths[0]), read_metadata(paths[1]))


def test_an_empty_list_of_widths_is_refused(sound: tuple[bytes, bytes], tmp_path: Path) -> None:
    file = parse(sound[0])
    key("*.feed_forward_length", ARRAY, [], U32)(file)
    (tmp_path / "target.gguf").write_bytes(build(file))
    paths = PairPaths(tmp_path / "target.gguf", None)
    with pytest.raises(ModelError, match="feed_forward_length"):
        Session(paths, DraftConfig(0), RuntimeConfig(n_ctx=64, threads=1))


def test_ordered_head_over_an_embedding_of_one_dimension(
    sound: tuple[bytes, bytes], tmp_path: Path
) -> None:
    from mtpcli.decode.drafters.ordered_head import load_ordered_head

    file = parse(sound[1])
    next(info for info in file.infos if info.name == b"token_embd.weight").dims = [32]
    pack(file)
    path = tmp_path / "drafter.gguf"
    path.write_bytes(build(file))
    with pytest.raises(ModelError, match="incomplete ordered head"):
        load_ordered_head(read_metadata(path))
