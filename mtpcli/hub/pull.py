"""From a name to a pair that is ready: list, choose, fetch, convert, check, and only then show."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from mtpcli.errors import InputError, ModelError, UsageError
from mtpcli.hub import names, store
from mtpcli.hub.kaggle import download
from mtpcli.hub.names import Reference
from mtpcli.hub.paths import inside
from mtpcli.hub.plan import Half, Wish, is_preset, plan
from mtpcli.hub.remote import Hub, Listing, RemoteFile
from mtpcli.hub.store import Pulled, Source
from mtpcli.units import bytes_text

Progress = Callable[[str, int, int], None]
# Bytes of a converted file for each byte of a BF16 checkpoint, at most.
_GROWTH = {"auto": 1.0, "bf16": 1.0, "f16": 1.0, "f32": 2.0}
_QUANTISED, _PRESET = 0.6, 1.6  # a preset is made of a file in the checkpoint's own type
_SLACK = 64 << 20


class Pull:
    """One pull. `run` may be interrupted at any point, and goes on when it is run again.

    Args:
        hub: where to ask.
        say: told in words what is being done.
        progress: told what is being done, and how many bytes of how many.
    """

    def __init__(
        self,
        hub: Hub,
        say: Callable[[str], None] = lambda _: None,
        progress: Progress = lambda _what, _done, _total: None,
    ) -> None:
        self._hub = hub
        self._say = say
        self._progress = progress

    def run(self, name: str, wish: Wish) -> Pulled:
        """The model, ready to use.

        Raises:
            UsageError: the name means nothing, or several things.
            InputError: it cannot be had, or there is no room for it.
            ModelError, ConvertError: what came is not a pair that runs.
        """
        reference = names.parse(name)
        if reference is None:
            raise UsageError(
                f"{name!r} is no name of a model: OWNER/NAME, OWNER/NAME:TAG or one of "
                + ", ".join(names.FAMILY)
            )
        if names.is_drafter(reference.repository) and not wish.no_drafter:
            whole = reference.repository[: -len(names.ASSISTANT)]
            raise UsageError(f"{reference} is a drafter: `mtpcli pull {whole}` brings it along")
        target, drafter, outtype = plan(self._hub, self._say, reference, wish)
        halves = [half for half in (target, drafter) if half]
        model = Reference(
            target.listing.repository, target.gguf.tag if target.gguf else outtype.upper()
        )
        root = store.models_folder()
        final = root / store.folder_name(model)
        found = store.read_card(final)
        sources = tuple(
            Source(
                role,
                half.listing.repository,
                half.listing.revision,
                {file.name: file.checksum for file in half.files},
            )
            for role, half in zip(("target", "drafter"), halves, strict=False)
        )
        if found and not found.problem and found.sources == sources and not wish.force:
            self._say(f"{model} is here already")
            return found
        for half in halves:
            for file in half.files:
                inside(final, file.name)  # refused before anything is made or fetched
        with _staging(root, model) as staging:
            self._check_room(staging, halves, outtype)
            for half in halves:
                self._say(half.summary)
            self._fetch(staging, halves)
            ready = _empty(staging / "ready")
            made = self._make(staging, ready, target, drafter, replace(wish, outtype=outtype))
            card = Pulled(
                ready,
                model.repository,
                model.tag,
                *made,
                {str(path.relative_to(ready)): path.stat().st_size for path in _files(ready)},
                sources,
                datetime.now(timezone.utc).isoformat(timespec="seconds"),
            )
            (ready / store.CARD).write_text(json.dumps(card.as_json(), indent=1), "utf-8")
            if found or final.exists():
                _make_way(final, found)
            ready.rename(final)
            shutil.rmtree(staging, ignore_errors=True)
        return replace(card, folder=final)

    def _check_room(self, staging: Path, halves: list[Half], outtype: str) -> None:
        missing = need = 0
        for half in halves:
            for file in half.files:
                blob = _blob(staging, file)
                part = blob.with_name(f"{blob.name}.part")
                there = [path.stat().st_size for path in (blob, part) if path.exists()]
                missing += max(file.size - sum(there), 0)
            if half.gguf is None:
                growth = _GROWTH.get(outtype, _PRESET if is_preset(outtype) else _QUANTISED)
                need += int(half.size * growth)
        free = shutil.disk_usage(staging).free
        if missing + need + _SLACK > free:
            converted = f" and {bytes_text(need)} for the converted files" if need else ""
            raise InputError(
                f"not enough room in {staging.parent.parent}: {bytes_text(missing)} to download"
                f"{converted}, {bytes_text(free)} free; MTPCLI_MODELS names another folder"
            )

    def _fetch(self, staging: Path, halves: list[Half]) -> None:
        """All files as blobs; small ones first, so that a foreign model is found out early."""
        from convert.hf_config import read_config

        for half in halves:
            if half.on_kaggle:
                download(half.listing.repository, _checkpoint(staging, half))
        wanted: dict[str, tuple[Listing, RemoteFile]] = {}
        for half in halves:
            for file in half.files:
                wanted.setdefault(file.checksum, (half.listing, file))
        total = sum(file.size for _, file in wanted.values())
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            self._progress("download", done, total)

        for listing, file in sorted(wanted.values(), key=lambda item: item[1].size):
            self._hub.fetch(listing, file, _blob(staging, file), advance)
            if file.name == "config.json":
                folder = _empty(staging / "config")
                _link(_blob(staging, file), folder / file.name)
                read_config(folder)

    def _make(
        self, staging: Path, ready: Path, target: Half, drafter: Half | None, wish: Wish
    ) -> tuple[str, str | None]:
        """Put the pair into `ready`; the names of its files there."""
        from convert import convert_model, rewrite_drafter
        from mtpcli.llama.gguf import read_metadata
        from mtpcli.llama.gguf_walk import peek_string
        from mtpcli.pair import check_pair, check_target
        from mtpcli.presets import convert_pair

        def converting(done: int, total: int) -> None:
            self._progress("convert", done, total)

        checkpoints = {
            half.listing.repository: _snapshot(staging, half)
            for half in (target, drafter)
            if half and half.gguf is None
        }
        snapshot = checkpoints.get(target.listing.repository) if target.gguf is None else None
        assistant = (
            checkpoints[drafter.listing.repository] if drafter and drafter.gguf is None else None
        )
        out: list[Path] = []
        if snapshot:
            out = convert_pair(
                snapshot,
                assistant,
                ready,
                wish.outtype,
                wish.drafter_outtype,
                progress=converting,
            )
        else:
            assert target.gguf
            out = [_placed(staging, ready, target)]
            if assistant:
                kind = wish.drafter_outtype
                stem = Path(target.gguf.name).stem
                output = ready / f"mtp-{stem}-{kind.upper()}.gguf"
                out.append(convert_model(assistant, output, kind, progress=converting))
        if drafter and drafter.gguf:
            path = _placed(staging, ready, drafter)
            if peek_string(path, "general.architecture") == "gemma4_assistant":
                self._say(f"{path.name} has an old form: rewriting it")
                old = path.rename(staging / path.name)
                path = rewrite_drafter(old, ready, progress=converting)
                old.unlink()
            out.append(path)
        header = read_metadata(out[0])
        if drafter:
            check_pair(header, read_metadata(out[1]))
        else:
            check_target(header)
        if wish.keep:
            for folder in checkpoints.values():
                folder.rename(ready / folder.name)
        relative = [str(path.relative_to(ready)) for path in out]
        return relative[0], relative[1] if drafter else None


@contextmanager
def _staging(root: Path, model: Reference) -> Iterator[Path]:
    """The folder of a pull on its way, which no other process uses meanwhile."""
    folder = root / store.PARTIAL / store.folder_name(model)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "blobs").mkdir(exist_ok=True)
        (folder / "name").write_text(str(model), "utf-8")
    except OSError as error:
        raise InputError(f"cannot write {error.filename}: {error.strerror}") from None
    with store.locked(folder, model):
        try:
            yield folder
        except OSError as error:
            if error.filename is None:
                raise
            raise InputError(f"cannot write {error.filename}: {error.strerror}") from None
        finally:
            places = (folder / "blobs", folder / "checkpoints")
            if not any(path.is_file() for place in places for path in place.rglob("*")):
                # Nothing came: nothing is left to go on from.
                shutil.rmtree(folder, ignore_errors=True)


def _blob(staging: Path, file: RemoteFile) -> Path:
    # By what is in it: an earlier run's files count exactly as far as they are still wanted, and a
    # file that target and drafter share is fetched once.
    return staging / "blobs" / file.checksum.replace(":", "-")


def _snapshot(staging: Path, half: Half) -> Path:
    """A checkpoint's folder, named as its repository is, of links to the blobs."""
    folder = _checkpoint(staging, half)
    if half.on_kaggle:
        return folder
    _empty(folder)
    for file in half.files:
        path = inside(folder, file.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        _link(_blob(staging, file), path)
    return folder


def _checkpoint(staging: Path, half: Half) -> Path:
    return staging / "checkpoints" / names.last_part(half.listing.repository)


def _placed(staging: Path, ready: Path, half: Half) -> Path:
    """GGUF files at their places; the one to load."""
    assert half.gguf
    for file in half.files:
        path = inside(ready, file.name)
        path.parent.mkdir(parents=True, exist_ok=True)
        _link(_blob(staging, file), path)
    return inside(ready, half.gguf.name)


def _link(blob: Path, path: Path) -> None:
    """Another name for a blob, so that a pull that fails later has it still."""
    try:
        path.hardlink_to(blob)
    except OSError:  # a file system without them
        shutil.copyfile(blob, path)


def _make_way(final: Path, found: Pulled | None) -> None:
    """Take away an older pull of the same model; never what somebody else put there."""
    left = store.remove(found)[1] if found else [final]
    if final.exists() and (left or any(final.iterdir())):
        raise ModelError(f"{final} holds files that are not of a pull: move them away")


def _empty(folder: Path) -> Path:
    """A new folder in place of what an earlier run left."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
