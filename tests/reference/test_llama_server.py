"""llama.cpp's own server runs our two files with its MTP drafting, and writes the same text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mtpcli.config import DraftConfig, RuntimeConfig, SamplingConfig
from mtpcli.session import PairPaths, Session
from tests.conftest import Pair
from tests.reference.llama_server import complete, running

pytestmark = pytest.mark.reference

PROMPTS = (
    "Extract the data as JSON: Oscar, a pilot from Lisbon, is 41 years old.",
    "Write a short story about a curious fox named Mia who finds a lantern.",
    "What is 27 + 45?",
)


@pytest.fixture(scope="module")
def server(
    llama_server: Path, demo_pair: Pair, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Address of a llama-server with the embedded pair."""
    log = tmp_path_factory.mktemp("server") / "log"
    files = "-m", demo_pair.target, "-md", demo_pair.drafter
    with running(
        llama_server, log, *files, "--spec-type", "draft-mtp", "-c", "1024", "-np", "1"
    ) as address:
        yield address


def test_the_server_drafts_and_writes_our_text(server: str, demo_pair: Pair) -> None:
    paths = PairPaths(demo_pair.target, demo_pair.drafter)
    drafted = accepted = 0
    with Session(paths, DraftConfig(3), RuntimeConfig(n_ctx=1024, threads=1)) as session:
        for text in PROMPTS:
            prompt = session.chat_tokens([{"role": "user", "content": text}])
            request, stream = session.request(prompt, SamplingConfig(temperature=0), max_tokens=100)
            session.engine.generate([request])
            answer = complete(server, prompt, temperature=0, n_predict=100)
            assert answer["content"] == stream.answer
            drafted += answer["timings"]["draft_n"]
            accepted += answer["timings"]["draft_n_accepted"]
    assert 0 < accepted <= drafted
