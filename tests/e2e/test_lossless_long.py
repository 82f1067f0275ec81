"""The same text with and without the drafter where the sliding window's cells are used again."""

from __future__ import annotations

import numpy as np
import pytest

from mtpcli.config import DraftConfig, RuntimeConfig, SamplingConfig
from mtpcli.llama.model import Model
from mtpcli.session import PairPaths, Session
from tests.conftest import Pair

# The window and a batch, 640 cells, rounded up: text behind this place overwrites older cells.
RING = 768
PROMPT = [2, *np.random.default_rng(1).integers(20, 2000, RING - 40).tolist()]
GREEDY = SamplingConfig(temperature=0)
# Nearly random text: whatever changes the last bits of a logit changes a token soon.
SAMPLING = SamplingConfig(temperature=3.0, top_p=1.0)


def tokens(pair: Pair, depth: int) -> list[list[int]]:
    paths = PairPaths(pair.target, pair.drafter if depth else None)
    runtime = RuntimeConfig(n_ctx=1024, n_seq=2, threads=1)
    with Session(paths, DraftConfig(depth), runtime) as session:
        requests = [session.request(PROMPT, SAMPLING, max_tokens=150)[0] for _ in range(2)]
        return [sequence.tokens for sequence in session.engine.generate(requests)]


def test_text_to_the_last_cell(demo_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "is_end", lambda self, token: False)
    n_ctx, texts = 256, []
    # Drafts of up to 15 tokens come to the end of the context at every place in them.
    room = (0, 1, 5, 15, 17)
    for depth in (0, 15):
        paths = PairPaths(demo_pair.target, demo_pair.drafter if depth else None)
        runtime = RuntimeConfig(n_ctx=n_ctx, n_seq=2, threads=1)
        with Session(paths, DraftConfig(depth), runtime) as session:
            requests = [session.request(PROMPT[: n_ctx - left], GREEDY)[0] for left in room]
            sequences = session.engine.generate(requests)
        assert {sequence.finish_reason for sequence in sequences} == {"context"}
        texts.append([sequence.tokens for sequence in sequences])
        # One token needs no cell of its own.
        assert [len(tokens) for tokens in texts[-1]] == [left + 1 for left in room]
    assert texts[0] == texts[1]


def test_text_longer_than_the_window(demo_pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Model, "is_end", lambda self, token: False)
    plain = tokens(demo_pair, 0)
    assert len(plain[0]) == 150
    assert tokens(demo_pair, 2) == plain
