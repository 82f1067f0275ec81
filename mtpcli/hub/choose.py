"""Which files of a repository make a pair, by their names alone: no network.

Known: llama.cpp finds the parts of a split file by `-00001-of-00003` in their names. The rest are
habits, seen in the names of files that people publish:
`gemma-4-12B-it-qat-UD-Q4_K_XL.gguf`, `mtp-gemma-4-31B-it.gguf`, `gemma-4-E4B-it-Q8_0-MTP.gguf`,
`MTP/gemma-4-12B-it-MTP-Q8_0.gguf`, `google_gemma-4-E4B-it-IQ4_NL.gguf`,
`gemma-4-E4B-it-assistant.Q8_0.gguf`, `mmproj-BF16.gguf` (images), `imatrix_unsloth.gguf`.
What a file really is, its header says when it has come.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import PurePosixPath

from mtpcli.errors import UsageError
from mtpcli.hub.names import same_tag
from mtpcli.hub.remote import RemoteFile
from mtpcli.sanitize import one_line
from mtpcli.units import bytes_text

_SPLIT = re.compile(r"-(\d{5})-of-(\d{5})$")
_QUANT = re.compile(
    r"(?:^|[-._])((?:UD-)?(?:I?Q[1-8]_[A-Z0-9_]+|TQ[12]_0|MXFP4(?:_MOE)?|NVFP4|BF16|F16|F32))$",
    re.IGNORECASE,
)
_DRAFTER = re.compile(r"^mtp[-_.]|[-_.]mtp(?=[-_.]|$)|assistant", re.IGNORECASE)
_DRAFTER_SUFFIX = re.compile(r"[-_.](?:mtp|assistant)$", re.IGNORECASE)
_OTHER = re.compile(r"^mmproj|imatrix", re.IGNORECASE)
_SNAPSHOT = re.compile(
    r"model(?:-\d{5}-of-\d{5})?\.safetensors|model\.safetensors\.index\.json|README\.md|LICENSE"
    r"|(?:config|generation_config|tokenizer|tokenizer_config|special_tokens_map|added_tokens"
    r"|chat_template)\.json|chat_template\.jinja"
)


@dataclass(frozen=True)
class GgufChoice:
    """One model in a repository of GGUF files.

    Attributes:
        tag: its quantisation, `UD-Q4_K_XL`; the file's stem where the name does not tell.
        files: the file, or all parts of a split one, in order.
    """

    tag: str
    files: tuple[RemoteFile, ...]

    @property
    def name(self) -> str:
        return self.files[0].name

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)


def snapshot_files(files: Iterable[RemoteFile]) -> list[RemoteFile]:
    """What the converter reads of a checkpoint; empty if the repository holds none."""
    found = [file for file in files if _SNAPSHOT.fullmatch(file.name)]
    names = {file.name for file in found}
    weights = any(name.endswith(".safetensors") for name in names)
    return found if weights and "config.json" in names else []


def choose_target(files: Iterable[RemoteFile], tag: str, repository: str) -> GgufChoice:
    """The target that a tag means: a quantisation, or a file's name.

    Raises:
        UsageError: there is none, or the tag leaves a choice; with a list.
    """
    found = [choice for choice in choices(files) if not is_drafter(choice.name)]
    return _only(found, tag, repository, "model")


def choose_drafter(
    files: Iterable[RemoteFile], target: str, tag: str, repository: str
) -> GgufChoice | None:
    """The drafter for a target among a repository's files; None if it has none.

    Drafters differ little in speed and not at all in the text: of several for one model one at
    the top is taken before one in a folder, then Q8_0, then the smallest.

    Args:
        target: the target's file name, or the empty string.
        tag: as for `choose_target`; empty for any.

    Raises:
        UsageError: they are for different models, and none is nearer to the target's name.
    """
    found = [choice for choice in choices(files) if is_drafter(choice.name)]
    if not found:
        return None
    if tag:
        return _only(found, tag, repository, "drafter")
    words = model_words(target)
    shared = [len(model_words(choice.name) & words) for choice in found]
    nearest = [c for c, count in zip(found, shared, strict=True) if count == max(shared)]
    models = {frozenset(model_words(choice.name) - words) for choice in nearest}
    if len(models) > 1:
        raise _ambiguous(nearest, repository, "drafter")
    return min(nearest, key=_drafter_rank)


def choices(files: Iterable[RemoteFile]) -> list[GgufChoice]:
    """The models among files, whole ones, the parts of a split one together; by name."""
    groups: dict[str, list[RemoteFile]] = {}
    for file in sorted(files, key=lambda file: file.name):
        path = PurePosixPath(file.name)
        if path.suffix.lower() == ".gguf" and not _OTHER.search(path.name):
            groups.setdefault(_SPLIT.sub("", file.name[: -len(path.suffix)]), []).append(file)
    found = []
    for whole, parts in groups.items():
        split = _SPLIT.search(parts[0].name[: -len(".gguf")])
        if split and len(parts) != int(split[2]):
            continue
        found.append(GgufChoice(_tag(whole), tuple(parts)))
    return found


def is_drafter(name: str) -> bool:
    """Whether a file's name says that it is a drafter."""
    path = PurePosixPath(name)
    folders = (part.lower() for part in path.parts[:-1])
    return "mtp" in folders or bool(_DRAFTER.search(path.stem))


