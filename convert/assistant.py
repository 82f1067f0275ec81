"""The ordered head of a drafter, packed as metadata.

Some drafters look only at the tokens of the clusters whose centroids score best, instead of at the
whole vocabulary. llama.cpp knows no such head, and refuses files with tensors it does not know;
metadata it ignores. So the head travels in the same file as arrays, and the file serves both.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt
from gguf import GGUFValueType as Kind

from convert import names
from convert.errors import ConvertError
from convert.hf_config import ModelConfig
from convert.quantize import to_float32
from convert.safetensors import StoredTensor

PREFIX = "mtpcli.ordered_head."


@dataclass(frozen=True)
class OrderedHead:
    """Attributes:
    centroids: float32 [num_centroids, hidden].
    token_ordering: int32 [vocab], a permutation of the ids: cluster c owns the c-th of
        num_centroids equal runs.
    top_k: how many clusters are looked at.
    """

    centroids: npt.NDArray[np.float32]
    token_ordering: npt.NDArray[np.int32]
    top_k: int


def take_ordered_head(stored: dict[str, StoredTensor], config: ModelConfig) -> OrderedHead | None:
    """Take the head's tensors out of `stored`; None where a drafter has none.

    Configurations declare a head even where the checkpoint has none, so the tensors decide.

    Raises:
        ConvertError: half a head, or one that contradicts the configuration or itself.
    """
    centroids = stored.pop(names.HEAD_CENTROIDS, None)
    ordering = stored.pop(names.HEAD_ORDERING, None)
    if centroids is None and ordering is None:
        return None
    if centroids is None or ordering is None:
        missing = names.HEAD_CENTROIDS if centroids is None else names.HEAD_ORDERING
        raise ConvertError(f"{config.path.parent}: tensor {missing} is missing")
    rows = to_float32(_read(centroids, (config.centroids, config.hidden), config))
    head = OrderedHead(
        rows.reshape(config.centroids, config.hidden),
        _read(ordering, (config.vocab,), config),
        config.centroid_top_k,
    )
    return checked_head(head, ordering.file)


def checked_head(head: OrderedHead, path: Path) -> OrderedHead:
    """The head with its ordering as int32.

    Raises:
        ConvertError: clusters of unequal size, or an ordering that is no permutation.
    """
    clusters, ids = len(head.centroids), head.token_ordering
    if clusters == 0 or len(ids) % clusters != 0 or head.top_k > clusters:
        raise ConvertError(
            f"{path}: {clusters} centroids (top {head.top_k}) do not divide a vocabulary"
            f" of {len(ids)}"
        )
    if ids.dtype.kind != "i" or not np.array_equal(np.sort(ids), np.arange(len(ids))):
        raise ConvertError(f"{path}: the token ordering must name each token exactly once")
    return OrderedHead(head.centroids, ids.astype(np.int32), head.top_k)


def _read(tensor: StoredTensor, shape: tuple[int, ...], config: ModelConfig) -> npt.NDArray[Any]:
    if tensor.shape != shape:
        raise ConvertError(
            f"{tensor.file}: tensor {tensor.name} has shape {list(tensor.shape)},"
            f" {config.path.name} makes it {list(shape)}"
        )
    return tensor.read()


def add_ordered_head(meta: gguf.GGUFWriter, head: OrderedHead) -> None:
    """Add the head's four keys; arrays are flat, row after row."""
    meta.add_uint32(f"{PREFIX}num_centroids", len(head.centroids))
    meta.add_uint32(f"{PREFIX}top_k", head.top_k)
    for key, values, kind in (
        ("centroids", head.centroids, Kind.FLOAT32),
        ("token_ordering", head.token_ordering, Kind.INT32),
    ):
        meta.add_key_value(PREFIX + key, values.reshape(-1), Kind.ARRAY, kind)
