"""A batch on many workers, over a cluster that is a list: who gets which rows, and who dies."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from mtpcli.batch.crew import Crew, CrewError, Facts, Hand, WorkerDied
from mtpcli.batch.job import Job
from mtpcli.batch.ray_cluster import RayCluster, check_address, gpus_per_worker, threads_per_worker
from mtpcli.batch.rows import Row
from mtpcli.batch.run import Run, Totals
from mtpcli.batch.shapes import PlainShape
from mtpcli.batch.sinks import FileSink
from mtpcli.batch.stop import Stop
from mtpcli.config import DraftConfig, RuntimeConfig
from mtpcli.errors import ModelError, UsageError
from mtpcli.session import PairPaths
from tests.batch_fakes import DEFAULTS, FakeBackend

PARALLEL = 2


class FakeCluster:
    """Workers of this process, whose calls are done in any order.

    Attributes:
        hands: all that were ever hired.
        given: the numbers of the rows that each was given.
    """

    def __init__(self, dies: Callable[[str, list[Row]], bool] = lambda method, rows: False) -> None:
        """`dies` says whether a worker dies in a call, with nothing to show for it."""
        self._dies, self._rng = dies, random.Random(3)
        self._results: dict[int, Any] = {}
        self._dead: list[Hand] = []
        self.hands: list[Hand] = []
        self.given: list[list[int]] = []

    def hire(self) -> Hand:
        self.hands.append(Hand(load=lambda job: self.load()))
        self.given.append([])
        return self.hands[-1]

    def load(self) -> FakeBackend:
        return FakeBackend(PARALLEL)

    def call(self, worker: Hand, method: str, argument: Any) -> int:
        assert worker not in self._dead
        ticket = self._rng.getrandbits(60)
        rows = argument if method == "step" else []
        self.given[self.hands.index(worker)] += [row.number for row in rows]
        try:
            self._results[ticket] = getattr(worker, method)(argument)
        except Exception as error:
            self._results[ticket] = error
        if self._dies(method, rows):
            self._results[ticket] = WorkerDied("killed")
        return ticket

    def wait(self, tickets: list[int], seconds: float) -> list[int]:
        return [self._rng.choice(tickets)]

    def result(self, ticket: int) -> Any:
        result = self._results.pop(ticket)
        if isinstance(result, Exception):
            raise result
        return result

    def dismiss(self, worker: Hand) -> None:
        self._dead.append(worker)


def rows(count: int) -> Iterator[Row]:
    """Rows of different lengths; every seventh asks for nothing."""
    for number in range(1, count + 1):
        fields: dict[str, Any] = {"prompt": f"p{number}", "max_tokens": 1 + number * 7 % 12}
        yield Row(number, number, {} if number % 7 == 0 else fields)


class Work:
    """A batch of 40 rows in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        model = folder / "model.gguf"
        model.write_bytes(b"weights")
        self.output = folder / "out.jsonl"
        self.said: list[str] = []
        runtime = RuntimeConfig(n_seq=PARALLEL)
        self.job = Job(PairPaths(model, None), DraftConfig(), runtime, PlainShape(), DEFAULTS)

    def run(
        self,
        cluster: FakeCluster,
        size: int = 3,
        *,
        stop: Stop | None = None,
        fail_fast: bool = False,
        progress: Callable[[Totals], None] = lambda totals: None,
    ) -> tuple[Run, Crew]:
        """Run it until it ends or is told to stop."""
        sink = FileSink(self.output, {"the input": 1}, ordered=True, restart=False)
        try:
            run = Run(rows(40), sink, stop or Stop(), fail_fast=fail_fast)
            crew = Crew(cluster, self.job, size, on_death=self.said.append)
            crew.run(run, progress)
            if run.complete:
                sink.finish()
        finally:
            sink.close()
        return run, crew


