"""Made-up weights: their pieces, and a tiny pair that writes and drafts as it is asked to."""

from __future__ import annotations

import shutil
from pathlib import Path

import gguf
import numpy as np
import pytest

from mtpcli import synthetic
from mtpcli.config import DraftConfig, RuntimeConfig, SamplingConfig
from mtpcli.decode.metrics import SpeculationStats
from mtpcli.errors import InputError, UsageError
from mtpcli.llama.gguf import read_metadata
from mtpcli.pair import check_pair
from mtpcli.session import PairPaths, Session
from mtpcli.synthetic import MadeUpPair, answer_tokens, made_up_pair, weights
from mtpcli.synthetic.blocks import decode_rows, random_rows
from mtpcli.synthetic.build import PairBuilder
from mtpcli.synthetic.shapes import SHAPES, Shape
from mtpcli.synthetic.vocabulary import FIRST_WORD, vocabulary

TINY = Shape(
    "tiny", layers=6, period=2, hidden=256, heads=2, kv_heads=1, feed_forward=64, window=128,
    context=1024, shared_layers=2, per_layer=32, double_wide=True, drafter_hidden=128,
    drafter_heads=2, drafter_feed_forward=64, clusters=64, top_k=16, vocabulary=4096,
    head_dim=32, full_head_dim=64,
)  # fmt: skip
TINY_EXPERTS = Shape(
    "tiny-experts", layers=4, period=2, hidden=256, heads=4, kv_heads=2, full_kv_heads=1,
    feed_forward=64, window=128, context=1024, experts=(8, 2, 64), drafter_hidden=128,
    drafter_heads=4, drafter_feed_forward=64, vocabulary=1024, head_dim=32, full_head_dim=64,
)  # fmt: skip
ACCEPTANCES = (0.0, 0.3, 0.6, 0.8, 0.95)
KINDS = [
    gguf.GGMLQuantizationType[name]
    for name in (
        "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "F16", "BF16", "F32",
        "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS",
    )
]  # fmt: skip


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> MadeUpPair:
    return made_up_pair(TINY, ACCEPTANCES, cache=tmp_path_factory.mktemp("made-up"))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_random_rows_are_of_size_one_and_the_same_each_time(
    kind: gguf.GGMLQuantizationType,
) -> None:
    rows = random_rows(kind, "a", np.arange(500), 512)
    values = decode_rows(kind, rows)
    assert values.shape == (500, 512)
    assert (values**2).mean() * 512 == pytest.approx(1, rel=0.02)
    some = np.array([499, 7])
    np.testing.assert_array_equal(random_rows(kind, "a", some, 512), rows[some])
    assert (random_rows(kind, "b", some, 512) != rows[some]).mean() > 0.5
    assert len(np.unique(rows, axis=0)) == 500


def test_a_walk_visits_every_word_once() -> None:
    walk = weights.make_walk(2000, 100)
    token, seen = 5, []
    for _ in range(1900):
        token = int(walk.next[token])
        seen.append(token)
    assert sorted(seen) == list(range(100, 2000))
    assert walk.next[token] == seen[0]
    assert all(walk.before[walk.next[word]] == word for word in range(100, 2000))
    assert len(set(walk.next[:100])) == 100


@pytest.mark.parametrize("acceptance", [0.0, 0.33, 0.8, 1.0])
def test_a_share_of_the_words_is_drafted_wrong(acceptance: float) -> None:
    walk = weights.make_walk(4000, 100)
    origins = weights.drafted_for(walk, acceptance)
    right = (origins == walk.before)[walk.order]
    assert right.mean() == pytest.approx(acceptance, abs=0.003)
    assert right[:400].mean() == pytest.approx(acceptance, abs=0.03)
    assert sorted(origins) == list(range(4000))


def test_rows_of_a_head_give_the_logits_they_shall() -> None:
    random = np.random.default_rng(1)
    states = weights.normed(random.standard_normal((50, 64)).astype(np.float32))
    others = weights.normed(random.standard_normal((50, 64)).astype(np.float32))
    for softcap in (0.0, 30.0):
        rows = weights.head_rows(states, others, softcap)
        top, second = (rows * states).sum(axis=1), (rows * others).sum(axis=1)
        if softcap:
            top, second = (softcap * np.tanh(logits / softcap) for logits in (top, second))
        np.testing.assert_allclose(1 / (1 + np.exp(top - second)), 0.2, rtol=1e-3)


def test_clusters_are_of_equal_size_and_found_by_their_centroids() -> None:
    states = np.random.default_rng(1).standard_normal((4096, 32)).astype(np.float32)
    clusters = weights.make_clusters(states, 64)
    assert np.bincount(clusters).tolist() == [64] * 64
    nearness = states @ weights.make_centroids(64, 32).T
    own = nearness[np.arange(4096), clusters]
    assert ((nearness > own[:, None]).sum(axis=1) < 16).all()
    walk = weights.make_walk(4096, 100)
    others = weights.runner_up_origins(clusters, walk)
    assert sorted(others) == list(range(4096))
    assert (clusters[others] == clusters).all()
    assert (others[100:] != np.arange(100, 4096)).all()


def test_words_are_many_and_none_is_there_twice() -> None:
    tokens = vocabulary(262144).tokens
    assert len(set(tokens)) == len(tokens) == 262144
    assert all(token.startswith("▁") for token in tokens[FIRST_WORD:])


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_can_be_planned(name: str) -> None:
    """Headers only; sizes in billions of parameters as people know them."""
    builder = PairBuilder(SHAPES[name], "q4_0", lambda tokens: None)
    tensors = builder.tensors(None)
    elements = sum(np.prod(tensor.shape) for tensor in tensors) / 1e9
    # The output head is a matrix of its own here, which is 0.4 to 1.4 of them.
    billions = {"e2b": 5.1, "e4b": 8, "12b": 13, "26b-a4b": 26, "31b": 31}[name]
    assert elements == pytest.approx(billions, rel=0.2)
    assert sum(tensor.nbytes for tensor in builder.tensors(0.5)) < 1e9


