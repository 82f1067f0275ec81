"""Models that were pulled: a folder each, with a file that says what is in it.

A model is ready when its `mtpcli.json` is there, which is written last; its folder appears under
its name by one rename. What is on its way is in a folder whose name begins with a dot.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mtpcli.errors import InputError, ModelError, UsageError
from mtpcli.hub.names import Reference, parse, same_tag
from mtpcli.hub.paths import inside
from mtpcli.sanitize import one_line

CARD = "mtpcli.json"
PARTIAL = ".partial"


@dataclass(frozen=True)
class Source:
    """A repository that a model's files came from.

    Attributes:
        role: `target` or `drafter`.
        repository: as in `Reference`.
        revision: the commit, or the version on Kaggle; empty where it is not known.
        files: name in the repository to checksum, `sha256:...` or `git:...`.
    """

    role: str
    repository: str
    revision: str
    files: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Pulled:
    """A model that is ready.

    Attributes:
        folder: where it is.
        name, tag: as in `Reference`.
        target, drafter: GGUF files relative to the folder; the drafter may be missing.
        sizes: bytes of every file that pull made, by its name relative to the folder.
        sources: where they came from.
        pulled: when, in UTC.
    """

    folder: Path
    name: str
    tag: str
    target: str
    drafter: str | None
    sizes: dict[str, int]
    sources: tuple[Source, ...]
    pulled: str

    @property
    def reference(self) -> Reference:
        return Reference(self.name, self.tag)

    @property
    def target_path(self) -> Path:
        return self.folder / self.target

    @property
    def drafter_path(self) -> Path | None:
        return self.folder / self.drafter if self.drafter else None

    @property
    def size(self) -> int:
        """Bytes on the disk, by the card."""
        return sum(self.sizes.values())

    @property
    def problem(self) -> str:
        """What is wrong with its files; empty if nothing is."""
        for name, size in self.sizes.items():
            path = self.folder / name
            if not path.is_file():
                return f"{name} is missing"
            if path.stat().st_size != size:
                return f"{name} has changed"
        return ""

    def as_json(self) -> dict[str, Any]:
        """What the card holds."""
        return {key: value for key, value in asdict(self).items() if key != "folder"}


def models_folder() -> Path:
    """`MTPCLI_MODELS`, else `models` in the user's data folder."""
    if named := os.environ.get("MTPCLI_MODELS"):
        return Path(named).expanduser()
    from platformdirs import user_data_path

    return user_data_path("mtpcli", appauthor=False) / "models"


def folder_name(reference: Reference) -> str:
    """The folder of a model among the others."""
    return str(reference).replace("/", "--").replace(":", "--")


def models() -> list[Pulled]:
    """All that are ready, by name."""
    found = [pulled for folder in _folders(models_folder()) if (pulled := read_card(folder))]
    return sorted(found, key=lambda pulled: str(pulled.reference).lower())


def unfinished() -> list[tuple[Reference, int]]:
    """Pulls that have not come to their end, and the bytes that they hold."""
    found = []
    for folder in _folders(models_folder() / PARTIAL):
        try:
            reference = parse((folder / "name").read_text("utf-8"))
        except (OSError, UnicodeDecodeError):
            continue
        if reference:
            found.append((reference, folder_size(folder)))
    return found


def folder_size(folder: Path) -> int:
    """Bytes of the files in a folder; a file with two names counts once."""
    files = [path.lstat() for path in folder.rglob("*") if path.is_file()]
    return sum({stat.st_ino: stat.st_size for stat in files}.values())


def read_card(folder: Path) -> Pulled | None:
    """The model in a folder; None if there is none, or its card is not one of ours."""
    try:
        card = json.loads((folder / CARD).read_text("utf-8"))
        name, tag = str(card["name"]), str(card["tag"])
        sizes = {str(path): int(size) for path, size in card["sizes"].items()}
        drafter = card["drafter"]
        sources = tuple(Source(**source) for source in card["sources"])
        files = [card["target"], *([drafter] if drafter else [])]
        for path in (*sizes, *files):
            inside(folder, path)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ModelError):
        return None
    known = parse(str(Reference(name, tag)))
    if known is None or not set(files) <= sizes.keys():
        return None
    return Pulled(
        folder, name, tag, card["target"], drafter, sizes, sources, str(card.get("pulled"))
    )


