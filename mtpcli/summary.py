"""A GGUF file in a few plain values: what `mtpcli inspect` shows and prints as JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from mtpcli.errors import ModelError
from mtpcli.llama.gguf import GgufFile
from mtpcli.pair import (
    DRAFTER_ARCH,
    FINGERPRINT_KEY,
    TARGET_ARCH,
    check_drafter,
    check_pair,
    check_target,
    drafters_beside,
    vocabulary_size,
)

HEAD_KEY = "mtpcli.ordered_head"
_SAMPLING = {"temperature": "temp", "top_k": "top_k", "top_p": "top_p"}


def summarize(file: GgufFile) -> dict[str, Any]:
    """What the header says, as JSON can hold it; None for what it does not say.

    `heads` and `kv_heads` are a number, or a list of one per layer. `problem` says why mtpcli
    cannot use the file, None if it can.
    """
    kind = _kind(file)
    pattern = file.arch_value("attention.sliding_window_pattern")
    return {
        "path": str(file.path),
        "kind": kind,
        "architecture": file.architecture or None,
        "name": _text(file.metadata.get("general.name")),
        "size_bytes": file.size_bytes,
        "parameters": sum(tensor.n_elements for tensor in file.tensors),
        "tensors": len(file.tensors),
        "tensor_types": _tensor_types(file),
        "context_length": _plain(file.arch_value("context_length")),
        "vocabulary": vocabulary_size(file),
        "layers": _plain(file.arch_value("block_count")),
        "sliding_layers": int(np.sum(pattern)) if isinstance(pattern, np.ndarray) else None,
        "shared_kv_layers": _plain(file.arch_value("attention.shared_kv_layers")),
        "sliding_window": _plain(file.arch_value("attention.sliding_window")),
        "hidden_size": _plain(file.arch_value("embedding_length")),
        "per_layer_input_size": _plain(file.arch_value("embedding_length_per_layer_input")),
        "target_hidden_size": _plain(file.arch_value("embedding_length_out")),
        "heads": _plain(file.arch_value("attention.head_count")),
        "kv_heads": _plain(file.arch_value("attention.head_count_kv")),
        "head_size": _plain(file.arch_value("attention.key_length")),
        "sliding_head_size": _plain(file.arch_value("attention.key_length_swa")),
        "experts": _plain(file.arch_value("expert_count")),
        "experts_used": _plain(file.arch_value("expert_used_count")),
        "sampling": {
            name: _plain(file.metadata.get(f"general.sampling.{key}"))
            for name, key in _SAMPLING.items()
        },
        "chat_template": isinstance(file.metadata.get("tokenizer.chat_template"), str),
        "ordered_head": _ordered_head(file) if kind == "drafter" else None,
        "fingerprint": _text(file.metadata.get(FINGERPRINT_KEY)),
        "problem": _problem(file, kind),
    }


def summarize_pair(files: list[GgufFile]) -> dict[str, Any] | None:
    """Whether two files fit, the drafter being either of them; None for any other number.

    One target alone is paired with the drafter beside it, if a file there is one.
    """
    if len(files) == 1 and _kind(files[0]) == "target" and not _problem(files[0], "target"):
        found = drafters_beside(files[0])
        if not found:
            return None
        return _pair(files[0], str(found[0].path), found[0].problem or None)
    if len(files) != 2:
        return None
    target, drafter = files
    if _kind(target) == "drafter" and _kind(drafter) != "drafter":
        target, drafter = drafter, target
    try:
        check_pair(target, drafter)
    except ModelError as error:
        return _pair(target, str(drafter.path), str(error))
    return _pair(target, str(drafter.path), None)


def _pair(target: GgufFile, drafter: str, problem: str | None) -> dict[str, Any]:
    return {
        "target": str(target.path),
        "drafter": drafter,
        "fits": problem is None,
        "problem": problem,
    }


def _kind(file: GgufFile) -> str:
    known = {TARGET_ARCH: "target", DRAFTER_ARCH: "drafter"}
    return known.get(file.architecture.replace("_", "-"), "other")


def _problem(file: GgufFile, kind: str) -> str | None:
    try:
        check_drafter(file) if kind == "drafter" else check_target(file)
    except ModelError as error:
        return str(error).removeprefix(f"{file.path} ")
    return None


def _tensor_types(file: GgufFile) -> list[dict[str, Any]]:
    """Element types, the one with most bytes first; `share` is of all tensors' bytes."""
    count: Counter[str] = Counter()
    n_bytes: Counter[str] = Counter()
    for tensor in file.tensors:
        count[tensor.type] += 1
        n_bytes[tensor.type] += tensor.n_bytes
    total = sum(n_bytes.values())
    return [
        {"type": kind, "tensors": count[kind], "bytes": size, "share": round(size / total, 4)}
        for kind, size in n_bytes.most_common()
        if total
    ]


def _ordered_head(file: GgufFile) -> dict[str, Any] | None:
    centroids = file.metadata.get(f"{HEAD_KEY}.num_centroids")
    if centroids is None:
        return None
    return {
        "centroids": _plain(centroids),
        "top_k": _plain(file.metadata.get(f"{HEAD_KEY}.top_k")),
    }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _plain(value: object) -> int | float | list[Any] | None:
    """A number, a list of numbers that are not all the same, or None."""
    if isinstance(value, np.ndarray):
        numbers = value.tolist()
        return numbers[0] if len(set(numbers)) == 1 else numbers
    if isinstance(value, float):
        return float(f"{value:.7g}")  # float32 0.95 reads as 0.949999988079071
    return value if isinstance(value, int) and not isinstance(value, bool) else None
