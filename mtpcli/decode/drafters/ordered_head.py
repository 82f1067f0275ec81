"""The ordered head of the E2B and E4B drafters: logits for the likely part of the vocabulary only.

Tokens are grouped into clusters. The clusters whose centroids lie nearest to the drafter's state
are chosen, and only their tokens are scored: 4096 of 262144. llama.cpp has no such head and scores
all of them. Source: `Gemma4AssistantMaskedEmbedder` in transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mtpcli.errors import ModelError

if TYPE_CHECKING:
    from mtpcli.llama.gguf import GgufFile

FloatArray = npt.NDArray[np.float32]

_PREFIX = "mtpcli.ordered_head."
# Gemma's 262144 tokens take llama.cpp milliseconds, the embedded pair's 2048 next to nothing.
_LARGE_VOCABULARY = 32768
_Q8_0_BYTES = 34  # of a block: a half-precision scale and 32 elements
_AT_ONCE = 8  # clusters, so that they stay in the processor's cache
_ONE_THREAD = 8192  # elements of a matrix that BLAS multiplies in one thread


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of a quantised matrix, read where the file is mapped: no memory of their own.

    Attributes:
        data: uint8 `[rows, bytes per row]`.
        type: ggml's name of the element type.
    """

    data: npt.NDArray[np.uint8]
    type: str

    def take(self, rows: npt.NDArray[np.int64] | slice) -> FloatArray:
        """Some rows as float32 `[n, width]`."""
        import gguf

        kind = gguf.GGMLQuantizationType[self.type.upper()]
        values: FloatArray = gguf.quants.dequantize(self.data[rows], kind)
        return values


@dataclass(frozen=True, eq=False)
class PackedClusters:
    """A Q8_0 embedding, cluster by cluster: a draft step reads 32 places of it instead of 4096.

    It takes as much memory as the tensor, 75 MB for E2B.

    Attributes:
        elements: int8 `[clusters, blocks per row, tokens per cluster, 32]`.
        scales: float32 `[clusters, blocks per row, tokens per cluster]`.
    """

    elements: npt.NDArray[np.int8]
    scales: FloatArray

    @classmethod
    def of(cls, embedding: Rows, clusters: npt.NDArray[np.int64]) -> PackedClusters:
        """Sort the rows of an embedding."""
        count, size = clusters.shape
        width = embedding.data.shape[1] // _Q8_0_BYTES
        packed = cls(
            np.empty((count, width, size, 32), np.int8), np.empty((count, width, size), np.float32)
        )
        for at in range(0, count, _AT_ONCE):
            part = slice(at, at + _AT_ONCE)
            rows = np.take(embedding.data, clusters[part], axis=0)
            blocks = rows.reshape(*rows.shape[:2], width, _Q8_0_BYTES).transpose(0, 2, 1, 3)
            packed.elements[part] = blocks[..., 2:].view(np.int8)
            packed.scales[part] = blocks[..., :2].copy().view(np.float16)[..., 0]
        return packed

    def dot(self, clusters: npt.NDArray[np.int64], vector: FloatArray) -> FloatArray:
        """Products of all rows of some clusters with a vector, float32 `[n * cluster size]`."""
        blocks = vector.reshape(-1, 32, 1)
        sums = []
        for at in range(0, len(clusters), _AT_ONCE):
            part = clusters[at : at + _AT_ONCE]
            products = np.matmul(self.elements[part].astype(np.float32), blocks)[..., 0]
            products *= self.scales[part]
            sums.append(products.sum(axis=1).reshape(-1))
        return np.concatenate(sums)


