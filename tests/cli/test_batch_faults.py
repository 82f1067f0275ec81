"""`mtpcli batch` when things go wrong: kills, signals, full disks, two of it at once."""

from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE, Pair
from tests.held import Held

ROWS = 24
Process = subprocess.Popen[bytes]


@dataclass(frozen=True)
class Work:
    """A batch, and what comes out when nobody disturbs it.

    Attributes:
        target: the model's file.
        folder: where the input `in.jsonl` is.
        whole: the undisturbed output.
    """

    target: Path
    folder: Path
    whole: bytes

    def start(self, *arguments: str, **options: Any) -> Process:
        """Start it with `out.jsonl` for output."""
        return start(self.target, self.folder, *arguments, **options)

    def run(self, *arguments: str, **options: Any) -> tuple[int, str, str]:
        """Run it to its end: exit code, stdout, stderr."""
        process = self.start(*arguments, **options)
        stdout, stderr = process.communicate(timeout=PATIENCE)
        assert b"Traceback" not in stderr, stderr
        return process.returncode, stdout.decode(), stderr.decode()

    def hold(self, place: str, calls: int) -> Held:
        """Start it, and let it wait behind so many calls of a function of `Journal`'s."""
        where = ("mtpcli.batch.journal", f"Journal.{place}", calls)
        return Held(where, command(self.target), **pipes(self.folder))

    @property
    def output(self) -> Path:
        return self.folder / "out.jsonl"

    @property
    def journal(self) -> Path:
        return self.folder / "out.jsonl.part"

    def wait_for(self, size: int, process: Process) -> None:
        """Until the journal has so many bytes, or the process has ended."""
        deadline = time.monotonic() + PATIENCE
        while process.poll() is None and time.monotonic() < deadline:
            if self.journal.exists() and self.journal.stat().st_size >= size:
                return
            time.sleep(0.001)


def command(target: Path, *arguments: str) -> list[str]:
    settings = ["-m", str(target), "--threads", "1", "--draft-depth", "2", "-p", "3"]
    given = arguments or ("in.jsonl", "-o", "out.jsonl")
    return ["batch", *given, *settings, "--ctx", "256"]


def pipes(folder: Path, **options: Any) -> dict[str, Any]:
    own = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return {**own, "cwd": folder, **options}


def start(target: Path, folder: Path, *arguments: str, **options: Any) -> Process:
    mtpcli = [sys.executable, "-m", "mtpcli"]
    return subprocess.Popen(mtpcli + command(target, *arguments), **pipes(folder, **options))


def write_input(folder: Path, rows: int = ROWS) -> None:
    """Rows of different lengths, two of them bad, each longer than a few milliseconds."""
    with (folder / "in.jsonl").open("w") as stream:
        for number in range(rows):
            row = {"prompt": f"Tell {number}", "max_tokens": 5 + number * 7 % 20, "id": number}
            if number == 9:
                row = {"prompt": ""}
            stream.write("{broken\n" if number == 15 else json.dumps(row) + "\n")


def undisturbed(target: Path, folder: Path, rows: int) -> bytes:
    """The output of a run to which nothing happens."""
    write_input(folder, rows)
    work = Work(target, folder, b"")
    code, stdout, stderr = work.run()
    assert (code, stdout) == (4, ""), stderr
    assert f"{rows} rows: {rows - 2} answered, 2 failed" in stderr
    return work.output.read_bytes()


