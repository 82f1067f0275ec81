"""Small files with a few layers of a model's real shape, and how costs follow from their times.

A decode of n rows costs something fixed, something for each layer and something for the output
head. Layers that keep keys and values and layers that share them are two kinds; within a kind a
layer costs in proportion to the bytes that it reads, so that sliding and full attention, and types
that differ from layer to layer, need no samples of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type

from convert.assistant import OrderedHead
from convert.hf_config import ModelConfig
from convert.model import TensorSpec, rope_factors, tensor_specs
from convert.quantize import Bytes, encode
from convert.writer import OutTensor, Piece, Progress, staged, write
from mtpcli.plan.blueprint import Blueprint, spec_bytes
from mtpcli.synthetic.blocks import random_rows
from mtpcli.synthetic.build import made_up_keys

FloatArray = npt.NDArray[np.float64]

_SMALL_VOCABULARY = 1024  # a head that costs nothing
_LARGE = 2 << 30  # bytes of layers; layers with experts have half a GB each
_PIECE = 1 << 20  # elements made at a time
# Norms behind a layer's parts: what is added to the stream stays small, whatever the weights are.
_QUIET = ("post_attention_norm.weight", "post_ffw_norm.weight", ".post_norm.weight")
_QUIET_WEIGHT = 0.001
# Logits of a model are not as flat as random ones are, and flat ones take longer to sample.
_LOGITS = 4.0


@dataclass(frozen=True)
class Sample:
    """Some layers of a model.

    Attributes:
        name: what it is there for.
        layers: which of the model's; those that share keys and values come last.
        shared: how many of them share.
        head: with the whole vocabulary instead of a small one.
    """

    name: str
    layers: tuple[int, ...]
    shared: int = 0
    head: bool = False


def choose_samples(blueprint: Blueprint, least: int) -> list[Sample]:
    """Samples that tell what a decode's parts cost.

    Args:
        least: bytes that a sample's layers shall have together, far more than a cache holds, so
            that they come from memory as a whole model's do.
    """
    config, first = blueprint.config, blueprint.config.first_shared_layer
    own, sharing = range(first), range(first, config.layers)
    ends = _ends(config)
    # What the two differ by is what tells; a quarter does not stay in a cache either.
    third = sum(blueprint.layer_bytes[layer] for layer in own) // 3
    few = _pick(blueprint, own, min(least // 4, third), 0, ends)
    base = sum(blueprint.layer_bytes[layer] for layer in few)
    many = _pick(blueprint, own, max(least, min(4 * base, _LARGE)), len(few) + 2, ends)
    samples = [
        Sample("head", ends, head=True),
        Sample("few layers", few),
        Sample("more layers", many),
    ]
    if sharing:
        shared = _pick(blueprint, sharing, least, 2, ())
        samples.append(Sample("sharing layers", ends + shared, len(shared)))
    return samples


def _ends(config: ModelConfig) -> tuple[int, int]:
    """The two layers that every sample needs: a drafter reads the last of each kind."""
    own = range(config.first_shared_layer)
    sliding = [layer for layer in own if config.sliding[layer]]
    full = [layer for layer in own if not config.sliding[layer]]
    return sliding[-1], full[-1]


def _pick(
    blueprint: Blueprint, layers: Sequence[int], least: int, count: int, ends: tuple[int, ...]
) -> tuple[int, ...]:
    """Layers from all over, sliding and full ones in the model's proportion.

    Args:
        least, count: how many bytes and layers they shall have, if there are so many.
        ends: layers to have among them, as the last ones.
    """
    sliding = [layer for layer in layers if blueprint.config.sliding[layer]]
    full = [layer for layer in layers if not blueprint.config.sliding[layer]]
    for wanted in range(max(len(ends), 1), len(layers) + 1):
        share = min(len(full), max(1, round(wanted * len(full) / len(layers)))) if full else 0
        chosen = [*_spread(sliding, min(len(sliding), wanted - share)), *_spread(full, share)]
        chosen = [layer for layer in chosen if layer not in ends]
        picked = (*sorted(chosen), *ends)
        size = sum(blueprint.layer_bytes[layer] for layer in picked)
        if len(picked) >= count and size >= least:
            return picked
    return (*(layer for layer in layers if layer not in ends), *ends)


def _spread(items: Sequence[int], count: int) -> list[int]:
    """So many items in even distances, the last one among them."""
    return [items[(index + 1) * len(items) // count - 1] for index in range(count)]


def design_row(blueprint: Blueprint, sample: Sample) -> list[float]:
    """What a decode of a sample consists of: `[1, own bytes, sharing bytes, heads]`."""
    own = len(sample.layers) - sample.shared
    read = [blueprint.used_bytes[layer] for layer in sample.layers]
    return [1.0, float(sum(read[:own])), float(sum(read[own:])), float(sample.head)]


def whole(blueprint: Blueprint) -> Sample:
    """All of a model."""
    layers = tuple(range(blueprint.config.layers))
    return Sample("whole", layers, blueprint.config.shared_kv_layers, head=True)


def solve(design: FloatArray, seconds: FloatArray) -> FloatArray:
    """Costs that explain measured times best, none of them negative.

    Least squares; what comes out negative is taken for nothing, and the others are solved again.

    Args:
        design: float64 `[samples, parts]`, how much of each part a sample has.
        seconds: float64 `[samples]`.

    Returns:
        float64 `[parts]`, seconds of one of each; 0 for a part that no sample has.
    """
    costs = np.zeros(design.shape[1])
    scale = np.abs(design).max(axis=0)
    kept = np.flatnonzero(scale > 0)
    while len(kept):
        # Relative errors count: a long decode varies more than a short one.
        rows = design[:, kept] / scale[kept] / seconds[:, None]
        found = np.linalg.lstsq(rows, np.ones(len(seconds)), rcond=None)[0]
        if (found >= 0).all():
            costs[kept] = found / scale[kept]
            break
        kept = np.delete(kept, found.argmin())
    return costs


def sample_size(blueprint: Blueprint, sample: Sample) -> int:
    """Bytes of a sample's file."""
    return sum(tensor.nbytes for tensor in _tensors(blueprint, sample))


