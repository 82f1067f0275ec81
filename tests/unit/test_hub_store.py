"""The folder of pulled models: what is listed, found and deleted, also when others wrote in it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from mtpcli.cli.options import files_and_models
from mtpcli.errors import InputError, ModelError, UsageError
from mtpcli.hub import store
from mtpcli.hub.names import Reference


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MTPCLI_MODELS", str(tmp_path / "models"))
    return tmp_path / "models"


def add(folder: Path, name: str = "a/b", tag: str = "Q8_0", **changes: Any) -> Path:
    place = folder / store.folder_name(Reference(name, tag))
    (place / "MTP").mkdir(parents=True)
    (place / "b.gguf").write_bytes(b"GGUF")
    (place / "MTP" / "d.gguf").write_bytes(b"GGUF-d")
    card = {
        "name": name,
        "tag": tag,
        "target": "b.gguf",
        "drafter": "MTP/d.gguf",
        "sizes": {"b.gguf": 4, "MTP/d.gguf": 6},
        "sources": [],
        "pulled": "2026-01-01T00:00:00+00:00",
    }
    (place / store.CARD).write_text(json.dumps({**card, **changes}))
    return place


def test_what_is_found_under_a_name(folder: Path) -> None:
    add(folder)
    add(folder, tag="Q4_0")
    add(folder, "c/d", "UD-Q4_K_XL")
    assert [str(found.reference) for found in store.models()] == [
        "a/b:Q4_0",
        "a/b:Q8_0",
        "c/d:UD-Q4_K_XL",
    ]
    assert store.find(Reference("A/B", "q8_0")) == store.models()[1]
    for name in ("c/d", "c/d:Q4_K_XL", "C/D:ud-q4_k_xl"):
        assert store.look_up(Path(name)) == store.models()[2]
    with pytest.raises(UsageError, match="say which: a/b:Q4_0, a/b:Q8_0"):
        store.look_up(Path("a/b"))
    with pytest.raises(ModelError, match="a/b:Q6_K is no file, and no model pulled"):
        store.look_up(Path("a/b:Q6_K"))


def test_files_come_first(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    add(folder)
    monkeypatch.chdir(tmp_path)
    assert store.look_up(Path("a/b")) is not None
    (tmp_path / "a" / "b").mkdir(parents=True)
    assert store.look_up(Path("a/b")) is None
    assert store.look_up(Path("missing.gguf")) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"sizes": {"../../victim": 1, "b.gguf": 4, "MTP/d.gguf": 6}},
        {"target": "/etc/passwd"},
        {"drafter": "../x"},
        {"name": "../x"},
        {"name": "a/b\x1b[31m"},
        {"sizes": []},
        {"sizes": {"b.gguf": "many"}},
        {"sources": [{"role": "target"}]},
        {"sources": 7},
        {"target": ["b.gguf"]},
    ],
)
def test_cards_that_are_not_ours_are_not_obeyed(folder: Path, changes: dict[str, Any]) -> None:
    add(folder, **changes)
    assert store.models() == []


def test_a_card_that_is_no_json(folder: Path) -> None:
    place = add(folder)
    (place / store.CARD).write_bytes(b"\xff{")
    assert store.models() == []


def test_what_is_missing_or_changed_is_said(folder: Path) -> None:
    place = add(folder)
    (place / "MTP" / "d.gguf").write_bytes(b"other bytes")
    with pytest.raises(ModelError, match=r"MTP/d.gguf has changed .*`mtpcli pull a/b` mends it"):
        store.look_up(Path("a/b"))
    (place / "b.gguf").unlink()
    assert store.models()[0].problem == "b.gguf is missing"


def test_removing_leaves_what_others_made(folder: Path, tmp_path: Path) -> None:
    place = add(folder)
    (place / "MTP" / "mine.txt").write_text("mine")
    freed, left = store.remove(store.models()[0])
    assert (freed, left) == (10, [place / "MTP" / "mine.txt"])
    assert store.models() == []
    assert sorted(path.name for path in place.rglob("*")) == ["MTP", "mine.txt"]


def test_removing_follows_no_link(folder: Path, tmp_path: Path) -> None:
    place = add(folder)
    victim = tmp_path / "victim.gguf"
    victim.write_bytes(b"kept")
    (place / "b.gguf").unlink()
    (place / "b.gguf").symlink_to(victim)
    assert store.remove(store.models()[0]) == (6, [])
    assert victim.read_bytes() == b"kept" and not place.exists()


def test_removing_does_not_enter_a_folder_that_is_a_link(folder: Path, tmp_path: Path) -> None:
    place = add(folder)
    elsewhere = tmp_path / "elsewhere"
    (place / "MTP").rename(elsewhere)
    (place / "MTP").symlink_to(elsewhere)
    assert store.models() == []  # its files are not in its folder
    assert (elsewhere / "d.gguf").exists()


def test_unfinished_pulls(folder: Path) -> None:
    place = folder / store.PARTIAL / "a--b--Q8_0"
    (place / "blobs").mkdir(parents=True)
    (place / "name").write_text("a/b:Q8_0")
    (place / "blobs" / "x.part").write_bytes(b"12345")
    (folder / store.PARTIAL / "strange").mkdir()
    assert store.unfinished() == [(Reference("a/b", "Q8_0"), 13)]
    assert store.models() == []
    assert store.remove_unfinished(Reference("a/b", "Q8_0")) == 13
    assert store.unfinished() == []


def test_what_cannot_be_deleted_is_not_called_deleted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(folder)
    half = folder / store.PARTIAL / "a--b--Q4_0"
    half.mkdir(parents=True)
    (half / "name").write_text("a/b:Q4_0")

    def refuse(path: object, **_: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(InputError, match=r"cannot delete .*: Read-only file system"):
        store.remove(store.models()[0])
    with pytest.raises(InputError, match=r"cannot delete .*: Read-only file system"):
        store.remove_unfinished(Reference("a/b", "Q4_0"))
    assert half.exists()


def test_completion_offers_them(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    add(folder, "google/gemma-4-E2B-it")
    add(folder, "google/gemma-4-E2B-it", "Q4_0")
    (tmp_path / "e2b.gguf").touch()
    assert files_and_models("e") == ["e2b", "e2b.gguf"]
    assert files_and_models("goo") == ["google/gemma-4-E2B-it"]