@pytest.fixture(scope="module")
def whole(demo_pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return undisturbed(demo_pair.target, tmp_path_factory.mktemp("whole"), ROWS)


@pytest.fixture
def work(demo_pair: Pair, tmp_path: Path, whole: bytes) -> Work:
    write_input(tmp_path)
    return Work(demo_pair.target, tmp_path, whole)


def test_killed_again_and_again_the_result_is_the_same(work: Work) -> None:
    # The first line of a journal is about settings; a later run adds rows to those that are there.
    for lines, lost in ((1, 0.2), (4, 0.0), (9, 0.9), (2, 0.5)):
        with work.hold("_write", lines) as held:
            held.process.kill()
        assert held.process.returncode == -signal.SIGKILL
        # As if the kill had come while the last line was written.
        journal = work.journal.read_bytes()
        last = len(journal.splitlines(keepends=True)[-1])
        os.truncate(work.journal, len(journal) - int(lost * last))
    code, _, said = work.run()
    assert code == 4
    assert "going on: 12 rows are finished already" in said
    assert work.output.read_bytes() == work.whole
    assert sorted(path.name for path in work.folder.iterdir()) == ["in.jsonl", "out.jsonl"]


def kill_and_go_on(work: Work, kills: int, rng: random.Random) -> int:
    """Kill the program at random moments of its work, then let it finish; how many hit it."""
    hit = 0
    # The journal is about as long as the output: moments are places in it, and a little later.
    for target in sorted(rng.uniform(0, len(work.whole)) for _ in range(kills)):
        size = work.journal.stat().st_size if work.journal.exists() else 0
        process = work.start()
        work.wait_for(max(int(target), size + 1), process)
        time.sleep(rng.uniform(0, 0.03))
        process.kill()
        _, stderr = process.communicate(timeout=PATIENCE)
        assert b"Traceback" not in stderr, stderr
        hit += process.returncode == -signal.SIGKILL
        if work.output.exists():
            break
    if not work.output.exists() or work.journal.exists():
        code, _, said = work.run()
        assert code == 4, said
    return hit


@pytest.mark.slow
def test_killed_at_fifty_moments_the_result_is_the_same(demo_pair: Pair, tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    folder.mkdir()
    whole = undisturbed(demo_pair.target, tmp_path, rows=240)
    write_input(folder, rows=240)
    work = Work(demo_pair.target, folder, whole)
    hits = kill_and_go_on(work, 56, random.Random(5))
    print(f"{hits} kills hit the batch")
    assert hits >= 50
    assert work.output.read_bytes() == whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_asked_to_stop_it_says_how_to_go_on(work: Work, number: signal.Signals) -> None:
    with work.hold("add", 12) as held:
        held.process.send_signal(number)
        held.go_on()
        stdout, stderr = held.process.communicate(timeout=PATIENCE)
    assert (held.process.returncode, stdout) == (128 + number, b"")
    said = stderr.decode()
    assert "Traceback" not in said
    assert "rows under way have a few seconds" in said
    assert "interrupted; " in said and "run the same command again" in said
    kept = work.journal.read_bytes().count(b"\n") - 1
    assert f"{kept} finished rows are kept" in said
    code, _, said = work.run()
    assert code == 4
    assert f"going on: {kept} rows are finished already" in said
    assert f"{kept} of them before" in said
    assert work.output.read_bytes() == work.whole


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_dry_run_that_is_asked_to_stop_tells_what_it_has_read(
    work: Work, number: signal.Signals
) -> None:
    place = ("mtpcli.batch.run", "Preparer.read", 5)
    arguments = command(work.target, "in.jsonl", "--dry-run")
    with Held(place, arguments, **pipes(work.folder)) as held:
        held.process.send_signal(number)
        held.go_on()
        stdout, stderr = held.process.communicate(timeout=PATIENCE)
    assert (held.process.returncode, stdout) == (128 + number, b"")
    assert b"5 rows, 0 of them would fail" in stderr


def test_a_changed_input_or_option_is_refused(work: Work) -> None:
    with work.hold("add", 9):
        pass  # and kill it
    kept = work.journal.read_bytes()
    code, stdout, said = work.run("in.jsonl", "-o", "out.jsonl", "--temperature", "0.5")
    assert (code, stdout, said.count("\n")) == (2, "", 1)
    assert "--temperature none, now 0.5" in said and "--restart" in said
    given = (work.folder / "in.jsonl").read_text()
    with (work.folder / "in.jsonl").open("a") as stream:
        stream.write('{"prompt": "one more"}\n')
    code, _, said = work.run()
    assert code == 2 and "the input" in said
    assert work.journal.read_bytes() == kept, "what is finished stays"
    (work.folder / "in.jsonl").write_text(given)
    code, _, said = work.run("in.jsonl", "-o", "out.jsonl", "--restart")
    assert code == 4 and "going on" not in said
    assert work.output.read_bytes() == work.whole


def test_two_on_one_output(work: Work) -> None:
    with work.hold("add", 1) as first:
        code, stdout, said = work.run()
        assert (code, stdout, said.count("\n")) == (2, "", 1)
        assert "another mtpcli batch" in said
        first.go_on()
        first.process.communicate(timeout=PATIENCE)
    assert first.process.returncode == 4
    assert work.output.read_bytes() == work.whole


def limited(size: int) -> Callable[[], None]:
    """No file of the process may grow beyond `size`: its disk is full there."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_full_disk_keeps_what_is_finished(work: Work) -> None:
    code, stdout, said = work.run(preexec_fn=limited(2500))
    assert (code, stdout) == (4, "")
    error = said.splitlines()[-1]
    assert error.startswith("error: cannot write ") and "finished rows are kept in" in error
    assert "run the same command again" in error
    assert not work.output.exists()
    # All rows are finished, and there is no room for the output beside the journal's end.
    code, _, said = work.run(preexec_fn=limited(work.journal.stat().st_size + 10))
    assert code == 4 and "error: cannot write" in said
    code, _, said = work.run()
    assert code == 4 and "going on" in said
    assert work.output.read_bytes() == work.whole


def test_outputs_that_are_no_files(work: Work) -> None:
    code, stdout, said = work.run("in.jsonl", "-o", "/dev/full")
    assert (code, stdout) == (4, "")
    assert said.splitlines()[-1].startswith("error: cannot write /dev/full: No space left")
    code, stdout, _ = work.run("in.jsonl", "-o", "/dev/stdout", "-q")
    assert (code, stdout.encode()) == (4, work.whole)
    assert not Path("/dev/full.part").exists() and not Path("/dev/stdout.part").exists()


def test_a_reader_that_leaves_ends_it_quietly(work: Work) -> None:
    where = ("mtpcli.batch.sinks", "StreamSink._write", 1)
    with Held(where, command(work.target, "in.jsonl", "-q"), **pipes(work.folder)) as held:
        assert held.process.stdout and held.process.stderr
        first = held.process.stdout.readline()
        held.process.stdout.close()
        held.go_on()
        assert first == work.whole.splitlines(keepends=True)[0]
        assert held.process.stderr.read() == b""
        assert held.process.wait(PATIENCE) == 0


def test_nobody_reads_the_messages_and_the_work_goes_on(work: Work) -> None:
    reader, writer = os.pipe()
    process = work.start(stderr=writer)
    os.close(writer)
    os.close(reader)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 4
    assert work.output.read_bytes() == work.whole