@pytest.fixture
def work(tmp_path: Path) -> Work:
    return Work(tmp_path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What one worker in this process makes of the rows."""
    work = Work(tmp_path_factory.mktemp("whole"))
    sink = FileSink(work.output, {"the input": 1}, ordered=True, restart=False)
    run = Run(rows(40), sink, Stop())
    run.run(work.job.worker(FakeBackend(PARALLEL)), lambda totals: None)
    sink.finish()
    return work.output.read_bytes()


class Unlucky(FakeCluster):
    """Its workers' drafters are never right, and those of the second and third worker fail."""

    def load(self) -> FakeBackend:
        backend = FakeBackend(PARALLEL)
        for _ in range(99):
            backend.engine.health.observe(0)
        if len(self.hands) > 1:
            backend.engine.give_up_drafter(ModelError(f"reason {len(self.hands)}"))
        return backend


def test_what_workers_find_out_about_their_drafters_is_told_once(work: Work, whole: bytes) -> None:
    _, crew = work.run(Unlucky(), 3)
    assert work.output.read_bytes() == whole
    first, second = sorted(crew.health.news(), key=lambda notice: "failed" in notice)
    assert first.startswith("worker on ") and "drafts 0 were right" in first
    assert second.startswith("worker on ") and "the drafter failed and is not used any" in second
    assert crew.health.failure in ("reason 2", "reason 3")
    assert second.endswith(crew.health.failure)


@pytest.mark.parametrize("size", [1, 2, 5])
def test_the_result_is_that_of_one(work: Work, whole: bytes, size: int) -> None:
    cluster = FakeCluster()
    run, crew = work.run(cluster, size)
    assert work.output.read_bytes() == whole
    assert (run.totals.done, run.totals.failed, crew.deaths) == (35, 5, 0)
    assert sorted(chain(*cluster.given)) == list(range(1, 41)), "no row twice"
    assert all(cluster.given)
    assert run.totals.stats.accepted > 0


def test_rows_of_a_worker_that_dies_are_handed_out_again(work: Work, whole: bytes) -> None:
    calls = 0

    def dies(method: str, rows: list[Row]) -> bool:
        nonlocal calls
        calls += method == "step"
        return method == "step" and calls in (3, 4, 12)

    cluster = FakeCluster(dies)
    run, crew = work.run(cluster)
    assert work.output.read_bytes() == whole
    assert (crew.deaths, len(cluster.hands), len(work.said)) == (3, 6, 3)
    assert "rows are handed out again: killed" in work.said[0]
    assert run.totals.done + run.totals.failed == 40, "each is counted once"


def test_a_row_that_kills_its_workers_ends_the_batch(work: Work, whole: bytes) -> None:
    deadly = {17}
    cluster = FakeCluster(lambda method, given: any(row.number in deadly for row in given))
    with pytest.raises(CrewError, match=r"3 workers died .*line 17\b"):
        work.run(cluster)
    assert not work.output.exists()
    deadly.clear()
    run, _ = work.run(FakeCluster())
    assert 0 < run.totals.before < 40
    assert work.output.read_bytes() == whole


def test_workers_that_die_before_they_begin(work: Work) -> None:
    with pytest.raises(CrewError, match=r"before they begin \(killed\)"):
        work.run(FakeCluster(lambda method, rows: method == "open"))


def test_one_that_dies_before_it_begins_is_replaced(work: Work, whole: bytes) -> None:
    first = iter([True])
    cluster = FakeCluster(lambda method, rows: method == "open" and next(first, False))
    _, crew = work.run(cluster)
    assert (crew.deaths, work.said) == (1, ["a worker died: killed"])
    assert work.output.read_bytes() == whole


def test_interrupted_it_goes_on_later(work: Work, whole: bytes) -> None:
    stop = Stop(grace=0)

    def progress(totals: Totals) -> None:
        if totals.done >= 10:
            stop.request()

    run, _ = work.run(FakeCluster(), stop=stop, progress=progress)
    assert not run.complete and not work.output.exists()
    again, _ = work.run(FakeCluster())
    assert again.totals.before == run.totals.done + run.totals.failed >= 10
    assert work.output.read_bytes() == whole


def test_fail_fast(work: Work) -> None:
    run, _ = work.run(FakeCluster(), fail_fast=True)
    assert run.stopped_by and run.stopped_by.startswith("line ")
    assert not run.complete and run.totals.failed == 0


def test_workers_must_have_the_same_files(work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Hand.open

    def other(self: Hand, job: Job) -> Facts:
        facts = opened(self, job)
        return Facts("far", {**facts.same, str(job.paths.target): "other"}, None)

    monkeypatch.setattr(Hand, "open", other)
    with pytest.raises(ModelError, match=r"worker on far has another .*model\.gguf"):
        work.run(FakeCluster())


def test_a_worker_without_the_file_says_where(work: Work) -> None:
    def load(job: Job) -> FakeBackend:
        raise ModelError("there is no such file")

    with pytest.raises(ModelError, match=r"worker on \S+: there is no such file"):
        Hand(load).open(work.job)


def test_cores_are_shared_evenly() -> None:
    assert threads_per_worker([8], 2) == 4
    assert threads_per_worker([8, 8], 3) == 4, "5 would leave no machine for the third"
    assert threads_per_worker([2, 16], 3) == 5
    assert threads_per_worker([2], 3) == 0
    assert threads_per_worker([], 1) == 0


def test_gpus_are_shared_too() -> None:
    assert gpus_per_worker([], 3) == 0
    assert gpus_per_worker([8], 2) == 4
    assert gpus_per_worker([1, 1], 2) == 1
    assert gpus_per_worker([1, 3], 7) == 0.5
    assert 7 * gpus_per_worker([1], 7) <= 1, "all seven fit on it"


@pytest.mark.parametrize("address", ["", "here", ":1", "ray://a:1", "a:b", "local:"])
def test_addresses_that_are_none(address: str) -> None:
    with pytest.raises(UsageError, match="neither local nor auto nor HOST:PORT"):
        check_address(address)


def test_without_ray_there_is_a_line_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'mtpcli\[ray\]'"):
        RayCluster("local", 1, 1, 1)
