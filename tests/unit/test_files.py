"""Files that appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import stat
import time
from pathlib import Path

import pytest

from mtpcli.batch.sinks import FOLDER_JOURNAL
from mtpcli.files import replacing


@pytest.mark.parametrize("trouble", [OSError, KeyboardInterrupt, SystemExit])
def test_after_trouble_the_old_file_stands_alone(
    tmp_path: Path, trouble: type[BaseException]
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(trouble), replacing(path) as file:
        file.write(b"new")
        raise trouble
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_for_whom_the_umask_allows_or_for_its_owner(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        for name, private in (("shared", False), ("mine", True)):
            with replacing(tmp_path / name, private=private) as file:
                file.write(b"text")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == {"shared": 0o640, "mine": 0o600}


def test_what_a_kill_has_left_goes_a_day_later_unless_somebody_holds_it(tmp_path: Path) -> None:
    names = [f".mtpcli-{digit * 16}.part" for digit in "123"]  # old, held, new
    journal = tmp_path / FOLDER_JOURNAL  # of a batch that may go on after any time
    journal.write_text("{}")
    os.utime(journal, (0, 0))
    for name in names:
        (tmp_path / name).write_text("half")
    for name in names[:2]:
        os.utime(tmp_path / name, (time.time(), time.time() - 25 * 60 * 60))
    with (tmp_path / names[1]).open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with replacing(tmp_path / "a.txt") as file:
            file.write(b"text")
            # As another process sees it that comes a day later.
            (part,) = {path.name for path in tmp_path.iterdir()} - {*names, FOLDER_JOURNAL}
            with (tmp_path / part).open("rb") as other, pytest.raises(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert {path.name for path in tmp_path.iterdir()} == {"a.txt", FOLDER_JOURNAL, *names[1:]}