def write_sample(path: Path, blueprint: Blueprint, sample: Sample, progress: Progress) -> None:
    """Write a sample of random weights."""
    config = _config(blueprint, sample)
    head = None
    if config.centroids:
        random = np.random.default_rng(1)
        head = OrderedHead(
            random.standard_normal((config.centroids, config.hidden)).astype(np.float32),
            random.permutation(config.vocab).astype(np.int32),
            config.centroid_top_k,
        )
    keys = made_up_keys(config, f"Made-up layers, to measure: {sample.name}", 0, head)
    with staged(path, force=True) as part:
        write(part, keys, _tensors(blueprint, sample), progress)


def _config(blueprint: Blueprint, sample: Sample) -> ModelConfig:
    full = blueprint.config
    return replace(
        full,
        vocab=full.vocab if sample.head else min(full.vocab, _SMALL_VOCABULARY),
        sliding=tuple(full.sliding[layer] for layer in sample.layers),
        kv_heads=tuple(full.kv_heads[layer] for layer in sample.layers),
        shared_kv_layers=len(sample.layers) if full.is_drafter else sample.shared,
    )


def _tensors(blueprint: Blueprint, sample: Sample) -> list[OutTensor]:
    config = _config(blueprint, sample)
    factors = rope_factors(config)
    tensors = [
        OutTensor(
            "rope_freqs.weight", factors.shape, Type.F32, lambda: [lambda: factors.view("u1")]
        )
    ]
    for spec in tensor_specs(config):
        if spec.required:
            kind = blueprint.types[_original(spec.gguf, sample)]
            pieces = partial(_vector if len(spec.shape) == 1 else _matrix, spec, kind)
            tensors.append(OutTensor(spec.gguf, spec.shape, kind, pieces))
    return tensors


def _original(name: str, sample: Sample) -> str:
    """What a sample's tensor is called in the model."""
    if not name.startswith("blk."):
        return name
    _, layer, rest = name.split(".", 2)
    return f"blk.{sample.layers[int(layer)]}.{rest}"


def _vector(spec: TensorSpec, kind: Type) -> list[Piece]:
    value = _QUIET_WEIGHT if spec.gguf.endswith(_QUIET) else 1.0
    if spec.gguf == "output_norm.weight":
        value = _LOGITS
    return [lambda: encode(np.full(spec.shape, value, np.float32), kind)]


def _matrix(spec: TensorSpec, kind: Type) -> list[Piece]:
    """The same random rows over and over: what they are does not matter, where they lie does."""
    width = spec.shape[-1]
    rows = int(np.prod(spec.shape[:-1]))
    step = max(1, min(rows, _PIECE // width))
    row_bytes = spec_bytes(spec, kind) // rows
    return [
        partial(_rows, kind, width, step, min(step, rows - start) * row_bytes)
        for start in range(0, rows, step)
    ]


def _rows(kind: Type, width: int, count: int, n_bytes: int) -> Bytes:
    return _random(kind, width, count)[:n_bytes]


def forget_random_rows() -> None:
    """Free the memory of what samples were made of."""
    _random.cache_clear()


@lru_cache(maxsize=32)
def _random(kind: Type, width: int, count: int) -> Bytes:
    return random_rows(kind, "sample", np.arange(count), width).reshape(-1)
