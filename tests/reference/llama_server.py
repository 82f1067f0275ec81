"""A llama-server process, and completions by it."""

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

_SECONDS_TO_LOAD = 300


@contextlib.contextmanager
def running(server: Path, log: Path, *arguments: str | Path) -> Iterator[str]:
    """The address of a server with these arguments, ready and on a port of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [server, *arguments, "--host", "127.0.0.1", "--port", str(port), "--no-webui"]
    with log.open("wb") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            address = f"http://127.0.0.1:{port}"
            _wait_until_ready(address, process, log)
            yield address
        finally:
            process.terminate()


def _wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(10 * _SECONDS_TO_LOAD):
        if process.poll() is not None:
            raise RuntimeError(f"llama-server ended: {log.read_text(errors='replace')[-3000:]}")
        with contextlib.suppress(urllib.error.URLError, ConnectionError):
            if urllib.request.urlopen(f"{address}/health").status == 200:
                return
        time.sleep(0.1)
    raise TimeoutError("llama-server does not get ready")


def complete(address: str, tokens: list[int], **settings: Any) -> dict[str, Any]:
    """The server's answer to a prompt of token ids."""
    body = {"prompt": tokens, "return_tokens": True, **settings}
    request = urllib.request.Request(
        f"{address}/completion",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request) as answer:
        result: dict[str, Any] = json.load(answer)
    return result
