"""How much memory a pair takes."""

from __future__ import annotations

from dataclasses import dataclass

from convert.hf_config import ModelConfig
from mtpcli.config import MAX_DRAFT_DEPTH
from mtpcli.machine import MachineMemory
from mtpcli.plan.blueprint import Subject

FITS, SWAPS, DOES_NOT_FIT = "fits", "swaps", "does not fit"

_ROWS = 512  # rows of the largest decode
_CELLS = 256  # llama.cpp rounds the cells of a cache up to a multiple of this
_HALF = 2  # bytes of a cell's element, f16
_FLOAT = 4
_PROGRAM = 200 << 20  # Python, llama.cpp, a vocabulary of 262144 tokens


@dataclass(frozen=True)
class Memory:
    """Bytes.

    Attributes:
        weights: of the target.
        kv: the target's keys and values; the drafter reads them and has none.
        drafter: its weights, and its ordered head once more in the order of the clusters.
        compute: what llama.cpp computes in, roughly.
        program: everything else, roughly.
    """

    weights: int
    kv: int
    drafter: int
    compute: int
    program: int = _PROGRAM

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.kv + self.drafter + self.compute + self.program

    def verdict(self, machine: MachineMemory) -> str:
        """`FITS`, `SWAPS` if other programs must make room for it, or `DOES_NOT_FIT`."""
        if self.total <= machine.available:
            return FITS
        return SWAPS if self.total <= machine.total else DOES_NOT_FIT


def memory_of(subject: Subject, n_ctx: int) -> Memory:
    """What a session of one sequence takes, `n_ctx` tokens long."""
    config = subject.target.config
    drafter = compute = 0
    if part := subject.drafter:
        drafter = part.n_bytes
        if part.config.centroids:
            drafter += part.config.vocab * part.config.hidden
        compute = compute_bytes(part.config, n_ctx)
    return Memory(
        weights=subject.target.n_bytes,
        kv=kv_bytes(config, n_ctx),
        drafter=drafter,
        compute=compute + compute_bytes(config, n_ctx),
    )


def kv_bytes(config: ModelConfig, n_ctx: int, *, swa_full: bool = False) -> int:
    """Bytes of a target's key-value cache in f16.

    Layers that share another one's cells have none. Sliding ones keep the window and as much as
    is decoded at a time, unless `swa_full`.
    """
    total = 0
    for layer in range(config.first_shared_layer):
        slides = config.sliding[layer] and not swa_full
        cells = _cells(config, n_ctx, slides)
        # Keys and values, even where they are the same numbers.
        total += 2 * _HALF * cells * config.kv_heads[layer] * config.head_dim_of(layer)
    return total


def _cells(config: ModelConfig, n_ctx: int, slides: bool) -> int:
    cells = -(-n_ctx // _CELLS) * _CELLS
    if slides:
        cells = min(cells, -(-(config.sliding_window + _ROWS) // _CELLS) * _CELLS)
    return cells


def compute_bytes(config: ModelConfig, n_ctx: int) -> int:
    """Bytes of llama.cpp's compute buffer and of the logits, roughly.

    They hold what is alive at the widest place of a prompt's decode, and the attention's masks.
    """
    widest = max(config.feed_forward_of(layer) for layer in range(config.layers))
    experts = 2 * config.experts_used * config.expert_feed_forward
    queries = config.heads * max(config.head_dim, config.head_dim_full)
    per_row = (
        2 * config.hidden
        + 2 * (widest + experts)
        + queries
        + 2 * config.per_layer_input * config.layers
    )
    masks = _HALF * (_cells(config, n_ctx, False) + _cells(config, n_ctx, True))
    outputs = 1 if config.is_drafter else MAX_DRAFT_DEPTH + 1
    return _ROWS * (_FLOAT * per_row + masks) + 2 * outputs * config.vocab * _FLOAT
