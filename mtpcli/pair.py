"""Which files are a target and its drafter, and whether two of them belong together.

llama.cpp takes any drafter for any target and ends the process at the first draft when they do
not fit, so everything it relies on is compared here, from the headers alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mtpcli.contents import check_contents
from mtpcli.errors import ModelError
from mtpcli.llama.gguf import GgufFile, StringArray, Value, read_metadata
from mtpcli.llama.gguf_walk import peek_string
from mtpcli.sanitize import one_line

TARGET_ARCH = "gemma4"
DRAFTER_ARCH = "gemma4-assistant"
FINGERPRINT_KEY = "mtpcli.fingerprint"
# llama.cpp aborts on more.
_MAX_LAYERS = 512
_MAX_EXPERTS = 1024
_COMMON_KEYS = (
    "block_count",
    "embedding_length",
    "attention.head_count",
    "attention.key_length",
    "attention.value_length",
    "attention.key_length_swa",
    "attention.value_length_swa",
    "attention.sliding_window",
)


@dataclass(frozen=True)
class Candidate:
    """A drafter found beside a target.

    Attributes:
        path: the file.
        problem: why it does not fit that target; empty if it does.
    """

    path: Path
    problem: str


def check_target(file: GgufFile) -> None:
    """Whether the file is a Gemma 4 target that llama.cpp can load.

    Raises:
        ModelError: it is something else, or values in its header would end the process.
    """
    path, architecture = file.path, file.architecture
    if architecture.replace("_", "-") == DRAFTER_ARCH:
        raise ModelError(
            f"{path} is a drafter, not a model of its own: name it with --drafter, "
            "and the model it drafts for as the model"
        )
    if architecture == "clip":
        raise ModelError(f"{path} is a projector for images (mmproj), not a language model")
    _check_architecture(file, TARGET_ARCH)
    # The first part of a split file may leave all weights to the others.
    if not file.tensors and not _whole_key(file, "split.count") > 1:
        raise ModelError(f"{path} holds a vocabulary but no weights")
    layers = _check_layers(file)
    check_contents(file)
    keeping = layers - _whole(file, "attention.shared_kv_layers", 0)
    if keeping < 2:
        raise ModelError(f"{path} is damaged: fewer than two layers keep keys and values")
    if keeping < layers and sliding_layers(file)[keeping - 2 : keeping] != [True, False]:
        raise ModelError(f"{path} is damaged: its layers share keys and values of another kind")
    width = _whole(file, "embedding_length")
    if _whole(file, "embedding_length_out", width) != width:
        raise ModelError(f"{path} is damaged: its hidden states have two sizes")
    for key in ("temp", "top_k", "top_p"):
        value = file.metadata.get(f"general.sampling.{key}", 0)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ModelError(f"{path} is damaged: general.sampling.{key} is not a number")


def check_drafter(file: GgufFile) -> None:
    """Whether the file is a Gemma 4 MTP drafter that llama.cpp can load.

    Raises:
        ModelError: it is something else, or values in its header would end the process.
    """
    path, architecture = file.path, file.architecture
    if architecture == TARGET_ARCH:
        raise ModelError(
            f"{path} is a Gemma 4 model of its own, not a drafter: a drafter's "
            f"architecture is {DRAFTER_ARCH}"
        )
    if architecture == DRAFTER_ARCH.replace("-", "_"):
        raise ModelError(
            f"{path} has the early architecture name {architecture}, which llama.cpp does not "
            "load: convert the drafter's checkpoint anew with `mtpcli convert`"
        )
    _check_architecture(file, DRAFTER_ARCH)
    for tensor in file.tensors:
        if tensor.name.startswith("masked_embd"):
            raise ModelError(
                f"{path} carries its ordered head as tensors, which llama.cpp does not load: "
                "convert the drafter's checkpoint anew with `mtpcli convert`"
            )
    layers = _check_layers(file)
    check_contents(file)
    if (nextn := _whole(file, "nextn_predict_layers")) != layers:
        raise ModelError(f"{path} is damaged: {nextn} of its {layers} layers draft")
    if _whole(file, "embedding_length_out") == _whole(file, "embedding_length"):
        raise ModelError(f"{path} is damaged: its target's hidden size would be its own")


def check_pair(target: GgufFile, drafter: GgufFile) -> None:
    """Whether `drafter` drafts for `target`.

    Raises:
        ModelError: one of them is not what it should be, or they do not fit: with every reason.
    """
    check_target(target)
    check_drafter(drafter)
    reasons = list(_misfits(target, drafter))
    if reasons:
        raise ModelError(f"{drafter.path} does not fit {target.path}: {'; '.join(reasons)}")


def find_drafter(target: Path) -> Path | None:
    """The drafter that belongs to a target, among the files beside it; None if there is none.

    Raises:
        ModelError: the target itself cannot be read or is not a target.
    """
    file = read_metadata(target)
    check_target(file)
    return next((found.path for found in drafters_beside(file) if not found.problem), None)


def drafters_beside(target: GgufFile) -> list[Candidate]:
    """All drafters in the target's folder and in the `MTP` folder in it, the best first.

    A file is a drafter by what its header says, not by its name. The name counts only among
    several that fit; then the smaller file, which drafts the same faster.
    """
    ranked: list[tuple[tuple[Any, ...], Candidate]] = []
    for path in _files_beside(target.path):
        architecture = peek_string(path, "general.architecture") or ""
        if architecture.replace("_", "-") != DRAFTER_ARCH:
            continue
        problem = ""
        try:
            check_pair(target, read_metadata(path))
        except ModelError as error:
            problem = str(error)
        shared = len(_words(path) & _words(target.path))
        rank = (bool(problem), -shared, path.stat().st_size, str(path))
        ranked.append((rank, Candidate(path, problem)))
    return [candidate for _, candidate in sorted(ranked, key=lambda item: item[0])]


def vocabulary_size(file: GgufFile) -> int:
    """Tokens that the model tells apart: rows of its embedding, else entries of its vocabulary."""
    embedding = file.tensor("token_embd.weight")
    if embedding and len(embedding.shape) > 1:
        return embedding.shape[1]
    tokens = file.metadata.get("tokenizer.ggml.tokens")
    return len(tokens) if isinstance(tokens, StringArray) else 0


def kv_heads(file: GgufFile, layer: int) -> int:
    """Key-value heads of a layer; a negative one counts from the last."""
    layers = _whole(file, "block_count")
    return int(_per_layer(file, "attention.head_count_kv", layers, _heads(file, layer))[layer])


def sliding_layers(file: GgufFile) -> list[bool]:
    """For each layer, whether it attends to a sliding window only."""
    pattern = file.arch_value("attention.sliding_window_pattern")
    if not isinstance(pattern, np.ndarray):
        raise ModelError(
            f"{file.path} is damaged: {file.architecture}.attention.sliding_window_pattern "
            "does not list its layers"
        )
    return [bool(sliding) for sliding in pattern]


def _misfits(target: GgufFile, drafter: GgufFile) -> Iterator[str]:
    if sliding_layers(target)[-2:] != [True, False]:
        yield "the target's last two layers are not a sliding and a full one, which drafters read"
        return
    drafts = sliding_layers(drafter)
    # What is compared, the drafter's value, the target's. None is a value that is not stated.
    rows: list[tuple[str, Value | None, Value | None]] = [
        (
            "hidden states of size",
            drafter.arch_value("embedding_length_out"),
            target.arch_value("embedding_length"),
        ),
        ("a vocabulary of", vocabulary_size(drafter), vocabulary_size(target)),
        _row(drafter, target, "a sliding window of", "attention.sliding_window"),
    ]
    for slides, kind, suffix, layer in ((True, "sliding ", "_swa", -2), (False, "", "", -1)):
        if slides in drafts:
            heads = kv_heads(drafter, drafts.index(slides)), kv_heads(target, layer)
            rows += [
                (f"{kind}key-value heads", *heads),
                _row(drafter, target, f"{kind}head dimension", f"attention.key_length{suffix}"),
                _row(drafter, target, f"{kind}rotation base", f"rope.freq_base{suffix}"),
            ]
    differences = [row for row in rows if None not in row and row[1] != row[2]]
    for what, wanted, given in differences:
        yield f"it is made for {what} {wanted}, the target has {given}"
    if not differences and not _same_vocabulary(target, drafter):
        yield "their vocabularies differ"


def _row(drafter: GgufFile, target: GgufFile, what: str, key: str) -> tuple[str, Any, Any]:
    return what, drafter.arch_value(key), target.arch_value(key)


def _same_vocabulary(target: GgufFile, drafter: GgufFile) -> bool:
    """Whether two vocabularies of one size hold the same tokens, as far as the files say."""
    ours, its = (file.metadata.get(FINGERPRINT_KEY) for file in (target, drafter))
    if isinstance(ours, str) and isinstance(its, str):
        return ours == its
    words, others = (file.metadata.get("tokenizer.ggml.tokens") for file in (target, drafter))
    if not (isinstance(words, StringArray) and isinstance(others, StringArray)):
        return True
    # Vocabularies differ everywhere or nowhere; a few thousand tokens tell, in a millisecond.
    step = max(1, len(words) // 2048)
    return len(words) == len(others) and words[::step] == others[::step]


def _check_architecture(file: GgufFile, wanted: str) -> None:
    found = one_line(file.architecture, 40)
    if not found:
        raise ModelError(f"{file.path} does not say which architecture it has")
    if found != wanted:
        raise ModelError(
            f"{file.path} is a model of architecture {found}; mtpcli runs Gemma 4 ({wanted})"
        )


def _check_layers(file: GgufFile) -> int:
    """Check what both kinds of files must say about their layers; how many there are."""
    for key in _COMMON_KEYS:
        if key != "attention.head_count":  # one number, or one per layer
            _whole(file, key)
    rotated: int | None = None
    for kind in ("", "_swa"):
        length = _whole(file, f"attention.key_length{kind}")
        if length != _whole(file, f"attention.value_length{kind}"):
            raise ModelError(f"{file.path} is damaged: its keys and values differ in length")
        # What sliding layers rotate is what the others do, where it is not said.
        rotated = _whole(file, f"rope.dimension_count{kind}", rotated or length)
        if rotated % 2 or not 0 < rotated <= length:
            raise ModelError(f"{file.path} is damaged: {rotated} of {length} dimensions rotate")
    epsilon = file.arch_value("attention.layer_norm_rms_epsilon")
    if not isinstance(epsilon, float) or not 0 <= epsilon < 1:
        raise ModelError(f"{file.path} is damaged: its norms add {epsilon} to the variance")
    layers = _whole(file, "block_count")
    if not 0 < layers <= _MAX_LAYERS:
        raise ModelError(f"{file.path} is damaged: it claims {layers} layers")
    for layer in range(layers):
        heads, shared = _heads(file, layer), kv_heads(file, layer)
        if not (0 < shared <= heads) or heads % shared:
            raise ModelError(
                f"{file.path} is damaged: layer {layer} has {heads} heads "
                f"on {shared} key-value heads"
            )
    experts = _whole(file, "expert_count", 0)
    used = np.max(_per_layer(file, "expert_used_count", layers, 0), initial=0)
    if experts > _MAX_EXPERTS or used > experts or (experts > 0 and used == 0):
        raise ModelError(f"{file.path} is damaged: it uses {used} of {experts} experts")
    sliding = sliding_layers(file)
    if len(sliding) != layers or not any(sliding):
        raise ModelError(
            f"{file.path} is damaged: {sum(sliding)} of {len(sliding)} listed layers slide, "
            f"it has {layers}"
        )
    return layers


def _heads(file: GgufFile, layer: int) -> int:
    layers = _whole(file, "block_count")
    return int(_per_layer(file, "attention.head_count", layers, None)[layer])


def _per_layer(file: GgufFile, key: str, layers: int, default: int | None) -> Any:
    """A value given once or once per layer, as an array of one per layer."""
    value = file.arch_value(key)
    if isinstance(value, np.ndarray):
        if len(value) != layers or value.dtype.kind not in "iu":
            raise ModelError(
                f"{file.path} is damaged: {file.architecture}.{key} does not list {layers} layers"
            )
        return value
    return np.full(layers, _whole(file, key, default))


def _whole(file: GgufFile, key: str, default: int | None = None) -> int:
    """A whole number that is not negative."""
    value = file.arch_value(key)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        what = "is missing" if value is None else "is no whole number"
        raise ModelError(f"{file.path} is damaged: {file.architecture}.{key} {what}")
    return value


def _whole_key(file: GgufFile, key: str) -> int:
    """A whole number that belongs to no architecture, 0 where there is none."""
    value = file.metadata.get(key)
    return value if isinstance(value, int) else 0


def _files_beside(target: Path) -> Iterator[Path]:
    # Not resolved: in a download cache the names are links beside each other, the files are not.
    folder = target.parent
    try:
        places = [folder, *(p for p in folder.iterdir() if p.name.lower() == "mtp" and p.is_dir())]
        for place in places:
            for path in place.iterdir():
                is_gguf = path.suffix.lower() == ".gguf" and path.is_file()
                if is_gguf and not path.samefile(target):
                    yield path
    except OSError:
        return


def _words(path: Path) -> set[str]:
    """What a file's name has in it: `gemma`, `e4b`, `it`."""
    return set(re.split(r"[^a-z0-9]+", path.stem.lower())) - {""}
