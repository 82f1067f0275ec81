"""What a pull will fetch: which repositories, and which of their files."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from mtpcli.errors import UsageError
from mtpcli.hub import names
from mtpcli.hub.choose import GgufChoice, choices, choose_drafter, choose_target, snapshot_files
from mtpcli.hub.names import Reference
from mtpcli.hub.remote import Hub, Listing, NotThere, RemoteFile
from mtpcli.units import bytes_text


@dataclass(frozen=True)
class Wish:
    """What to pull, beyond its name.

    Attributes:
        outtype, drafter_outtype: types to convert checkpoints to, as in `mtpcli convert`.
        drafter: the name of its drafter's repository, where it is not the usual one.
        no_drafter: only the target.
        keep: keep the checkpoints beside what they were converted to.
        force: make it anew even if it is there.
        revision: a branch, tag or commit of the target's repository.
    """

    outtype: str = "q8_0"
    drafter_outtype: str = "q8_0"
    drafter: str | None = None
    no_drafter: bool = False
    keep: bool = False
    force: bool = False
    revision: str | None = None


@dataclass(frozen=True)
class Half:
    """The target or the drafter of a pair to be.

    Attributes:
        listing: where it comes from.
        files: what to fetch.
        gguf: the file to use, or None for a checkpoint.
    """

    listing: Listing
    files: tuple[RemoteFile, ...]
    gguf: GgufChoice | None = None

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def summary(self) -> str:
        if self.on_kaggle:
            return f"{self.listing.repository}: by kagglehub"
        at = f"{self.listing.repository} at {self.listing.revision[:8]}"
        files = "1 file" if len(self.files) == 1 else f"{len(self.files)} files"
        return f"{at}: {files}, {bytes_text(self.size)}"

    @property
    def on_kaggle(self) -> bool:
        return self.listing.repository.startswith(names.KAGGLE)


def plan(
    hub: Hub, say: Callable[[str], None], reference: Reference, wish: Wish
) -> tuple[Half, Half | None, str]:
    """What to fetch for the target and the drafter, and the type to convert the target to.

    Raises:
        UsageError: the name leaves a choice, with a list; or the repository holds no model.
        InputError: as for `Hub.listing`.
    """
    outtype = wish.outtype
    if reference.on_kaggle:
        target = _on_kaggle(reference)
        usual = names.drafters_of(reference.repository)
        named = _named(wish.drafter) if wish.drafter else Reference(usual[0])
        drafter = None if wish.no_drafter else _drafter(hub, named, target)
        return target, drafter, _outtype(reference) or outtype
    listing = hub.listing(reference.repository, wish.revision)
    files = snapshot_files(listing.files)
    if files and (not reference.tag or _is_type(reference.tag) or not choices(listing.files)):
        outtype = _outtype(reference) or outtype
        target = Half(listing, tuple(files))
        usual = names.drafters_of(listing.repository)
    else:
        gguf = choose_target(listing.files, reference.tag, listing.repository)
        target = Half(listing, gguf.files, gguf)
        usual = names.original_drafters(listing.repository)
    if wish.no_drafter:
        return target, None, outtype
    if wish.drafter:
        return target, _drafter(hub, _named(wish.drafter), target), outtype
    if target.gguf:
        beside = choose_drafter(listing.files, target.gguf.name, "", listing.repository)
        if beside:
            return target, Half(listing, beside.files, beside), outtype
    for repository in usual:
        with contextlib.suppress(NotThere):
            return target, _drafter(hub, Reference(repository), target), outtype
    say(
        f"no drafter found for {listing.repository}: it will decode plainly; "
        "--drafter OWNER/NAME names one"
    )
    return target, None, outtype


def _drafter(hub: Hub, reference: Reference, target: Half) -> Half:
    if reference.on_kaggle:
        return _on_kaggle(reference)
    listing = hub.listing(reference.repository)
    files = snapshot_files(listing.files)
    if files and not reference.tag:
        return Half(listing, tuple(files))
    of = target.gguf.name if target.gguf else target.listing.repository
    found = choose_drafter(listing.files, of, reference.tag, listing.repository)
    if found is None:
        # A repository of one drafter need not say so in the file's name.
        found = choose_target(listing.files, reference.tag, listing.repository)
    return Half(listing, found.files, found)


def _named(text: str) -> Reference:
    """The drafter that a user names; a short name is its target's."""
    reference = names.parse(text)
    if reference is None:
        raise UsageError(f"--drafter {text}: is no name of a model")
    if "/" not in text:
        return Reference(reference.repository + names.ASSISTANT)
    return reference


def _on_kaggle(reference: Reference) -> Half:
    """A checkpoint on Kaggle, whose files kagglehub knows when it has them."""
    version = reference.repository.rpartition("/")[2]
    return Half(Listing(reference.repository, version if version.isdecimal() else "", ()), files=())


def is_preset(kind: str) -> bool:
    """Whether llama.cpp's quantiser makes this type, from a file of another."""
    from mtpcli.presets import PRESETS

    return kind in PRESETS


def _outtype(reference: Reference) -> str:
    """The type to convert a checkpoint to that its name tells, if it does."""
    from mtpcli.presets import known_type

    return known_type(f"{reference.repository}:TYPE", reference.tag) if reference.tag else ""


def _is_type(tag: str) -> bool:
    from convert import OUTTYPES

    return tag.lower() in OUTTYPES or is_preset(tag.lower())