def product(matrix: FloatArray, vector: FloatArray) -> FloatArray:
    """`matrix @ vector` in this thread alone.

    NumPy's BLAS would wake threads of its own, which then wait busily for more: on the cores that
    the next decode wants. It leaves products of less than 9216 elements to the caller's thread.
    """
    rows, width = matrix.shape
    step = max(1, _ONE_THREAD // width)
    whole = rows - rows % step
    parts = np.matmul(matrix[:whole].reshape(-1, step, width), vector).reshape(-1)
    return np.concatenate([parts, matrix[whole:] @ vector]) if whole < rows else parts


@dataclass(frozen=True, eq=False)
class OrderedHead:
    """The head, and the projection that stands behind it in llama.cpp's graph.

    Attributes:
        centroids: float32 `[clusters, hidden]`.
        clusters: int64 `[clusters, tokens per cluster]`, token ids.
        top_k: how many clusters are scored.
        embedding: `[vocabulary, hidden]`.
        packed: the same in the order of the clusters, if it is of the usual type.
        projection: float32 `[backbone hidden, hidden]`.
    """

    centroids: FloatArray
    clusters: npt.NDArray[np.int64]
    top_k: int
    embedding: Rows
    packed: PackedClusters | None
    projection: FloatArray

    @property
    def pays(self) -> bool:
        """Whether choosing clusters takes less time than llama.cpp takes for all tokens."""
        return self.clusters.size >= _LARGE_VOCABULARY

    @property
    def nbytes(self) -> int:
        """Memory of its own; what is read where the file is mapped is not."""
        packed = self.packed.elements.nbytes + self.packed.scales.nbytes if self.packed else 0
        return packed + self.centroids.nbytes + self.clusters.nbytes + self.projection.nbytes

    def logits(self, state: FloatArray) -> tuple[npt.NDArray[np.int64], FloatArray]:
        """Token ids and their logits, both `[top_k * tokens per cluster]`.

        Args:
            state: float32 `[hidden]`, the drafter's state after its last norm.
        """
        nearness = product(self.centroids, state)
        nearest = np.argpartition(nearness, -self.top_k)[-self.top_k :]
        ids = self.clusters[nearest].reshape(-1)
        if self.packed:
            return ids, self.packed.dot(nearest, state)
        return ids, product(self.embedding.take(ids), state)

    def next_hidden(self, state: FloatArray) -> FloatArray:
        """What the next draft step reads, float32 `[backbone hidden]`."""
        return product(self.projection, state)


def load_ordered_head(file: GgufFile) -> OrderedHead | None:
    """The ordered head of a drafter's file, or None where it has none.

    Raises:
        ModelError: the head contradicts the file's own tensors.
    """
    centroids = file.metadata.get(f"{_PREFIX}centroids")
    ordering = file.metadata.get(f"{_PREFIX}token_ordering")
    count = file.metadata.get(f"{_PREFIX}num_centroids")
    top_k = file.metadata.get(f"{_PREFIX}top_k")
    if centroids is None and ordering is None:
        return None
    embedding = _rows(file, "token_embd.weight")
    projection = _rows(file, "nextn.post_projection.weight")
    tensor = file.tensor("token_embd.weight")
    if (
        embedding is None
        or projection is None
        or tensor is None
        or not isinstance(centroids, np.ndarray)
        or not isinstance(ordering, np.ndarray)
        or not isinstance(count, int)
        or not isinstance(top_k, int)
    ):
        raise ModelError(f"{file.path} has an incomplete ordered head: convert it again")
    hidden, vocabulary = tensor.shape
    fits = (
        0 < top_k <= count
        and centroids.size == count * hidden
        and ordering.size == vocabulary
        and vocabulary % count == 0
        and (np.bincount(ordering.clip(0), minlength=vocabulary) == 1).all()
    )
    if not fits:
        raise ModelError(f"{file.path} has an ordered head of another model: convert it again")
    clusters = ordering.astype(np.int64).reshape(count, -1)
    usual = embedding.type.upper() == "Q8_0"
    return OrderedHead(
        centroids=centroids.astype(np.float32).reshape(count, hidden),
        clusters=clusters,
        top_k=top_k,
        embedding=embedding,
        packed=PackedClusters.of(embedding, clusters) if usual else None,
        projection=projection.take(slice(None)),
    )


def _rows(file: GgufFile, name: str) -> Rows | None:
    tensor = file.tensor(name)
    if tensor is None or len(tensor.shape) != 2:
        return None
    data = np.memmap(Path(file.path), np.uint8, "r", tensor.offset, (tensor.n_bytes,))
    return Rows(data.reshape(tensor.shape[-1], -1), tensor.type)
