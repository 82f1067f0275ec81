"""Plans of the two files: metadata, and tensors that are made while they are written."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGMLQuantizationType as Type

from convert.assistant import OrderedHead, add_ordered_head
from convert.hf_config import ModelConfig
from convert.model import (
    FINGERPRINT_KEY,
    TensorSpec,
    add_hyperparameters,
    architecture,
    fingerprint,
    rope_factors,
    tensor_specs,
)
from convert.quantize import OUTTYPES, Bytes, encode, tensor_type
from convert.writer import Keys, OutTensor, Piece, packed_metadata
from mtpcli.synthetic import weights
from mtpcli.synthetic.blocks import FloatArray, IdArray, decode_rows, random_rows
from mtpcli.synthetic.shapes import Shape
from mtpcli.synthetic.vocabulary import FIRST_WORD, add_vocabulary, vocabulary

DRAFTER_QUANT = "q8_0"

_PIECE = 1 << 20  # elements made at a time
# Norms behind attention, feed-forward network and per-layer input: what is added to the stream.
_QUIET = ("post_attention_norm.weight", "post_ffw_norm.weight", ".post_norm.weight")
_QUIET_WEIGHT = 0.001

Progress = Callable[[int], None]
RowsOf = Callable[[IdArray], Bytes]


@dataclass(frozen=True, eq=False)
class PairBuilder:
    """Plans a target and drafters of several rates of acceptance for it.

    Attributes:
        quant: the target's type, one of the converter's; drafters are Q8_0.
        progress: told how many tokens more are prepared.
    """

    shape: Shape
    quant: str
    progress: Progress

    def tensors(self, acceptance: float | None) -> list[OutTensor]:
        """The target's tensors, or those of a drafter that is right so often.

        They can be made when `prepare` has run.
        """
        if acceptance is None:
            special: dict[str, RowsOf] = {"output.weight": self._head_of_target}
            return self._tensors(self.shape.target(), self.quant, special)
        origins = weights.drafted_for(self._walk, acceptance)
        special = {
            "token_embd.weight": partial(self._head_of_drafter, origins),
            "nextn.pre_projection.weight": lambda ids: self._projection[0][ids],
        }
        return self._tensors(self.shape.drafter(), DRAFTER_QUANT, special)

    def prepare(self) -> None:
        """Compute what threads share: the drafter's state for each token."""
        _ = self._runners_up

    def keys(self, acceptance: float | None) -> Keys:
        """The metadata of the same file."""
        config = self.shape.target() if acceptance is None else self.shape.drafter()
        quant = self.quant if acceptance is None else DRAFTER_QUANT
        mark = "target" if acceptance is None else f"drafter, acceptance {acceptance:.2f}"
        head = None
        if acceptance is not None and self.shape.clusters:
            head = self._ordered_head(acceptance)
        name = f"Made-up weights in the shape of Gemma 4 {self.shape.name} ({mark})"
        return made_up_keys(config, name, OUTTYPES[quant].file_type, head)

    def _ordered_head(self, acceptance: float) -> OrderedHead:
        shape = self.shape
        clusters = self._clusters[weights.drafted_for(self._walk, acceptance)]
        ordering = np.argsort(clusters, kind="stable").astype(np.int32)
        centroids = weights.make_centroids(shape.clusters, shape.drafter_hidden)
        return OrderedHead(centroids, ordering, shape.top_k)

    def _tensors(
        self, config: ModelConfig, quant: str, special: dict[str, RowsOf]
    ) -> list[OutTensor]:
        factors = rope_factors(config)
        tensors = [
            OutTensor(
                "rope_freqs.weight", factors.shape, Type.F32, lambda: [lambda: factors.view("u1")]
            )
        ]
        head = "token_embd.weight" if config.is_drafter else "output.weight"
        # No matrix is in both files.
        prefix = "drafter." if config.is_drafter else ""
        for spec in tensor_specs(config):
            if not spec.required:
                continue
            kind = tensor_type(spec.gguf, spec.shape, OUTTYPES[quant], head)
            if len(spec.shape) == 1:
                pieces = partial(_vector, spec)
            else:
                width = spec.shape[-1]
                rows = special.get(spec.gguf) or partial(_random, kind, prefix + spec.gguf, width)
                pieces = partial(_matrix, math.prod(spec.shape[:-1]), width, rows)
            tensors.append(OutTensor(spec.gguf, spec.shape, kind, pieces))
        return tensors

    @cached_property
    def _walk(self) -> weights.Walk:
        return weights.make_walk(self.shape.vocabulary, FIRST_WORD)

    @cached_property
    def _projection(self) -> tuple[Bytes, FloatArray]:
        config = self.shape.drafter()
        outtype = OUTTYPES[DRAFTER_QUANT]
        kind = tensor_type("nextn.pre_projection.weight", (1, self.shape.hidden), outtype, "")
        return weights.pre_projection(config.hidden, config.backbone_hidden, kind)

    @cached_property
    def _states(self) -> npt.NDArray[np.float16]:
        _, projection = self._projection
        return weights.drafter_states(
            self.shape.vocabulary, self._embedding, projection, self.progress
        )

    @cached_property
    def _clusters(self) -> npt.NDArray[np.int64]:
        count = self.shape.clusters or 1
        used = self._states[:, : count.bit_length()].astype(np.float32)
        return weights.make_clusters(used, count)

    @cached_property
    def _runners_up(self) -> IdArray:
        return weights.runner_up_origins(self._clusters, self._walk)

    def _embedding(self, ids: IdArray) -> FloatArray:
        """Rows of the target's embedding, float32 `[n, hidden]`."""
        shape = (self.shape.vocabulary, self.shape.hidden)
        kind = tensor_type("token_embd.weight", shape, OUTTYPES[self.quant], "output.weight")
        rows = random_rows(kind, "token_embd.weight", ids, self.shape.hidden)
        return decode_rows(kind, rows)

    def _head_of_target(self, ids: IdArray) -> Bytes:
        origins = self._walk.before[ids]
        starts = np.zeros((len(ids), self.shape.hidden), np.float32)
        # Tokens that are no words begin the walk somewhere.
        entries = self._walk.next[: self._walk.first]
        _, at, which = np.intersect1d(ids, entries, return_indices=True)
        if len(at):
            starts[at] = weights.normed(self._embedding(which))
        rows = weights.head_rows(
            weights.normed(self._embedding(origins)),
            weights.normed(self._embedding(self._runners_up[origins])),
            self.shape.target().softcap,
            starts,
        )
        return self._encoded(rows, ids, OUTTYPES[self.quant].head)

    def _head_of_drafter(self, origins: IdArray, ids: IdArray) -> Bytes:
        after = origins[ids]
        states = self._states[after].astype(np.float32)
        others = self._states[self._runners_up[after]].astype(np.float32)
        return self._encoded(weights.head_rows(states, others), ids, OUTTYPES[DRAFTER_QUANT].head)

    def _encoded(self, rows: FloatArray, ids: IdArray, kind: Type) -> Bytes:
        rows[ids < self._walk.first] = 0  # never written, so that a text does not end
        return encode(rows.reshape(-1), kind)


