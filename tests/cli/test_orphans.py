"""Child processes do not outlive the program, however that ends, and leave no file."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from convert import convert_pair
from tests import snapshots
from tests.conftest import PATIENCE, ROOT

# Python runs this first in every process. In ours that are children, llama.cpp stays for ever where
# it logs a certain line. The pipe is open until such a process is gone: a process id would tell
# less, for nobody may ask after an orphan's end, and then it keeps it.
STUCK = """
import sys
if any("from mtpcli." in word for word in sys.orig_argv):
    import ctypes, os, signal
    signal.alarm(1000)  # should the test fail
    pipe = os.open(os.environ["PIPE"], os.O_WRONLY)
    from llama_cpp import llama_cpp
    make = llama_cpp.llama_log_callback
    def stuck(heard):
        def hear(level, text, data):
            heard(level, text, data)
            if os.environ["LINE"].encode() in text:
                os.write(pipe, b".")
                seconds = os.environ["SECONDS"]
                if seconds == "computes":
                    while True:
                        pass
                ctypes.CDLL(None).sleep(int(seconds))
        return make(hear)
    llama_cpp.llama_log_callback = stuck
"""
ENDS = [
    signal.SIGTERM,
    signal.SIGKILL,
    pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    pytest.param(signal.SIGHUP, marks=pytest.mark.slow),
]


class Stuck:
    """A program whose child is in the middle of llama.cpp's work, and stays there."""

    def __init__(self, folder: Path) -> None:
        (folder / "site").mkdir()
        (folder / "site" / "sitecustomize.py").write_text(STUCK)
        os.mkfifo(folder / "pipe")
        self._pipe = os.open(folder / "pipe", os.O_RDONLY | os.O_NONBLOCK)
        self._folder = folder

    def start(
        self, line: str, *command: str | Path, seconds: str = "1000"
    ) -> subprocess.Popen[bytes]:
        """Start it; the child will be stuck where llama.cpp logs a line with `line` in it.

        There it waits for so many seconds, or "computes" for ever.
        """
        folder = self._folder
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=folder,
            env={
                **os.environ,
                "PYTHONPATH": f"{folder / 'site'}:{ROOT}",
                "PYTHONDONTWRITEBYTECODE": "1",  # the folder's files are compared
                "XDG_CACHE_HOME": str(folder / "cache"),
                "MTPCLI_TRUST_FILES": "",
                "PIPE": str(folder / "pipe"),
                "LINE": line,
                "SECONDS": seconds,
            },
        )

    def wait(self) -> bytes:
        """A byte when the child is stuck, none when it is gone."""
        assert select.select([self._pipe], [], [], PATIENCE)[0], "nothing happens"
        return os.read(self._pipe, 1)

    def close(self) -> None:
        os.close(self._pipe)


@pytest.fixture
def stuck(tmp_path: Path) -> Iterator[Stuck]:
    stuck = Stuck(tmp_path)
    yield stuck
    stuck.close()


@pytest.mark.parametrize("number", ENDS)
def test_a_quantiser_ends_with_its_conversion(
    stuck: Stuck, tmp_path: Path, number: signal.Signals
) -> None:
    source, out = snapshots.write_target(tmp_path / "small"), tmp_path / "out"
    convert = ("-m", "mtpcli", "convert", source, "-o", out, "--outtype", "q4_k_m")
    process = stuck.start("[   5/", *convert)
    assert stuck.wait()
    (unfinished,) = out.iterdir()
    assert list(unfinished.glob("*.quantised"))
    process.send_signal(number)
    assert process.communicate(timeout=PATIENCE) == (b"", b"")
    assert process.returncode == (-number if number == signal.SIGKILL else 128 + number)
    assert not stuck.wait()
    if number == signal.SIGKILL:
        # Who is killed cannot tidy up: the next one in this folder does.
        assert list(out.iterdir()) == [unfinished]
        convert_pair(source, None, out, "q8_0")
        assert [path.name for path in out.iterdir()] == ["small-Q8_0.gguf"]
    else:
        assert not out.exists()


@pytest.mark.parametrize("number", ENDS)
def test_the_try_of_a_file_ends_with_the_one_who_asked(
    stuck: Stuck, tmp_path: Path, number: signal.Signals
) -> None:
    model = convert_pair(snapshots.write_target(tmp_path / "small"), None, tmp_path, "q8_0")[0]
    before = sorted(tmp_path.rglob("*"))
    process = stuck.start("llama_model_loader", "-m", "mtpcli", "generate", "Hi", "-m", model)
    assert stuck.wait()
    process.send_signal(number)
    assert process.communicate(timeout=PATIENCE) == (b"", b"")
    # By the signal itself where nothing is to be put away.
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert not stuck.wait()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("patience", "seconds"), [("_PATIENCE = trial._SAFETY_NET", "1000"), ("_PATIENCE", "computes")]
)
def test_a_file_that_llama_cpp_does_not_get_done_with(
    stuck: Stuck, tmp_path: Path, patience: str, seconds: str
) -> None:
    model = convert_pair(snapshots.write_target(tmp_path / "small"), None, tmp_path, "q8_0")[0]
    before = sorted(tmp_path.rglob("*"))
    code = f"from mtpcli import __main__, trial\ntrial.{patience} = 1\n__main__.main()"
    command: list[str | Path] = ["-c", code, "generate", "Hi", "-m", model]
    process = stuck.start("llama_model_loader", *command, seconds=seconds)
    stdout, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stdout) == (3, b"")
    said = f"error: llama.cpp does not get done with {model}: is it damaged?\n"
    assert stderr.decode() == said
    while stuck.wait():  # it was stuck, and is gone
        pass
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.slow
def test_a_machine_that_is_paused_makes_no_file_a_damaged_one(stuck: Stuck, tmp_path: Path) -> None:
    model = convert_pair(snapshots.write_target(tmp_path / "small"), None, tmp_path, "q8_0")[0]
    code = "from mtpcli import __main__, trial\ntrial._PATIENCE = 5\n__main__.main()"
    options = ["--raw", "-n", "2", "--threads", "1", "--ctx", "64"]
    command: list[str | Path] = ["-c", code, "generate", "a", "-m", model, *options]
    process = stuck.start("loaded meta data", *command, seconds="8")
    _, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stderr) == (0, b"")


def test_children_run_nothing_of_the_current_folder(tmp_path: Path) -> None:
    model = convert_pair(snapshots.write_target(tmp_path / "small"), None, tmp_path, "q8_0")[0]
    for name in ("hashlib", "json", "numpy", "mtpcli"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w')")
    # As the installed command does: the current folder is not where it looks for modules.
    code = f"import sys; sys.path[0] = {str(ROOT)!r}; from mtpcli.__main__ import main; main()"
    options = ["-m", str(model), "--raw", "-n", "2", "--threads", "1", "--ctx", "64"]
    done = subprocess.run(
        [sys.executable, "-c", code, "generate", "a", *options],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        cwd=tmp_path,
        env={
            **os.environ,
            "XDG_CACHE_HOME": str(tmp_path / "cache"),
            "MTPCLI_TRUST_FILES": "",
        },
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert len(list(tmp_path.glob("cache/mtpcli/tried/*"))) == 1
    assert not (tmp_path / "ran").exists()
