"""`mtpcli convert` on a full disk and when it is told to end: no file, or a whole one."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from convert import convert_model
from tests import snapshots
from tests.conftest import PATIENCE, Result


@pytest.mark.parametrize("there", [True, False])
def test_full_disk(tmp_path: Path, there: bool) -> None:
    source, out = snapshots.write_target(tmp_path / "small"), tmp_path / "new" / "out"
    if there:
        out.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-m", "mtpcli", "convert", str(source), "-o", str(out)],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        # Python ignores the signal that comes with it, and sees an error as on a full disk.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    # A folder that was there stays, one that was made goes.
    assert (out.exists(), (tmp_path / "new").exists()) == (there, there)
    assert not there or list(out.iterdir()) == []


def test_where_something_stands_another_name_is_wanted(
    run_here: Callable[..., Result], tmp_path: Path
) -> None:
    source = snapshots.write_target(tmp_path / "small")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "small-Q8_0.gguf").write_text("mine")
    for out, says in (("/dev/null", "is no folder"), ("out", "exists already; use --force")):
        done = run_here("convert", source, "-o", out, "--outtype", "q8_0")
        assert (done.exit_code, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
        assert says in done.stderr
    assert (tmp_path / "out" / "small-Q8_0.gguf").read_text() == "mine"


# The writer waits with half a file until a line comes.
STALL = """
import sys
from convert import writer
from mtpcli.__main__ import main

pad = writer._pad

def stall(file):
    pad(file)
    file.flush()
    print("under way", flush=True)
    if not sys.stdin.readline():
        sys.exit("the test is over")

writer._pad = stall
main()
"""


def start(source: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    """A conversion that is under way."""
    process = subprocess.Popen(
        [sys.executable, "-c", STALL, "convert", str(source), "-o", str(out), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout and process.stdout.readline() == "under way\n"
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130)]
)
def test_told_to_end_it_leaves_what_stood_before(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    source, out = snapshots.write_target(tmp_path / "small"), tmp_path / "out"
    out.mkdir()
    before = out / "small-Q8_0.gguf"
    before.write_bytes(b"precious")
    kind = "q4_k_m" if number == signal.SIGTERM else "q8_0"  # the former is made in a folder
    process = start(source, out, "--outtype", kind, "--force")
    assert len(list(out.iterdir())) == 2
    process.send_signal(number)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stderr) == (code, "")
    assert list(out.iterdir()) == [before]
    assert before.read_bytes() == b"precious"


@pytest.mark.parametrize("force", [False, True])
def test_two_on_one_output_do_not_mix(tmp_path: Path, force: bool) -> None:
    sources = [snapshots.write_target(tmp_path / name / "small") for name in ("one", "two")]
    tensors = sources[1] / "model.safetensors"
    data = bytearray(tensors.read_bytes())
    data[-64:] = bytes(64)
    tensors.write_bytes(data)
    out, options = tmp_path / "out", ["--force"] if force else []
    slow = start(sources[0], out, "--outtype", "bf16", *options)
    quick = convert_model(sources[1], tmp_path / "quick.gguf", "bf16").read_bytes()
    convert_model(sources[1], out / "small-BF16.gguf", "bf16")
    _, stderr = slow.communicate("go on\n" * 1000, timeout=PATIENCE)
    slow_alone = convert_model(sources[0], tmp_path / "slow.gguf", "bf16").read_bytes()
    assert slow_alone != quick
    (left,) = out.iterdir()
    if force:
        assert (slow.returncode, stderr) == (0, "")
        assert left.read_bytes() == slow_alone
    else:
        assert (slow.returncode, stderr.count("\n")) == (2, 1)
        assert "exists already; use --force to replace it" in stderr
        assert left.read_bytes() == quick


READ_ONLY = 'mount -t tmpfs -o ro tmpfs "$0" && exec "$@"'


@pytest.mark.parametrize("kind", ["q8_0", "q4_k_m"])
def test_read_only_folder(tmp_path: Path, kind: str) -> None:
    source, out = snapshots.write_target(tmp_path / "small"), tmp_path / "out"
    out.mkdir()
    mount = ["unshare", "-rm", "sh", "-c", READ_ONLY, str(out)]
    try:
        subprocess.run([*mount, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this system does not let its users mount anything")
    convert = [sys.executable, "-m", "mtpcli", "convert", str(source), "-o", str(out)]
    done = subprocess.run(
        [*mount, *convert, "--outtype", kind],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr.startswith(f"error: {out}") and done.stderr.count("\n") == 1
    assert "Read-only file system" in done.stderr