def model_words(name: str) -> set[str]:
    """What a file's name says of the model, without quantisation and role: `gemma`, `e4b`, `it`."""
    stem = _SPLIT.sub("", PurePosixPath(name).stem) if name else ""
    stem = _QUANT.sub("", _DRAFTER_SUFFIX.sub("", stem))
    words = set(re.split(r"[^a-z0-9]+", stem.lower()))
    return words - {"", "mtp", "assistant", "google", "unsloth", "gguf"}


def _tag(whole: str) -> str:
    """The quantisation in a name without its ending and its part; else the stem."""
    path = PurePosixPath(whole)
    stem = _DRAFTER_SUFFIX.sub("", path.name)
    for text in (stem, path.parent.name):
        if match := _QUANT.search(text):
            return match[1].upper()
    return re.sub(r"[^A-Za-z0-9_-]+|\.{2,}", "-", path.name).strip("._-") or "model"


def _only(found: list[GgufChoice], tag: str, repository: str, what: str) -> GgufChoice:
    if not found:
        raise UsageError(f"{repository} has no GGUF file of a {what}")
    fitting = found
    if tag:
        stem = tag.lower().removesuffix(".gguf")
        fitting = [c for c in found if PurePosixPath(c.name).stem.lower() == stem]
        fitting = fitting or [c for c in found if c.tag.lower() == tag.lower()]
        fitting = fitting or [c for c in found if same_tag(tag, c.tag)]
    if len(fitting) == 1:
        return fitting[0]
    raise _ambiguous(fitting or found, repository, what, tag if not fitting else "")


def _ambiguous(
    found: list[GgufChoice], repository: str, what: str, missing: str = ""
) -> UsageError:
    """A list of what could be meant."""
    tags = [choice.tag for choice in found]
    listed = ", ".join(
        f"{choice.tag if tags.count(choice.tag) == 1 else PurePosixPath(choice.name).name} "
        f"({bytes_text(choice.size)})"
        for choice in found
    )
    start = f"no {what} {missing} in {repository}" if missing else f"{repository} has several"
    smallest = min(found, key=lambda choice: choice.size)
    unique = tags.count(smallest.tag) == 1
    example = smallest.tag if unique else PurePosixPath(smallest.name).name
    say = f"--drafter {repository}:{example}" if what == "drafter" else f"{repository}:{example}"
    return UsageError(one_line(f"{start}: say which, as in {say}: {listed}", 2000))


def _drafter_rank(choice: GgufChoice) -> tuple[int, bool, int, str]:
    depth = len(PurePosixPath(choice.name).parts)
    return depth, choice.tag != "Q8_0", choice.size, choice.name
