"""The ordered head against scoring every token and looking only at the chosen clusters."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from mtpcli.decode.drafters.ordered_head import load_ordered_head
from mtpcli.errors import ModelError
from mtpcli.llama.gguf import read_metadata

CLUSTERS, TOP_K, VOCAB, HIDDEN, BACKBONE = 16, 3, 256, 64, 96


class Parts:
    """Random weights of a head."""

    def __init__(self) -> None:
        random = np.random.default_rng(5)
        self.centroids = random.standard_normal((CLUSTERS, HIDDEN)).astype(np.float32)
        self.embedding = random.standard_normal((VOCAB, HIDDEN)).astype(np.float32)
        self.projection = random.standard_normal((BACKBONE, HIDDEN)).astype(np.float32)
        self.ordering = random.permutation(VOCAB).astype(np.int32)
        self.state = random.standard_normal(HIDDEN).astype(np.float32)


def write(path: Path, parts: Parts, kind: gguf.GGMLQuantizationType, **changed: object) -> Path:
    writer = gguf.GGUFWriter(path, "gemma4-assistant")
    values = {
        "centroids": parts.centroids.reshape(-1).tolist(),
        "token_ordering": parts.ordering.tolist(),
        "num_centroids": CLUSTERS,
        "top_k": TOP_K,
        **changed,
    }
    for name, value in values.items():
        if isinstance(value, list):
            writer.add_array(f"mtpcli.ordered_head.{name}", value)
        elif isinstance(value, int):
            writer.add_uint32(f"mtpcli.ordered_head.{name}", value)
    for name, matrix in (
        ("token_embd.weight", parts.embedding),
        ("nextn.post_projection.weight", parts.projection),
    ):
        writer.add_tensor(name, gguf.quants.quantize(matrix, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize(
    "kind", [gguf.GGMLQuantizationType[name] for name in ("F32", "F16", "BF16", "Q8_0", "Q4_0")]
)
def test_only_the_nearest_clusters_are_scored(
    tmp_path: Path, kind: gguf.GGMLQuantizationType
) -> None:
    parts = Parts()
    head = load_ordered_head(read_metadata(write(tmp_path / "d.gguf", parts, kind)))
    assert head
    ids, logits = head.logits(parts.state)

    stored = gguf.quants.dequantize(gguf.quants.quantize(parts.embedding, kind), kind)
    nearest = np.argsort(-(parts.centroids @ parts.state))[:TOP_K]
    expected = sorted(parts.ordering.reshape(CLUSTERS, -1)[nearest].reshape(-1).tolist())
    assert sorted(ids.tolist()) == expected
    np.testing.assert_allclose(logits, (stored @ parts.state)[ids], rtol=1e-4, atol=1e-4)

    projection = gguf.quants.dequantize(gguf.quants.quantize(parts.projection, kind), kind)
    np.testing.assert_allclose(
        head.next_hidden(parts.state), projection @ parts.state, rtol=1e-4, atol=1e-4
    )


def test_a_drafter_without_the_head(tmp_path: Path) -> None:
    path = write(
        tmp_path / "d.gguf",
        Parts(),
        gguf.GGMLQuantizationType.F32,
        centroids=None,
        token_ordering=None,
    )
    assert load_ordered_head(read_metadata(path)) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"top_k": None},
        {"centroids": None},
        {"top_k": CLUSTERS + 1},
        {"num_centroids": CLUSTERS - 1},
        {"centroids": [0.5] * 10},
        {"token_ordering": list(range(VOCAB - 1))},
        {"token_ordering": [0] * VOCAB},
        {"token_ordering": list(range(-1, VOCAB - 1))},
        {"token_ordering": list(range(1, VOCAB + 1))},
    ],
)
def test_a_head_that_contradicts_itself(tmp_path: Path, changed: dict[str, object]) -> None:
    path = write(tmp_path / "d.gguf", Parts(), gguf.GGMLQuantizationType.F32, **changed)
    with pytest.raises(ModelError, match=r"d\.gguf has an .*ordered head"):
        load_ordered_head(read_metadata(path))
