"""A model spread over two RPC servers on loopback: the same text, and servers that die."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from convert import convert_pair
from tests import snapshots
from tests.conftest import ROOT, Pair, Result

pytestmark = pytest.mark.rpc
Run = Callable[..., Result]
COMMON = ("--threads", "1", "--ctx", "256")


def start(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "mtpcli", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        **options,
    )


def start_server() -> tuple[subprocess.Popen[bytes], str]:
    """A server that listens, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    process = start("rpc-server", "--port", str(port), "--threads", "1")
    assert process.stderr and process.stdout
    os.set_blocking(process.stdout.fileno(), False)
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return process, f"127.0.0.1:{port}"
        time.sleep(0.05)
    raise AssertionError(process.communicate())


def end_server(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def servers() -> Iterator[list[str]]:
    """Addresses of two servers."""
    started = [start_server() for _ in range(2)]
    yield [address for _, address in started]
    for process, _ in started:
        end_server(process)


@pytest.fixture
def mortal() -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server of one's own, to be killed."""
    process, address = start_server()
    yield process, address
    end_server(process)


def generated(run_cli: Run, pair: Pair, *arguments: str) -> dict[str, Any]:
    """What `generate --json` says of the text and the drafts."""
    result = run_cli(
        *("generate", "Tell me a story", "-m", pair.target, "-n", "50", "--json", *COMMON),
        *arguments,
    )
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    return {name: found[name] for name in ("text", "tokens", "speculation")}


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("drafts", [("--no-draft",), ("--draft-depth", "3")])
@pytest.mark.parametrize("temperature", ["0", "1"])
def test_the_text_is_the_local_one(
    run_cli: Run, demo_pair: Pair, servers: list[str], count: int, drafts: Any, temperature: str
) -> None:
    given = (*drafts, "--temperature", temperature, "--seed", "7")
    local = generated(run_cli, demo_pair, *given)
    there = generated(run_cli, demo_pair, *given, "--rpc", ",".join(servers[:count]))
    assert there == local
    assert local["text"]
    if "--no-draft" not in drafts:
        assert local["speculation"]["accepted"] > 10


@pytest.mark.parametrize("shared", [0, 2], ids=["cells at the end", "cells at the beginning"])
@pytest.mark.parametrize("head", [True, False], ids=["ordered head", "dense head"])
def test_the_drafter_finds_its_cells_on_either_server(
    tmp_path: Path,
    servers: list[str],
    shared: int,
    head: bool,
    in_subprocess: Callable[[str], None],
) -> None:
    config = {**snapshots.TARGET_CONFIG, "num_kv_shared_layers": shared}
    config["use_double_wide_mlp"] = bool(shared)
    target = snapshots.write_snapshot(tmp_path / "t", config, snapshots.target_tensors(config))
    drafter = snapshots.write_snapshot(
        tmp_path / "d", snapshots.DRAFTER_CONFIG, snapshots.drafter_tensors()
    )
    files = convert_pair(target, drafter, tmp_path, "f16")
    in_subprocess(f"""
        from pathlib import Path
        from mtpcli.config import DraftConfig, RuntimeConfig, SamplingConfig
        from mtpcli.session import PairPaths, Session

        paths = PairPaths(*map(Path, {list(map(str, files))}))

        def drafted(rpc):
            runtime = RuntimeConfig(n_ctx=256, threads=1, rpc=rpc)
            with Session(paths, DraftConfig(3, {head}), runtime) as session:
                prompt = session.raw_tokens("ab ab caf\\u00e9")
                request, _ = session.request(prompt, SamplingConfig(seed=4), max_tokens=60)
                sequence = session.engine.generate([request])[0]
                return sequence.tokens, sequence.stats.drafted, sequence.stats.accepted

        local = drafted(())
        assert local[1] > 0
        assert drafted({tuple(servers)}) == local
    """)


def test_a_chat_and_a_batch(
    run_cli: Run, demo_pair: Pair, servers: list[str], tmp_path: Path
) -> None:
    rpc = ("--rpc", ",".join(servers))
    given = ("chat", "-m", demo_pair.target, "--seed", "5", *COMMON)
    lines = "What is 12 + 7?\nAnd 3 + 4?\n"
    local, there = run_cli(*given, stdin=lines), run_cli(*given, *rpc, stdin=lines)
    assert (there.exit_code, there.stdout) == (0, local.stdout)
    rows = "".join(json.dumps({"prompt": f"Tell {n}", "max_tokens": 30}) + "\n" for n in range(12))
    (tmp_path / "in.jsonl").write_text(rows)
    batch = ("batch", "in.jsonl", "-m", demo_pair.target, *COMMON)
    local, there = run_cli(*batch), run_cli(*batch, *rpc)
    assert (there.exit_code, there.stdout) == (0, local.stdout)


def test_a_server_killed_in_the_middle(
    demo_pair: Pair, servers: list[str], mortal: Any, tmp_path: Path
) -> None:
    server, address = mortal
    rows = "".join(json.dumps({"prompt": f"Tell {n}", "max_tokens": 60}) + "\n" for n in range(40))
    (tmp_path / "in.jsonl").write_text(rows)
    given = ("batch", "in.jsonl", "-o", "out.jsonl", "-m", str(demo_pair.target), *COMMON)
    process = start(*given, "--rpc", f"{servers[0]},{address}", cwd=tmp_path)
    journal = tmp_path / "out.jsonl.part"
    while process.poll() is None and not (
        journal.exists() and journal.read_bytes().count(b"\n") > 4
    ):
        time.sleep(0.01)
    server.send_signal(signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stdout) == (3, b"")
    last = stderr.decode().splitlines()[-1]
    assert last == (
        f"error: lost the RPC server {address}: start it again, then run the command again"
    )
    # What was finished is kept, and a run without the server goes on.
    again = start(*given, "--rpc", servers[0], cwd=tmp_path)
    _, stderr = again.communicate(timeout=120)
    assert b"rows are finished already" not in stderr, "another number of servers is another run"
    assert again.returncode == 2 and b"--rpc 2, now 1" in stderr


def test_servers_that_cannot_be_used(run_cli: Run, demo_pair: Pair, servers: list[str]) -> None:
    given = ("generate", "Hi", "-m", demo_pair.target, *COMMON)
    result = run_cli(*given, "--rpc", f"{servers[0]},127.0.0.1:9")
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert result.stderr.startswith("error: no RPC server at 127.0.0.1:9 (")
    host, port = servers[0].split(":")
    with socket.create_connection((host, int(port))):  # the one client that a server serves
        result = run_cli(*given, "--rpc", servers[0])
    assert result.exit_code == 2 and "busy with another client" in result.stderr
    result = run_cli("rpc-server", "--port", port)
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use" in result.stderr
