"""Drafter files from before llama.cpp knew them, rewritten to what it loads today.

Converters of that time called the architecture `gemma4_assistant`, used a few keys and tensor
names of their own, and stored the ordered head as tensors. Some later ones have today's names, but
still those tensors, which llama.cpp refuses. Everything else is as it is today, so tensors are
copied as they are, whatever their type.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from convert.assistant import OrderedHead, add_ordered_head, checked_head
from convert.errors import ConvertError
from convert.gguf_file import FileTensor, Header, read_header
from convert.hf_config import DRAFTERS, ModelConfig
from convert.model import DRAFTER_ARCH, FINGERPRINT_KEY, fingerprint, tensor_specs
from convert.writer import Keys, OutTensor, Piece, packed_metadata

OLD_ARCH = "gemma4_assistant"
BACKBONE = "n_embd_backbone"
KEY_RENAMES = {BACKBONE: "embedding_length_out"}
HEAD_KEYS = frozenset(("use_ordered_embeddings", "n_centroids", "centroid_top_k"))
TENSOR_RENAMES = {
    "mtp.pre_projection.weight": "nextn.pre_projection.weight",
    "mtp.post_projection.weight": "nextn.post_projection.weight",
}
CENTROIDS = ("mtp.centroids.weight", "masked_embd_centroids.weight")
ORDERINGS = ("mtp.token_ordering.weight", "mtp.token_ordering", "masked_embd_ordering")
DEFAULT_TOP_K = 32
PIECE_BYTES = 1 << 20


def plan_rewrite(old: Path) -> tuple[Keys, list[OutTensor]]:
    """What to write instead of an old drafter file.

    Raises:
        ConvertError: not an old drafter file, or not a complete one.
    """
    header = read_header(old)
    arch = header.value("general.architecture")
    has_head = any(name in header.tensors for name in CENTROIDS + ORDERINGS)
    if arch != OLD_ARCH and not (arch == DRAFTER_ARCH and has_head):
        raise ConvertError(
            f"{old}: is a file of architecture {arch!r}; only drafters of architecture"
            f" {OLD_ARCH} need to be rewritten, others load as they are"
        )
    config = _config(header, arch)
    tensors = dict(header.tensors)
    head = _take_head(tensors, header, config)
    out = _out_tensors(tensors, config)
    return _keys(header, arch, config, head), out


def _config(header: Header, arch: str) -> ModelConfig:
    """The drafter's shape, from its keys."""

    def whole(key: str, *default: int) -> int:
        value = header.value(f"{arch}.{key}", *default)
        if type(value) is not int or value < 1:
            raise ConvertError(f"{header.path}: {arch}.{key} is {value!r}")
        return value

    def by_layer(key: str, item: type) -> tuple[Any, ...]:
        value = header.value(f"{arch}.{key}")
        values = value if isinstance(value, list) else [value] * layers
        if len(values) != layers or not all(type(one) is item for one in values):
            raise ConvertError(f"{header.path}: {arch}.{key} is {value!r:.80}")
        return tuple(values)

    layers = whole("block_count")
    return ModelConfig(
        path=header.path,
        architecture=DRAFTERS[0],
        vocab=len(_tokens(header)),
        hidden=whole("embedding_length"),
        sliding=by_layer("attention.sliding_window_pattern", bool),
        heads=whole("attention.head_count"),
        kv_heads=by_layer("attention.head_count_kv", int),
        head_dim=whole("attention.key_length_swa"),
        head_dim_full=whole("attention.key_length"),
        feed_forward=whole("feed_forward_length"),
        sliding_window=whole("attention.sliding_window"),
        context=whole("context_length"),
        shared_kv_layers=layers,
        backbone_hidden=whole(BACKBONE if arch == OLD_ARCH else KEY_RENAMES[BACKBONE]),
        centroid_top_k=whole("centroid_top_k", DEFAULT_TOP_K),
    )


def _tokens(header: Header) -> list[str]:
    tokens = header.value("tokenizer.ggml.tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        raise ConvertError(f"{header.path}: has no vocabulary; convert the original snapshot")
    return tokens


def _take_head(
    tensors: dict[str, FileTensor], header: Header, config: ModelConfig
) -> OrderedHead | None:
    """Take the ordered head's tensors out of the file's."""
    found = [
        [tensors.pop(name) for name in names if name in tensors] for names in (CENTROIDS, ORDERINGS)
    ]
    if found == [[], []]:
        return None
    if [len(tensors) for tensors in found] != [1, 1]:
        raise ConvertError(f"{header.path}: has half of an ordered head, or more than one")
    (centroids,), (ordering,) = found
    if centroids.shape[1:] != (config.hidden,) or ordering.shape != (config.vocab,):
        raise ConvertError(f"{header.path}: its ordered head does not fit its other tensors")
    if ordering.kind != gguf.GGMLQuantizationType.I32:
        raise ConvertError(
            f"{header.path}: tensor {ordering.name} is {ordering.kind.name}, not I32"
        )
    try:
        values = gguf.quants.dequantize(centroids.read(), centroids.kind)
    except NotImplementedError as error:
        raise ConvertError(f"{header.path}: tensor {centroids.name}: {error}") from error
    head = OrderedHead(
        values.reshape(-1, config.hidden), ordering.read().view(np.int32), config.centroid_top_k
    )
    return checked_head(head, header.path)


def _out_tensors(tensors: dict[str, FileTensor], config: ModelConfig) -> list[OutTensor]:
    renamed = {TENSOR_RENAMES.get(name, name): tensor for name, tensor in tensors.items()}
    shapes = {spec.gguf: spec.shape for spec in tensor_specs(config)}
    shapes["rope_freqs.weight"] = (config.head_dim_full // 2,)
    for name, shape in shapes.items():
        if name not in renamed:
            raise ConvertError(f"{config.path}: tensor {name} is missing")
        if renamed[name].shape != shape:
            raise ConvertError(
                f"{config.path}: tensor {name} has shape {list(renamed[name].shape)},"
                f" its keys make it {list(shape)}"
            )
    for name in renamed.keys() - shapes.keys():
        raise ConvertError(f"{config.path}: tensor {name} belongs to no part of a drafter")
    return [
        OutTensor(name, renamed[name].shape, renamed[name].kind, partial(_pieces, renamed[name]))
        for name in shapes
    ]


def _pieces(tensor: FileTensor) -> Iterator[Piece]:
    for start in range(0, tensor.nbytes, PIECE_BYTES):
        yield partial(tensor.read, start, min(PIECE_BYTES, tensor.nbytes - start))


def _keys(header: Header, arch: str, config: ModelConfig, head: OrderedHead | None) -> Keys:
    """The old keys under their new names, and those that were not there."""
    keys: Keys = {}
    for name, packed in header.keys.items():
        prefix, dot, rest = name.partition(".")
        if prefix != arch:
            keys[name] = packed
        elif rest not in HEAD_KEYS:
            keys[DRAFTER_ARCH + dot + KEY_RENAMES.get(rest, rest)] = packed
    meta = gguf.GGUFWriter(None, DRAFTER_ARCH)
    meta.add_uint32(f"{DRAFTER_ARCH}.nextn_predict_layers", config.layers)
    meta.add_string(FINGERPRINT_KEY, fingerprint(config, _tokens(header)))
    if head is not None:
        add_ordered_head(meta, head)
    keys.pop("general.alignment", None)
    return keys | packed_metadata(meta)