def made_up_keys(
    config: ModelConfig, name: str, file_type: int, head: OrderedHead | None = None
) -> Keys:
    """The metadata of a file of made-up weights, with a vocabulary of made-up words."""
    meta = gguf.GGUFWriter(None, architecture(config))
    meta.add_type(gguf.GGUFType.MODEL)
    meta.add_name(name)
    meta.add_description(
        "Random numbers, to measure speed without a model. What it writes means nothing."
    )
    meta.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_hyperparameters(meta, config)
    meta.add_file_type(file_type)
    meta.add_string(FINGERPRINT_KEY, fingerprint(config, vocabulary(config.vocab).tokens))
    if head is not None:
        add_ordered_head(meta, head)
    add_vocabulary(meta, config.vocab)
    return packed_metadata(meta)


def _vector(spec: TensorSpec) -> Iterator[Piece]:
    value = _QUIET_WEIGHT if spec.gguf.endswith(_QUIET) else 1.0
    yield lambda: encode(np.full(spec.shape, value, np.float32), Type.F32)


def _matrix(count: int, width: int, rows: RowsOf) -> Iterator[Piece]:
    step = max(1, _PIECE // width)
    for start in range(0, count, step):
        yield partial(_piece, rows, start, min(start + step, count))


def _piece(rows: RowsOf, start: int, end: int) -> Bytes:
    return rows(np.arange(start, end)).reshape(-1)


def _random(kind: Type, name: str, width: int, ids: IdArray) -> Bytes:
    return random_rows(kind, name, ids, width)
