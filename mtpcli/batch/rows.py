"""Rows of a batch and what they ask for: checks and small functions, no files and no model."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from mtpcli.config import SAMPLING_RANGES
from mtpcli.errors import InputError, UsageError

if TYPE_CHECKING:
    from mtpcli.prompt.template import Message

MAX_SEED = 2**64 - 1
_ROLES = {"system", "developer", "user", "assistant", "tool"}
_MESSAGE_KEYS = ("content", "reasoning", "tool_calls", "tool_call_id", "name")


@dataclass(frozen=True)
class Row:
    """A row as it was read.

    Attributes:
        number: counts the rows from 1.
        line: the line of the input on which it begins, from 1; None where a row is a file.
        fields: its JSON object, its columns, or `file`, `name` and `text` of a file.
        problem: why the row cannot be used, if reading it showed that.
    """

    number: int
    line: int | None
    fields: dict[str, Any]
    problem: str | None = None

    @property
    def place(self) -> str:
        """Where to look for it."""
        return f"line {self.line}" if self.line else str(self.fields.get("file"))


@dataclass(frozen=True)
class Limits:
    """What a row sets for itself; the rest is left to the options of the run.

    Attributes:
        max_tokens: limit, or None.
        sampling: values by the names of `SamplingConfig`'s fields.
        stops: texts that end the answer.
        schema: a JSON Schema that the answer must satisfy, or None.
    """

    max_tokens: int | None = None
    sampling: Mapping[str, float] = field(default_factory=dict)
    stops: tuple[str, ...] = ()
    schema: Any = None


@dataclass(frozen=True)
class Ask:
    """What a row asks for.

    Attributes:
        prompt: a text, or a conversation.
        limits: its own settings.
        raw: the text is to be continued as it is, whatever the options say.
    """

    prompt: str | list[Message]
    limits: Limits
    raw: bool = False


def row_seed(base: int, number: int) -> int:
    """The seed of a row without one of its own, 0..2**48-1.

    A function of the run's seed and the row's number: rows differ, and the order in which they
    are generated makes no difference. 48 bits survive programs that read numbers as doubles.
    """
    digest = hashlib.blake2b(f"{base} {number}".encode(), digest_size=6).digest()
    return int.from_bytes(digest, "big")


def limits(fields: Mapping[str, Any]) -> Limits:
    """The settings of a row, checked; null is as good as absent.

    Raises:
        InputError: a value of the wrong type, or an impossible one.
    """
    wholes = {name: _whole(fields, name, 0) for name in ("top_k", "seed")}
    reals = {
        name: _real(fields, option.replace("-", "_"), least, most)
        for name, (option, least, most) in SAMPLING_RANGES.items()
    }
    return Limits(
        max_tokens=_whole(fields, "max_tokens", 1),
        sampling={name: value for name, value in {**wholes, **reals}.items() if value is not None},
        stops=_stops(fields.get("stop")),
        schema=fields.get("schema"),
    )


def _whole(fields: Mapping[str, Any], name: str, least: int) -> int | None:
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # tables with empty cells write 64.0
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= MAX_SEED:
        raise InputError(f"{name} must be a whole number, {least} or more")
    return value


def _real(fields: Mapping[str, Any], name: str, least: float, most: float) -> float | None:
    value = fields.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not least <= value <= most:
        raise InputError(f"{name} must be a number from {least:g} to {most:g}")
    return float(value)


def _stops(value: Any) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value or []
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise InputError("stop must be a text or a list of texts")
    return tuple(texts)


def conversation(value: Any) -> list[Message]:
    """`messages` of a row, checked so far that a chat template can read them.

    Raises:
        InputError: not a list of messages, or something other than text in them.
    """
    if not isinstance(value, list) or not value:
        raise InputError("messages must be a list of at least one message")
    return [_message(item, f"message {number}") for number, item in enumerate(value, 1)]


def _message(item: Any, name: str) -> Message:
    if not isinstance(item, dict) or not isinstance(item.get("role"), str):
        raise InputError(f"{name} must be an object with a role and a content")
    role, content = item["role"], item.get("content")
    if role not in _ROLES:
        raise InputError(f"{name} has the unknown role {role!r}")
    if isinstance(content, list):
        for part in content:
            if not isinstance(part, dict) or not isinstance(part.get("text"), str):
                raise InputError(f"{name} has a part that is not text")
    elif not isinstance(content, str) and not item.get("tool_calls"):
        raise InputError(f"{name} has no content")
    message: Message = {"role": "system" if role == "developer" else role}
    for key in _MESSAGE_KEYS:
        if item.get(key) is not None:
            message[key] = item[key]  # type: ignore[literal-required]
    return message


class Template:
    """Makes a prompt of a row's fields: `Translate {text} into {language}`.

    Braces that are meant are doubled. There is nothing but names in braces: no attributes, no
    format codes, because the fields are strangers' data.
    """

    _PART = re.compile(r"\{\{|\}\}|\{([^{}]+)\}|[{}]")

    def __init__(self, text: str) -> None:
        """Read a template.

        Raises:
            UsageError: a brace stands alone, or no field is named.
        """
        self.names: list[str] = []
        self._parts: list[tuple[str, str | None]] = []
        start = 0
        for match in self._PART.finditer(text):
            self._parts.append((text[start : match.start()], None))
            start = match.end()
            if match[1]:
                self.names.append(match[1])
                self._parts.append(("", match[1]))
            elif match[0] in ("{{", "}}"):
                self._parts.append((match[0][0], None))
            else:
                raise UsageError(
                    f"--template has a {match[0]} alone at {match.start() + 1}: double it if it "
                    "is meant, or write {column}"
                )
        self._parts.append((text[start:], None))
        if not self.names:
            raise UsageError("--template names no column: write, for example, {text}")

    @property
    def head(self) -> str:
        """The text before the first field."""
        parts = takewhile(lambda part: part[1] is None, self._parts)
        return "".join(literal for literal, _ in parts)

    def check(self, columns: Sequence[str]) -> None:
        """Whether a table has all the columns.

        Raises:
            UsageError: it does not.
        """
        for name in self.names:
            if name not in columns:
                raise UsageError(
                    f"--template names {{{name}}}, and the columns are {', '.join(columns)}"
                )

    def fill(self, fields: Mapping[str, Any]) -> str:
        """The prompt of a row.

        Raises:
            InputError: the row lacks a field.
        """
        return "".join(
            literal if name is None else _value(fields, name) for literal, name in self._parts
        )


def _value(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if value is None:
        raise InputError(f"there is no {name!r} for the template")
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
