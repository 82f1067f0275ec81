"""A batch on a Ray cluster, with workers, machines and the command itself killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Pair

pytestmark = pytest.mark.ray
ROWS = 60
LOCAL = ("--ray", "local", "--workers", "2")


class Work:
    """A batch, and what it gives without Ray."""

    def __init__(self, folder: Path, target: Path) -> None:
        self.folder, self._target = folder, target
        self.output, self.journal = folder / "out.jsonl", folder / "out.jsonl.part"
        with (folder / "in.jsonl").open("w") as stream:
            for number in range(ROWS):
                row = {"prompt": f"Tell {number}", "max_tokens": 20 + number * 7 % 40}
                stream.write("{broken\n" if number == 15 else json.dumps(row) + "\n")

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start it in a process group of its own, as a shell does."""
        return subprocess.Popen(
            [
                *(sys.executable, "-m", "mtpcli", "batch", "in.jsonl", "-o", "out.jsonl"),
                *("-m", str(self._target), "--threads", "1", "-p", "3", "--ctx", "256"),
                *arguments,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            cwd=self.folder,
            start_new_session=True,
        )

    def wait_for(self, rows: int, process: subprocess.Popen[bytes]) -> None:
        """Until the journal has so many rows, or the process has ended."""
        until(
            lambda: (
                process.poll() is not None
                or (self.journal.exists() and self.journal.read_bytes().count(b"\n") > rows)
            )
        )

    def end(self, process: subprocess.Popen[bytes]) -> tuple[int, str]:
        """Exit code and what it said; stdout stays empty, and nothing is left behind."""
        stdout, stderr = process.communicate(timeout=240)
        assert stdout == b"" and b"Traceback" not in stderr, stderr
        return process.returncode, stderr.decode()


def until(condition: Callable[[], bool], seconds: float = 120) -> None:
    """Wait for something that happens soon."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.01)


def below(pid: int) -> dict[int, str]:
    """Processes that a process started, and those that they started: command lines by id."""
    parents, lines = {}, {}
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                stat = (path / "stat").read_text()
                line = (
                    (path / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                )
            except OSError:
                continue
            state, parent = stat.rpartition(")")[2].split()[:2]
            if state != "Z":
                parents[int(path.name)], lines[int(path.name)] = int(parent), line
    found: dict[int, str] = {}
    grown = True
    while grown:
        more = {pid_ for pid_, parent in parents.items() if parent in {pid, *found}} - set(found)
        found |= {pid_: lines[pid_] for pid_ in more}
        grown = bool(more)
    return found


def alive(pids: Iterable[int]) -> list[int]:
    """Those of some processes that have not ended."""
    left = []
    for pid in pids:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if state != "Z":
            left.append(pid)
    return left


def workers(pid: int) -> list[int]:
    """The process's workers that have begun to work."""
    return [worker for worker, line in below(pid).items() if line.startswith("ray::Hand")]


@pytest.fixture(scope="module")
def whole(demo_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    work = Work(tmp_path_factory.mktemp("whole"), demo_pair.target)
    code, said = work.end(work.start())
    assert code == 4, said
    return work.output.read_bytes()


@pytest.fixture
def work(demo_pair: Pair, tmp_path: Path) -> Work:
    return Work(tmp_path, demo_pair.target)


def test_with_a_worker_killed_the_result_is_the_same(work: Work, whole: bytes) -> None:
    process = work.start(*LOCAL)
    work.wait_for(10, process)
    victim, *_ = workers(process.pid)
    os.kill(victim, signal.SIGKILL)
    code, said = work.end(process)
    assert code == 4
    assert "2 workers on Ray, 1 threads each" in said
    assert said.count("died; its ") == 1 and "rows are handed out again" in said
    assert f"{ROWS} rows: {ROWS - 1} answered, 1 failed" in said
    assert "mtp: " in said
    assert work.output.read_bytes() == whole
    assert sorted(path.name for path in work.folder.iterdir()) == ["in.jsonl", "out.jsonl"]


def test_ctrl_c_leaves_no_process_and_the_next_run_goes_on(work: Work, whole: bytes) -> None:
    process = work.start(*LOCAL)
    work.wait_for(10, process)
    started = below(process.pid)
    assert len(workers(process.pid)) == 2
    os.killpg(process.pid, signal.SIGINT)  # a terminal's Ctrl-C reaches the whole group
    code, said = work.end(process)
    assert code == 130
    assert "finished rows are kept" in said and "died" not in said
    until(lambda: not alive(started), 10)
    # Where the next run generates makes no difference.
    code, said = work.end(work.start())
    assert code == 4 and "rows are finished already" in said
    assert work.output.read_bytes() == whole


def test_ctrl_c_while_ray_starts(work: Work) -> None:
    process = work.start(*LOCAL)
    until(lambda: any("raylet" in line for line in below(process.pid).values()))
    started = below(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    code, _ = work.end(process)
    assert code == 130
    # Ray's own helpers look after their parent once a minute or so.
    until(lambda: not alive(started), 180)
    assert not work.output.exists()


def test_killed_itself_it_leaves_no_process(work: Work, whole: bytes) -> None:
    process = work.start(*LOCAL)
    work.wait_for(10, process)
    started, at_work = below(process.pid), workers(process.pid)
    process.kill()
    process.communicate()
    # The workers at once, Ray's helpers later.
    until(lambda: not alive(at_work), 30)
    until(lambda: not alive(started), 180)
    code, said = work.end(work.start(*LOCAL))
    assert code == 4 and "rows are finished already" in said
    assert work.output.read_bytes() == whole


@pytest.fixture
def cluster() -> Iterator[Any]:
    """A cluster of two machines, as far as Ray can tell."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    # The head's own node generates nothing.
    node = {"object_store_memory": 80 << 20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "num_cpus": 0})
    yield cluster, [cluster.add_node(num_cpus=1, object_store_memory=80 << 20) for _ in range(2)]
    cluster.shutdown()


def test_a_machine_of_a_cluster_is_lost(work: Work, whole: bytes, cluster: Any) -> None:
    cluster, machines = cluster
    process = work.start("--ray", cluster.address)
    work.wait_for(10, process)
    cluster.remove_node(machines[0], allow_graceful=False)
    cluster.add_node(num_cpus=1, object_store_memory=80 << 20)
    code, said = work.end(process)
    assert code == 4, said
    assert "2 workers on Ray" in said and "rows are handed out again" in said
    assert work.output.read_bytes() == whole


def test_more_workers_than_the_cluster_has_room_for(work: Work, cluster: Any) -> None:
    cluster, _ = cluster
    code, said = work.end(work.start("--ray", cluster.address, "--workers", "3"))
    assert code == 2
    assert said.splitlines()[-1].startswith("error: the cluster has 1 + 1 cores: too few for 3")


def test_a_cluster_that_is_not_there(work: Work) -> None:
    code, said = work.end(work.start("--ray", "127.0.0.1:9"))
    assert code == 2 and "error: no Ray cluster at 127.0.0.1:9" in said