def generate(
    pair: MadeUpPair,
    acceptance: float,
    draft: DraftConfig,
    temperature: float = 0.0,
    tokens: int = 100,
) -> tuple[list[list[int]], SpeculationStats]:
    """Answers to three prompts, and how the drafts of all of them fared."""
    paths = PairPaths(pair.target, pair.drafters[acceptance])
    sampling, stats, answers = SamplingConfig(temperature, seed=5), SpeculationStats(), []
    with Session(paths, draft, RuntimeConfig(n_ctx=512, threads=1)) as session:
        for letter in "!Aa":  # far from each other on the walk
            prompt = session.chat_tokens([{"role": "user", "content": f"Prompt {letter}"}])
            request, _ = session.request(prompt, sampling, max_tokens=tokens)
            (sequence,) = session.engine.generate([request])
            answers.append(sequence.tokens)
            stats.merge(sequence.stats)
    return answers, stats


@pytest.fixture(scope="module")
def plain(pair: MadeUpPair) -> list[list[int]]:
    """What the target writes when it is greedy."""
    answers, _ = generate(pair, 0.8, DraftConfig(0), tokens=200)
    return answers


@pytest.mark.parametrize("acceptance", ACCEPTANCES)
def test_acceptance_is_as_asked_and_the_text_that_of_plain_decoding(
    pair: MadeUpPair, plain: list[list[int]], acceptance: float
) -> None:
    draft = DraftConfig(1, ordered_head=False)
    drafted, stats = generate(pair, acceptance, draft, tokens=200)
    assert drafted == plain
    assert stats.acceptance_by_position[0] == pytest.approx(acceptance, abs=0.07)
    assert len({walk[0] for walk in plain}) == 3
    assert min(map(min, plain)) >= FIRST_WORD


def test_its_text_is_known_before_it_is_written(plain: list[list[int]]) -> None:
    # So narrow a model takes a wrong turn now and then.
    known = [answer_tokens(TINY.vocabulary, letter, 40) for letter in "!Aa"]
    assert [answer[:40] for answer in plain] == known


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_ordered_head_drafts_what_the_dense_one_drafts(
    pair: MadeUpPair, temperature: float
) -> None:
    dense, of_dense = generate(pair, 0.8, DraftConfig(3, ordered_head=False), temperature)
    ordered, of_ordered = generate(pair, 0.8, DraftConfig(3, ordered_head=True), temperature)
    assert dense == ordered
    assert of_ordered.acceptance_by_position == pytest.approx(
        of_dense.acceptance_by_position, abs=0.03
    )
    assert 0.6 < of_dense.acceptance_by_position[0] < 0.9


@pytest.mark.parametrize("quant", ["q8_0", "q5_1", "f16"])
def test_other_types_and_shapes(tmp_path: Path, quant: str) -> None:
    other = made_up_pair(TINY_EXPERTS, [0.8], quant, cache=tmp_path)
    target, drafter = read_metadata(other.target), read_metadata(other.drafters[0.8])
    check_pair(target, drafter)
    assert f"{quant.upper()}.gguf" in other.target.name
    plain, _ = generate(other, 0.8, DraftConfig(0))
    drafted, stats = generate(other, 0.8, DraftConfig(2))
    assert drafted == plain or quant == "f16"  # whose batches differ in the last bits
    assert stats.acceptance_by_position[0] == pytest.approx(0.8, abs=0.12)


def test_the_files_say_what_they_are(pair: MadeUpPair) -> None:
    for path in (pair.target, *pair.drafters.values()):
        assert "made-up" in path.name
        assert str(read_metadata(path).metadata["general.name"]).startswith("Made-up weights")


def test_files_are_built_once_and_always_the_same(pair: MadeUpPair, tmp_path: Path) -> None:
    again = made_up_pair(TINY, [0.8], cache=tmp_path)
    assert again.target.read_bytes() == pair.target.read_bytes()
    assert again.drafters[0.8].read_bytes() == pair.drafters[0.8].read_bytes()
    before = again.target.stat().st_mtime_ns
    told: list[tuple[int, int]] = []
    more = made_up_pair(
        TINY, [0.8, 0.5], cache=tmp_path, progress=lambda done, total: told.append((done, total))
    )
    assert more.target.stat().st_mtime_ns == before
    assert more.drafters[0.5].exists()
    assert told[-1][0] == told[-1][1] > 0
    more.remove()
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(synthetic.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(InputError, match=r"made-up E2B files take 3\.\d GB in .* 1\.0 MB are free"):
        made_up_pair("e2b", [0.8], cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("shape", "acceptance", "quant", "says"),
    [
        ("e3b", 0.5, "q4_0", "--synthetic e3b: is not one of e2b, e4b"),
        ("e2b", 1.5, "q4_0", "--acceptance"),
        ("e2b", float("nan"), "q4_0", "--acceptance"),
        ("e2b", 0.5, "q9", "--quant q9: is not one of f32"),
    ],
)
def test_arguments_that_are_none(
    tmp_path: Path, shape: str, acceptance: float, quant: str, says: str
) -> None:
    with pytest.raises(UsageError, match=says):
        made_up_pair(shape, [acceptance], quant, cache=tmp_path)
