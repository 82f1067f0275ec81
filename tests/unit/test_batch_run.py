"""Runs of a batch over a fake engine: order, interruption, memory."""

from __future__ import annotations

import io
import json
import random
import signal
import tracemalloc
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mtpcli.batch import journal as journal_module
from mtpcli.batch.journal import OutputError
from mtpcli.batch.rows import Row
from mtpcli.batch.run import Run, Totals, survey
from mtpcli.batch.shapes import PlainShape, Shape
from mtpcli.batch.sinks import FileSink, FolderSink, Sink, StreamSink
from mtpcli.batch.stop import Stop
from mtpcli.batch.worker import Defaults, Preparer, Worker
from mtpcli.errors import InputError, UsageError
from tests.batch_fakes import DEFAULTS, FakeBackend

SHAPE = PlainShape()


def rows(count: int, bad: Iterable[int] = ()) -> Iterator[Row]:
    """Rows of different lengths; those in `bad` ask for nothing."""
    for number in range(1, count + 1):
        fields: dict[str, Any] = {"prompt": f"p{number}", "max_tokens": 1 + number * 7 % 12}
        yield Row(number, number, {} if number in bad else fields)


def go(
    sink: Sink,
    given: Iterable[Row],
    *,
    n_seq: int = 3,
    stop: Stop | None = None,
    fail_fast: bool = False,
    defaults: Defaults = DEFAULTS,
) -> Run:
    """Run a batch to its end, or until it is told to stop."""
    backend = FakeBackend(n_seq)
    run = Run(iter(given), sink, stop or Stop(), fail_fast=fail_fast)
    try:
        run.run(worker(backend, defaults), lambda totals: None)
        if run.complete:
            sink.finish()
    finally:
        sink.close()
    return run


def worker(backend: FakeBackend, defaults: Defaults = DEFAULTS, shape: Shape = SHAPE) -> Worker:
    """A worker that answers in a shape."""
    return Worker(Preparer(backend, SHAPE, defaults), shape, backend.engine)


def file_sink(path: Path, *, ordered: bool = True, restart: bool = False) -> FileSink:
    return FileSink(path, {"the input": 1}, ordered=ordered, restart=restart)


