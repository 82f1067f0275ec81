"""Everything about a conversion that can be known, and go wrong, before a byte is written."""

from __future__ import annotations

import logging
import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import gguf

from convert import names
from convert.assistant import OrderedHead, add_ordered_head, take_ordered_head
from convert.card import add_card
from convert.errors import ConvertError
from convert.hf_config import UNIFIED_TARGET, ModelConfig, read_config
from convert.model import (
    FINGERPRINT_KEY,
    TensorSpec,
    add_hyperparameters,
    architecture,
    fingerprint,
    match,
    rope_factors,
    tensor_specs,
)
from convert.quantize import OUTTYPE_OF_DTYPE, OUTTYPES, Bytes, encode, tensor_type
from convert.safetensors import StoredTensor, read_snapshot
from convert.vocab import Vocab, add_suppressed_tokens, add_vocab, read_vocab
from convert.writer import Keys, OutTensor, Piece, packed_metadata

# Elements encoded at a time: large enough to forget Python, small enough to stay in the cache.
PIECE = 1 << 18
UNWRITABLE = (AttributeError, KeyError, OverflowError, TypeError, ValueError, struct.error)

log = logging.getLogger("convert")


@dataclass(frozen=True)
class Plan:
    """A file that is ready to be written.

    Attributes:
        outtype: the output type, `auto` resolved.
        fingerprint: see `convert.model.fingerprint`.
    """

    config: ModelConfig
    keys: Keys
    tensors: list[OutTensor]
    outtype: str
    fingerprint: str


def plan_file(snapshot: Path, outtype: str) -> Plan:
    """Read a snapshot's configuration, vocabulary and headers, and check them all.

    Raises:
        ConvertError: anything that keeps the snapshot from becoming a file.
    """
    if outtype != "auto" and outtype not in OUTTYPES:
        raise ConvertError(f"outtype {outtype!r} is not one of auto, {', '.join(OUTTYPES)}")
    config = read_config(snapshot)
    stored = _text_tensors(snapshot)
    head = take_ordered_head(stored, config) if config.is_drafter else None
    pairs = match(tensor_specs(config), stored, config)
    if outtype == "auto":
        outtype = _source_type(pairs)
    vocab = read_vocab(snapshot)
    if len(vocab.tokens) != config.vocab:
        raise ConvertError(
            f"{snapshot / 'tokenizer.json'}: has {len(vocab.tokens)} tokens,"
            f" config.json says {config.vocab}"
        )
    try:
        keys, mark = _metadata(snapshot, config, pairs, vocab, head, outtype)
    except UNWRITABLE as error:
        # The writer takes values from downloaded files as they come, and stumbles over odd ones.
        raise ConvertError(f"{snapshot}: it holds a value that cannot be ({error!r})") from error
    tensors = _out_tensors(config, pairs, outtype)
    return Plan(config, keys, tensors, outtype, mark)


def _metadata(
    snapshot: Path,
    config: ModelConfig,
    pairs: list[tuple[TensorSpec, StoredTensor]],
    vocab: Vocab,
    head: OrderedHead | None,
    outtype: str,
) -> tuple[Keys, str]:
    """The file's keys, and its fingerprint, which is one of them."""
    meta = gguf.GGUFWriter(None, architecture(config))
    sizes = {spec.gguf: tensor.size for spec, tensor in pairs}
    of_experts = sum(size for name, size in sizes.items() if "_exps.weight" in name)
    add_card(meta, snapshot, sum(sizes.values()), of_experts, config.experts)
    add_hyperparameters(meta, config)
    meta.add_file_type(OUTTYPES[outtype].file_type)
    mark = fingerprint(config, vocab.tokens)
    meta.add_string(FINGERPRINT_KEY, mark)
    if head is not None:
        add_ordered_head(meta, head)
    add_vocab(meta, vocab, snapshot)
    if config.architecture == UNIFIED_TARGET:
        add_suppressed_tokens(meta, vocab, snapshot)
    return packed_metadata(meta), mark


def _text_tensors(snapshot: Path) -> dict[str, StoredTensor]:
    """The checkpoint's tensors by canonical name, without the encoders of other modalities."""
    found: dict[str, StoredTensor] = {}
    left_out = 0
    for name, tensor in read_snapshot(snapshot).items():
        if not names.is_text(name):
            left_out += tensor.nbytes
        elif names.canonical(name) in found:
            raise ConvertError(f"{tensor.file}: tensor {name} is there under two names")
        else:
            found[names.canonical(name)] = tensor
    if left_out:
        log.info("%s: left out vision and audio (%.1f MB)", snapshot, left_out / 1e6)
    return found


def _source_type(pairs: list[tuple[TensorSpec, StoredTensor]]) -> str:
    """The type of the checkpoint's first matrix: vectors are often kept wider than the rest."""
    first = next(tensor for _, tensor in pairs if len(tensor.shape) > 1)
    if first.dtype not in OUTTYPE_OF_DTYPE:
        first.read(0, 0)  # says what is wrong with it
    return OUTTYPE_OF_DTYPE[first.dtype]


def _out_tensors(
    config: ModelConfig, pairs: list[tuple[TensorSpec, StoredTensor]], outtype: str
) -> list[OutTensor]:
    factors = rope_factors(config)
    f32 = gguf.GGMLQuantizationType.F32
    tensors = [
        OutTensor("rope_freqs.weight", factors.shape, f32, lambda: [lambda: encode(factors, f32)])
    ]
    untied = any(spec.gguf == "output.weight" for spec, _ in pairs)
    head = "output.weight" if untied else "token_embd.weight"
    for spec, tensor in pairs:
        if tensor.dtype not in OUTTYPE_OF_DTYPE:
            tensor.read(0, 0)  # says what is wrong with it
        kind = tensor_type(spec.gguf, spec.shape, OUTTYPES[outtype], head)
        tensors.append(OutTensor(spec.gguf, spec.shape, kind, partial(_pieces, tensor, kind)))
    return tensors


def _pieces(tensor: StoredTensor, kind: gguf.GGMLQuantizationType) -> Iterator[Piece]:
    """Jobs that read and encode the tensor piece by piece, in whole blocks."""
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    step = math.lcm(PIECE, block)
    for start in range(0, tensor.size, step):
        yield partial(_encode, tensor, start, min(step, tensor.size - start), kind)


def _encode(tensor: StoredTensor, start: int, count: int, kind: gguf.GGMLQuantizationType) -> Bytes:
    raw = tensor.read(start, count)
    try:
        return encode(raw, kind)
    except ConvertError as error:
        raise ConvertError(f"{tensor.file}: tensor {tensor.name}: {error}") from None