def find(reference: Reference) -> Pulled | None:
    """The model that is ready under a name.

    Raises:
        UsageError: several are, and the name does not say which.
    """
    fitting = [pulled for pulled in models() if pulled.name.lower() == reference.repository.lower()]
    if reference.tag:
        exact = [pulled for pulled in fitting if pulled.tag.lower() == reference.tag.lower()]
        fitting = exact or [p for p in fitting if same_tag(reference.tag, p.tag)]
    if len(fitting) > 1:
        names = ", ".join(str(pulled.reference) for pulled in fitting)
        raise UsageError(f"{reference} is there more than once, say which: {names}")
    return fitting[0] if fitting else None


def look_up(path: Path) -> Pulled | None:
    """What the user means where a file could be named; None for a file, there or not.

    Raises:
        ModelError: it has the form of a name, and no such model was pulled or it is damaged.
        UsageError: as for `find`.
    """
    reference = None if path.exists() else parse(str(path))
    if reference is None:
        return None
    pulled = find(reference)
    name = one_line(str(path), 120)
    if pulled is None:
        raise ModelError(
            f"{name} is no file, and no model pulled under that name: `mtpcli pull {name}` "
            "fetches it, `mtpcli list` shows those that are here"
        )
    if problem := pulled.problem:
        raise ModelError(f"{name}: {problem} in {pulled.folder}: `mtpcli pull {name}` mends it")
    return pulled


def local_file(path: Path) -> Path:
    """The file that is meant where a target's or any GGUF file could be named."""
    pulled = look_up(path)
    return pulled.target_path if pulled else path


def remove(pulled: Pulled) -> tuple[int, list[Path]]:
    """Delete what pull made; the bytes that this freed, and what others put beside it.

    Raises:
        InputError: a file cannot be deleted.
    """
    freed = 0
    try:
        # Without its card it is not listed any more, whatever happens to the rest.
        (pulled.folder / CARD).unlink()
        for name in pulled.sizes:
            path = inside(pulled.folder, name)
            if path.is_file() or path.is_symlink():
                freed += 0 if path.is_symlink() else path.stat().st_size
                path.unlink()
        folders = [path for path in pulled.folder.rglob("*") if path.is_dir()]
        for folder in (*sorted(folders, reverse=True), pulled.folder):
            if not folder.is_symlink() and not any(folder.iterdir()):
                folder.rmdir()
    except OSError as error:
        raise InputError(f"cannot delete {error.filename}: {error.strerror}") from None
    left = [path for path in pulled.folder.rglob("*") if not path.is_dir()]
    return freed, left


def remove_unfinished(reference: Reference) -> int:
    """Delete what a pull has left that did not come to its end; the bytes that this freed.

    Raises:
        InputError: it is going on, or cannot be deleted.
    """
    folder = models_folder() / PARTIAL / folder_name(reference)
    with locked(folder, reference):
        freed = folder_size(folder)
        try:
            shutil.rmtree(folder)
        except OSError as error:
            raise InputError(f"cannot delete {error.filename}: {error.strerror}") from None
    return freed


@contextmanager
def locked(folder: Path, reference: Reference) -> Iterator[None]:
    """Keep other processes out of the folder of a pull on its way.

    Raises:
        InputError: another process is there.
    """
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise InputError(f"{reference} is being pulled by another process") from None
    try:
        yield
    finally:
        os.close(lock)


def _folders(parent: Path) -> Iterator[Path]:
    try:
        yield from (p for p in parent.iterdir() if p.is_dir() and not p.name.startswith("."))
    except OSError:
        return
