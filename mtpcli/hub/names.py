"""What the name of a model means: pure text, no network and no files.

What is known: Google publishes each Gemma 4 target as `google/gemma-4-SIZE-it`, and its drafter
as the repository of the same name with `-assistant` behind it. Everything else here is a habit of
the people who publish GGUF files, and marked as one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

FAMILY = {
    "e2b": "google/gemma-4-E2B-it",
    "e4b": "google/gemma-4-E4B-it",
    "12b": "google/gemma-4-12B-it",
    "26b-a4b": "google/gemma-4-26B-A4B-it",
    "31b": "google/gemma-4-31B-it",
}
"""Short names, and the repositories of the targets they stand for."""

ASSISTANT = "-assistant"
KAGGLE = "kaggle:"

_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_HUB = re.compile(rf"{_PART}/{_PART}")
# OWNER/MODEL/FRAMEWORK/VARIATION, and perhaps a version.
_KAGGLE = re.compile(rf"{_PART}(?:/{_PART}){{3}}(?:/[0-9]+)?")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
# A habit: whoever quantises Google's models keeps their name in their own.
_SIZE = re.compile(r"gemma-4-(E2B|E4B|12B|26B-A4B|31B)-it", re.IGNORECASE)


@dataclass(frozen=True)
class Reference:
    """A model's name, taken apart.

    Attributes:
        repository: `OWNER/NAME` on the Hub, or `kaggle:` and a handle there.
        tag: what follows the colon: a quantisation, or a file's name; empty if nothing does.
    """

    repository: str
    tag: str = ""

    @property
    def on_kaggle(self) -> bool:
        return self.repository.startswith(KAGGLE)

    def __str__(self) -> str:
        return f"{self.repository}:{self.tag}" if self.tag else self.repository


def parse(text: str) -> Reference | None:
    """The model that a name means; None if the text has not the form of a name.

    `e2b`, `e2b:Q4_0`, `google/gemma-4-E2B-it`, `OWNER/NAME:TAG`,
    `kaggle:OWNER/MODEL/FRAMEWORK/VARIATION`. Whether there is such a model is another question.
    """
    prefix = KAGGLE if text.startswith(KAGGLE) else ""
    body, colon, tag = text.removeprefix(KAGGLE).partition(":")
    if (colon and not _TAG.fullmatch(tag)) or ".." in text:
        return None
    if prefix:
        return Reference(prefix + body, tag) if _KAGGLE.fullmatch(body) else None
    if body.lower() in FAMILY:
        return Reference(FAMILY[body.lower()], tag)
    # A file that is not there should be called a file. The Hub has no `--` in names.
    if body.lower().endswith(".gguf") or "--" in body or not _HUB.fullmatch(body):
        return None
    return Reference(body, tag)


def is_drafter(repository: str) -> bool:
    """Whether a repository's name says that it holds a drafter's checkpoint."""
    return repository.removeprefix(KAGGLE).lower().endswith(ASSISTANT)


def drafters_of(repository: str) -> list[str]:
    """Repositories that may hold the drafter of a checkpoint, the likeliest first.

    For Google's own the first is known; for others it is the habit. The drafter of the original
    fits every quantisation and most fine-tunings, so it comes second.
    """
    if repository.startswith(KAGGLE):
        # Versions count by themselves, so that of the drafter is another one.
        return [re.sub(r"/[0-9]+$", "", repository) + ASSISTANT]
    return list(dict.fromkeys([repository + ASSISTANT, *original_drafters(repository)]))


def original_drafters(repository: str) -> list[str]:
    """Google's drafter for the model that a repository was made from, if its name says."""
    match = _SIZE.search(repository)
    return [FAMILY[match[1].lower()] + ASSISTANT] if match else []


def same_tag(wanted: str, tag: str) -> bool:
    """Whether a tag is the one asked for; Unsloth's `UD-` before it may be left out."""
    wanted, tag = wanted.lower(), tag.lower()
    return wanted in (tag, tag.removeprefix("ud-"))


def last_part(repository: str) -> str:
    """What people call the model: the repository's name without its owner.

    On Kaggle the owner's model has variations, perhaps with versions behind them.
    """
    parts = repository.removeprefix(KAGGLE).split("/")
    return parts[3] if repository.startswith(KAGGLE) else parts[-1]
