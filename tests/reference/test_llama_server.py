"""llama.cpp's own server runs our two files with its MTP drafting, and writes the same text."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mtpcli.config import DraftConfig, RuntimeConfig, SamplingConfig
from mtpcli.session import PairPaths, Session
from tests.conftest import Pair

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
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        str(llama_server), "-m", str(demo_pair.target), "-md", str(demo_pair.drafter),
        "--spec-type", "draft-mtp", "--host", "127.0.0.1", "--port", str(port),
        "-c", "1024", "-np", "1", "--no-webui",
    ]  # fmt: skip
    log = tmp_path_factory.mktemp("server") / "log"
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_until_ready(address, process, log)
            yield address
        finally:
            process.terminate()


def _wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(600):
        assert process.poll() is None, log.read_text(errors="replace")[-3000:]
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            if urllib.request.urlopen(f"{address}/health").status == 200:
                return
        time.sleep(0.1)
    pytest.fail("llama-server does not get ready")


def _complete(address: str, tokens: list[int]) -> dict[str, Any]:
    body = {"prompt": tokens, "temperature": 0, "n_predict": 100, "return_tokens": True}
    request = urllib.request.Request(
        f"{address}/completion",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        result: dict[str, Any] = json.load(answer)
    return result


def test_the_server_drafts_and_writes_our_text(server: str, demo_pair: Pair) -> None:
    paths = PairPaths(demo_pair.target, demo_pair.drafter)
    drafted = accepted = 0
    with Session(paths, DraftConfig(3), RuntimeConfig(n_ctx=1024)) as session:
        for text in PROMPTS:
            prompt = session.chat_tokens([{"role": "user", "content": text}])
            request, stream = session.request(prompt, SamplingConfig(temperature=0), max_tokens=100)
            session.engine.generate([request])
            answer = _complete(server, prompt)
            assert answer["content"] == stream.answer
            drafted += answer["timings"]["draft_n"]
            accepted += answer["timings"]["draft_n_accepted"]
    assert 0 < accepted <= drafted
