"""The journal: whatever is cut off, what was finished before it stays."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtpcli.batch.journal import Done, Entry, Journal, OutputError, in_order
from mtpcli.errors import UsageError

SETTINGS = {"the input": "abc", "--seed": 0}
ENTRIES = [
    Entry(2, False, b'{"text": "two\\n"}'),
    Entry(1, True, b'{"error": "tab\\t \xc3\xa9"}'),
    Entry(4, False, b"{}"),
]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl.part"


def fill(path: Path, entries: list[Entry] = ENTRIES) -> bytes:
    journal = Journal(path, SETTINGS)
    for entry in entries:
        journal.add(entry)
    journal.close()
    return path.read_bytes()


def test_entries_come_back(path: Path) -> None:
    fill(path)
    journal = Journal(path, SETTINGS)
    assert list(journal.entries()) == ENTRIES
    assert [number in journal.done for number in range(1, 6)] == [True, True, False, True, False]
    assert (len(journal.done), journal.failed, journal.dropped) == (3, 1, 0)
    journal.add(Entry(3, False, b"3"))
    assert [entry.number for entry in in_order(journal.entries())] == [1, 2, 3, 4]
    journal.close()
    journal.close()


def test_cut_anywhere_it_keeps_the_whole_lines(path: Path) -> None:
    whole = fill(path)
    ends = [at + 1 for at, byte in enumerate(whole) if byte == ord("\n")]
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        journal = Journal(path, SETTINGS)
        kept = max(0, sum(end <= size for end in ends) - 1)
        assert list(journal.entries()) == ENTRIES[:kept], size
        for entry in ENTRIES[kept:]:
            journal.add(entry)
        journal.close()
        assert path.read_bytes() == whole, size


def test_damage_in_the_middle_ends_what_is_believed(path: Path) -> None:
    whole = bytearray(fill(path))
    at = whole.index(b"tab")
    whole[at] ^= 1
    path.write_bytes(whole)
    journal = Journal(path, SETTINGS)
    assert list(journal.entries()) == ENTRIES[:1]
    assert journal.dropped > 0
    journal.close()


def test_zeros_at_the_end_are_no_entry(path: Path) -> None:
    # File systems leave them after a power cut.
    fill(path)
    with path.open("ab") as stream:
        stream.write(bytes(100) + b"\n")
    journal = Journal(path, SETTINGS)
    assert list(journal.entries()) == ENTRIES
    assert journal.dropped == 101
    journal.close()


def test_an_entry_that_is_there_twice_is_damage(path: Path) -> None:
    fill(path, [ENTRIES[0], ENTRIES[0]])
    journal = Journal(path, SETTINGS)
    assert list(journal.entries()) == ENTRIES[:1]
    journal.close()


def test_other_settings_are_refused_and_named(path: Path) -> None:
    before = fill(path)
    with pytest.raises(UsageError, match=r"--seed 0, now 1\) and has 3 finished.*--restart"):
        Journal(path, {**SETTINGS, "--seed": 1})
    with pytest.raises(UsageError, match=r"--top-k none, now 5"):
        Journal(path, {**SETTINGS, "--top-k": 5})
    assert path.read_bytes() == before
    journal = Journal(path, {**SETTINGS, "--seed": 1}, restart=True)
    assert list(journal.entries()) == []
    journal.close()


def test_without_rows_other_settings_do_no_harm(path: Path) -> None:
    journal = Journal(path, SETTINGS)
    header = path.read_bytes()
    journal.close()
    assert not path.exists(), "there was nothing to keep"
    path.write_bytes(header)
    Journal(path, {"--seed": 1}).close()


@pytest.mark.parametrize("data", [b"my notes\n", b"{}\n", b'{"journal": "another"}\n', b"x"])
def test_a_file_of_somebody_else_is_left_alone(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    for restart in (False, True):
        with pytest.raises(UsageError, match="not a journal"):
            Journal(path, SETTINGS, restart=restart)
    assert path.read_bytes() == data


def test_only_one_can_have_it(path: Path) -> None:
    journal = Journal(path, SETTINGS)
    journal.add(ENTRIES[0])
    for restart in (False, True):
        with pytest.raises(UsageError, match="another mtpcli batch"):
            Journal(path, SETTINGS, restart=restart)
    list(journal.entries())
    with pytest.raises(UsageError, match="another mtpcli batch"):
        Journal(path, SETTINGS)
    journal.close()
    Journal(path, SETTINGS).close()


def test_a_folder_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file"):
        Journal(tmp_path / "missing" / "x.part", SETTINGS)


def test_order() -> None:
    numbers = [3, 1, 2, 6, 5, 4, 7]
    entries = [Entry(number, False, b"") for number in numbers]
    assert [entry.number for entry in in_order(entries)] == list(range(1, 8))


def test_done_holds_only_what_is_ahead() -> None:
    done = Done()
    for number in (2, 3, 5, 1):
        done.add(number)
    assert (len(done), done.first_open) == (4, 4)
    assert [number in done for number in range(1, 7)] == [True, True, True, False, True, False]