def records(data: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in data.splitlines()]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The output of 20 rows, two of them bad, without an interruption."""
    path = tmp_path_factory.mktemp("whole") / "out.jsonl"
    go(file_sink(path), rows(20, bad=(3, 11)))
    return path.read_bytes()


def test_order_is_kept_and_every_row_answered(whole: bytes) -> None:
    found = records(whole)
    assert [record["line"] for record in found] == list(range(1, 21))
    assert [record["line"] for record in found if "error" in record] == [3, 11]
    answers = [record["response"] for record in found if "response" in record]
    assert len({answer["seed"] for answer in answers}) == 18
    assert {answer["finish_reason"] for answer in answers} <= {"stop", "length"}


@pytest.mark.parametrize("n_seq", [1, 2, 5])
def test_the_result_does_not_depend_on_how_many_run_at_once(
    whole: bytes, tmp_path: Path, n_seq: int
) -> None:
    go(file_sink(tmp_path / "out"), rows(20, bad=(3, 11)), n_seq=n_seq)
    assert (tmp_path / "out").read_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_as_finished_has_the_same_records(whole: bytes, tmp_path: Path) -> None:
    go(file_sink(tmp_path / "out", ordered=False), rows(20, bad=(3, 11)))
    found = (tmp_path / "out").read_bytes()
    assert found != whole
    assert sorted(found.splitlines()) == sorted(whole.splitlines())


def test_a_row_that_was_finished_is_not_generated_again(whole: bytes, tmp_path: Path) -> None:
    path = tmp_path / "out"
    stop = Stop(grace=0)

    def stopping() -> Iterator[Row]:
        for row in rows(20, bad=(3, 11)):
            if row.number == 13:
                stop.request()
            yield row

    first = go(file_sink(path), stopping(), stop=stop)
    assert not first.complete and not path.exists()
    second = go(file_sink(path), rows(20, bad=(3, 11)))
    assert second.complete
    assert second.totals.before == first.totals.done + first.totals.failed > 5
    assert second.totals.before + second.totals.done + second.totals.failed == 20
    assert path.read_bytes() == whole


class Crash(BaseException):
    """The process is gone."""


def test_a_crash_at_any_write_changes_nothing(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = journal_module.os.write
    rng = random.Random(5)
    left = 0

    def write(fd: int, data: memoryview) -> int:
        nonlocal left
        left -= 1
        if left < 0:
            # A part of the line, perhaps none, perhaps all of it.
            real(fd, data[: rng.randrange(len(data) + 1)])
            raise Crash
        return real(fd, data)

    monkeypatch.setattr(journal_module.os, "write", write)
    for start in range(12):
        path = tmp_path / f"out{start}"
        for crash in range(100):
            left = start if crash == 0 else rng.randrange(6)
            try:
                go(file_sink(path), rows(20, bad=(3, 11)))
            except Crash:
                assert not path.exists()
                continue
            break
        assert path.read_bytes() == whole
        assert not Path(f"{path}.part").exists()


def test_a_crash_while_the_result_is_put_in_order(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    for at, name in enumerate(("fsync", "unlink")):

        def crash(*_args: Any, **_options: Any) -> None:
            raise Crash

        with monkeypatch.context() as patch:
            if name == "fsync":
                patch.setattr("mtpcli.batch.sinks.os.fsync", crash)
            else:  # the result is there, the journal is too
                patch.setattr("mtpcli.batch.journal.Path.unlink", crash)
            with pytest.raises(Crash):
                go(file_sink(path), rows(20, bad=(3, 11)))
        assert path.exists() == bool(at)
        run = go(file_sink(path), rows(20, bad=(3, 11)))
        assert (run.totals.before, run.totals.done) == (20, 0)
        assert path.read_bytes() == whole
        path.unlink()


def test_a_full_disk_keeps_what_is_finished(
    whole: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    real, room = journal_module.os.write, 600

    def write(fd: int, data: memoryview) -> int:
        nonlocal room
        taken = min(room, len(data))
        room -= taken
        if not taken:
            raise OSError(28, "No space left on device")
        return real(fd, data[:taken])

    with monkeypatch.context() as patch:
        patch.setattr(journal_module.os, "write", write)
        with pytest.raises(OutputError, match=r"out\.part: No space left"):
            go(file_sink(path), rows(20, bad=(3, 11)))
    run = go(file_sink(path), rows(20, bad=(3, 11)))
    assert 0 < run.totals.before < 20
    assert path.read_bytes() == whole


def test_an_output_that_exists_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("mine")
    with pytest.raises(UsageError, match="exists already"):
        file_sink(path)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    (tmp_path / "link").hardlink_to(path)
    go(file_sink(path, restart=True), rows(3))
    assert len(records(path.read_bytes())) == 3
    assert (tmp_path / "link").read_text() == "mine", "it was renamed, not written over"


def test_a_moment_for_what_is_under_way(tmp_path: Path) -> None:
    now = 0.0
    stop = Stop(grace=5, clock=lambda: now)
    backend = FakeBackend(2)
    sink = file_sink(tmp_path / "out")
    defaults = replace(DEFAULTS, max_tokens=30)
    given = (Row(number, number, {"prompt": f"p{number}"}) for number in range(1, 10))
    run = Run(given, sink, stop)

    def progress(totals: Totals) -> None:
        nonlocal now
        stop.request()
        now += 0.1

    run.run(worker(backend, defaults), progress)
    # The two that had begun are finished, and no other has begun.
    assert run.totals.done == 2 == backend.requests
    assert not run.complete
    sink.close()


def test_when_the_moment_is_over_rows_under_way_are_left(tmp_path: Path) -> None:
    stop = Stop(grace=0)
    stop.request()
    run = go(file_sink(tmp_path / "out"), rows(9), stop=stop)
    assert (run.totals.done, run.complete) == (0, False)
    assert list(tmp_path.iterdir()) == [], "nothing to keep, nothing left"


def test_fail_fast_stops_and_comes_to_the_same_row_again(tmp_path: Path) -> None:
    path = tmp_path / "out"
    run = go(file_sink(path), rows(20, bad=(6,)), fail_fast=True)
    assert run.stopped_by == "line 6: there is no prompt and no messages"
    assert not run.complete and run.totals.failed == 0
    again = go(file_sink(path), rows(20, bad=(6,)), fail_fast=True)
    assert again.stopped_by == run.stopped_by
    assert go(file_sink(path), rows(20, bad=(6,))).complete
    assert len(records(path.read_bytes())) == 20


def test_rows_that_cannot_be_used() -> None:
    given = [
        Row(1, 1, {}, "is not JSON"),
        Row(2, 2, {"prompt": " "}),
        Row(3, 3, {"prompt": "x" * 64}),
        Row(4, 4, {"prompt": "refuse this"}),
        Row(5, 5, {"prompt": "good"}),
    ]
    stream = io.BytesIO()
    run = go(StreamSink(stream, "stream", ordered=True), given)
    messages = [record.get("error", {}).get("message") for record in records(stream.getvalue())]
    assert [bool(message) for message in messages] == [True, True, True, True, False]
    assert "65 tokens and the context 64" in messages[2]
    assert "template" in messages[3]
    assert run.complete and run.totals.failed == 4


def test_a_rows_own_settings_come_first() -> None:
    backend = FakeBackend()
    defaults = replace(DEFAULTS, system="Be kind.", stops=("z",))
    preparer = Preparer(backend, SHAPE, defaults)
    own = {"max_tokens": 2, "temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": 8, "stop": ["y"]}
    request = preparer.flight(Row(1, 1, {"prompt": "p", **own})).request
    assert request.max_tokens == 2
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.seed) == (0.5, 0.9, 3, 8)
    assert request.prompt == backend.chat_tokens([{"role": "user", "content": "Be kind.p"}])
    # A conversation with a system message of its own keeps it.
    messages = [{"role": "system", "content": "Own."}, {"role": "user", "content": "p"}]
    request = preparer.flight(Row(1, 1, {"messages": messages})).request
    assert request.prompt == backend.chat_tokens([{"role": "user", "content": "Own.p"}])
    assert request.max_tokens == DEFAULTS.max_tokens
    assert not request.reuse


def test_schemas_are_compiled_once() -> None:
    backend = FakeBackend()
    preparer = Preparer(backend, SHAPE, replace(DEFAULTS, grammar='root ::= "a"'))
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    for number in range(1, 4):
        assert preparer.flight(Row(number, 1, {"prompt": "p", "schema": schema})).request.constraint
        assert preparer.flight(Row(number, 1, {"prompt": "p"})).request.constraint
    assert len(backend.grammars) == 2
    with pytest.raises(InputError):
        preparer.flight(Row(1, 1, {"prompt": "p", "schema": {"type": "nonsense"}}))
    with pytest.raises(InputError, match="thinking"):
        thinking = Preparer(backend, SHAPE, replace(DEFAULTS, thinking=True))
        thinking.flight(Row(1, 1, {"prompt": "p", "schema": schema}))


def test_a_slow_row_holds_back_those_far_behind_it() -> None:
    class Watching(StreamSink):
        window = 10
        widest = 0

        def add(self, entry: Any) -> None:
            super().add(entry)
            self.widest = max(self.widest, len(self._early))

    stream = io.BytesIO()
    sink = Watching(stream, "stream", ordered=True)
    slow = Row(1, 1, {"prompt": "slow", "max_tokens": 50, "temperature": 0})
    fast = (Row(number, number, {"prompt": "p", "max_tokens": 1}) for number in range(2, 200))
    assert go(sink, [slow, *fast]).complete
    assert 0 < sink.widest < 10
    assert [record["line"] for record in records(stream.getvalue())] == list(range(1, 200))


def texts(count: int, bad: Iterable[int] = ()) -> Iterator[Row]:
    for number in range(1, count + 1):
        fields = {"file": f"{number % 2}/t{number}.txt", "prompt": f"p{number}"}
        yield Row(number, None, fields, "is empty" if number in bad else None)


def test_a_folder_of_answers(tmp_path: Path) -> None:
    shape = PlainShape(files=True)

    def fill(folder: Path, until: int | None = None) -> None:
        backend = FakeBackend()
        names = [row.fields["file"] for row in texts(9)]
        sink = FolderSink(folder, names, {"the input": 1}, restart=False)
        stop = Stop(grace=0)
        run = Run(texts(9, bad=(4,)), sink, stop)

        def progress(totals: Totals) -> None:
            if until is not None and totals.done >= until:
                stop.request()

        run.run(worker(backend, shape=shape), progress)
        if run.complete:
            sink.finish()
        sink.close()

    fill(tmp_path / "a")
    fill(tmp_path / "b", until=3)
    assert (tmp_path / "b" / ".mtpcli-batch.part").exists()
    # Killed after the journal's line and before the file was written.
    next((tmp_path / "b").rglob("*.txt")).unlink()
    fill(tmp_path / "b")

    def content(folder: Path) -> dict[str, bytes]:
        files = (path for path in folder.rglob("*") if path.is_file())
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}

    found = content(tmp_path / "a")
    assert content(tmp_path / "b") == found
    assert len(found) == 9 and "0/t4.txt" not in found
    assert json.loads(found["errors.jsonl"])["error"] == {"message": "is empty"}
    with pytest.raises(UsageError, match="exists already"):
        fill(tmp_path / "a")


def test_memory_does_not_grow_with_the_rows(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        given = (
            Row(number, number, {"prompt": "p" + "x" * (number % 20), "max_tokens": 1})
            for number in range(1, count + 1)
        )
        sink = file_sink(tmp_path / f"out{count}")
        tracemalloc.start()
        go(sink, given)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert (tmp_path / f"out{count}").read_bytes().count(b"\n") == count
        return highest

    peak(50)
    assert peak(1500) < peak(150) + 50_000


def test_a_dry_run_counts() -> None:
    backend = FakeBackend()
    failures: list[str] = []
    found = survey(
        Preparer(backend, SHAPE, DEFAULTS),
        rows(20, bad=(3,)),
        Stop(),
        lambda row, message: failures.append(row.place),
        lambda _: None,
    )
    assert (found.rows, found.failed, found.longest) == (20, 1, 4)
    assert found.prompt_tokens == 8 * 3 + 11 * 4
    assert failures == ["line 3"]
    assert backend.target.decodes == [] and backend.requests == 0


def test_signals_ask_to_stop_and_the_second_interrupts() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Stop() as stop:
        assert not stop.requested
        signal.raise_signal(signal.SIGTERM)
        assert stop.requested and not stop.expired
        assert stop.signal is signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_signals_that_are_ignored_stay_so() -> None:
    # As under nohup.
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Stop() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop.requested
    finally:
        signal.signal(signal.SIGHUP, before)
