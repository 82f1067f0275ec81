"""Regular expressions of JSON Schema (`pattern`) as GBNF over the characters of a JSON string."""

from __future__ import annotations

import re

from mtpcli.errors import InputError

Ranges = list[tuple[int, int]]

# What `.` and negated sets choose from: a model should not answer in control characters.
_VISIBLE: Ranges = [(0x20, 0x7E), (0x80, 0x10FFFF)]
# Written by escapes in JSON, or not at all: controls, quote, backslash, halves of surrogate pairs.
_NOT_RAW: Ranges = [(0, 0x1F), (0x22, 0x22), (0x5C, 0x5C), (0x7F, 0x7F), (0xD800, 0xDFFF)]
_SHORT = {0x08: "b", 0x09: "t", 0x0A: "n", 0x0C: "f", 0x0D: "r", 0x22: '"', 0x5C: "\\"}
_CLASSES: dict[str, Ranges] = {
    "d": [(0x30, 0x39)],
    "w": [(0x30, 0x39), (0x41, 0x5A), (0x5F, 0x5F), (0x61, 0x7A)],
    "s": [(0x09, 0x0D), (0x20, 0x20)],
}
_CONTROLS = {"n": 0x0A, "r": 0x0D, "t": 0x09, "f": 0x0C, "v": 0x0B}
_LINE_ENDS: Ranges = [(0x0A, 0x0A), (0x0D, 0x0D), (0x2028, 0x2029)]
_MAX_NESTING = 50


def pattern_rule(pattern: str) -> str:
    """A GBNF expression for the JSON strings, quotes included, that match a pattern.

    Like JSON Schema it looks for the pattern anywhere in the string, unless `^` and `$` say
    otherwise. What dialects read differently is read as all of them do: `\\D` and the like mean
    visible ASCII characters.

    Raises:
        InputError: the pattern is wrong, or uses what a grammar cannot do, as looking ahead.
    """
    return f'"\\"" ({_Reader(pattern).read()}) "\\""'


class _Reader:
    """Recursive descent over a pattern."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._nesting = 0

    def read(self) -> str:
        body = self._alternatives(top=True)
        if self._at < len(self._text):
            raise self._wrong("unbalanced `)`")
        return body

    def _alternatives(self, *, top: bool) -> str:
        choices = [self._sequence(top=top)]
        while self._next("|"):
            choices.append(self._sequence(top=top))
        return " | ".join(choices)

    def _sequence(self, *, top: bool) -> str:
        """Things in a row; those at the top say whether they stand at the string's ends."""
        at_start = top and self._next("^")
        at_end = False
        parts: list[str] = []
        while self._at < len(self._text) and self._text[self._at] not in "|)":
            if self._next("$"):
                at_end = top and self._text[self._at : self._at + 1] in ("", "|")
                if not at_end:
                    raise self._wrong("`$` is supported at the end only")
                break
            item = self._item()
            parts.append(item + self._repeat())
        if top:
            parts = [*([] if at_start else ["char*"]), *parts, *([] if at_end else ["char*"])]
        return " ".join(parts) or '""'

    def _item(self) -> str:
        first = self._take()
        if first == "(":
            return self._group()
        if first == "[":
            return _characters(self._set())
        if first == ".":
            return _characters(_without(_VISIBLE, _LINE_ENDS))
        if first == "\\":
            return _characters(self._escape())
        if first in "*+?{^":
            raise self._wrong(f"`{first}` cannot stand there")
        return _characters([(ord(first), ord(first))])

    def _group(self) -> str:
        self._nesting += 1
        if self._nesting > _MAX_NESTING:
            raise self._wrong("too many groups inside each other")
        if self._next("?") and not self._next(":"):
            raise self._wrong("groups that look ahead or back, or have a name, are not supported")
        body = self._alternatives(top=False)
        if not self._next(")"):
            raise self._wrong("a group has no end")
        self._nesting -= 1
        return f"({body})"

    def _repeat(self) -> str:
        """A quantifier as GBNF; greedy or not makes no difference to what matches."""
        for sign in "*+?":
            if self._next(sign):
                self._next("?")
                return sign
        if not self._next("{"):
            return ""
        numbers = self._until("}")
        if not re.fullmatch(r"\d+(,\d*)?", numbers):
            raise self._wrong("expected {n}, {n,} or {n,m}")
        self._next("?")
        return f"{{{numbers}}}"

    def _set(self) -> Ranges:
        negated = self._next("^")
        ranges: Ranges = []
        while not self._next("]"):
            begin = self._member()
            if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                end = self._member()
                if len(begin) > 1 or len(end) > 1 or begin[0][0] > end[0][0]:
                    raise self._wrong("a range that is none")
                begin = [(begin[0][0], end[0][1])]
            ranges += begin
        return _without(_VISIBLE, ranges) if negated else ranges

    def _member(self) -> Ranges:
        first = self._take()
        if first != "\\":
            return [(ord(first), ord(first))]
        if self._next("b"):
            return [(0x08, 0x08)]
        return self._escape()

    def _escape(self) -> Ranges:
        letter = self._take()
        if letter.lower() in _CLASSES:
            ranges = _CLASSES[letter.lower()]
            return ranges if letter.islower() else _without([(0x20, 0x7E)], ranges)
        if letter in _CONTROLS:
            code = _CONTROLS[letter]
        elif letter in "xu":
            digits = "".join(self._take() for _ in range(2 if letter == "x" else 4))
            try:
                code = int(digits, 16)
            except ValueError:
                raise self._wrong(f"\\{letter}{digits} is no character") from None
        elif letter.isalnum():
            raise self._wrong(f"\\{letter} is not supported")
        else:
            code = ord(letter)
        return [(code, code)]

    def _next(self, text: str) -> bool:
        found = self._text.startswith(text, self._at)
        self._at += len(text) * found
        return found

    def _take(self) -> str:
        if self._at == len(self._text):
            raise self._wrong("it ends too early")
        self._at += 1
        return self._text[self._at - 1]

    def _until(self, end: str) -> str:
        taken = ""
        while not self._next(end):
            taken += self._take()
        return taken

    def _wrong(self, what: str) -> InputError:
        return InputError(f"pattern, character {self._at}: {what}")


def _without(ranges: Ranges, others: Ranges) -> Ranges:
    """What is in `ranges` and not in `others`."""
    for low, high in others:
        left = [(begin, min(end, low - 1)) for begin, end in ranges]
        right = [(max(begin, high + 1), end) for begin, end in ranges]
        ranges = [(begin, end) for begin, end in left + right if begin <= end]
    return sorted(set(ranges))


def _characters(ranges: Ranges) -> str:
    """One character out of `ranges` as JSON writes it, as GBNF."""
    raw = _without(ranges, _NOT_RAW)
    choices: list[str] = []
    if raw:
        members = [_code(low) + (f"-{_code(high)}" if high > low else "") for low, high in raw]
        choices.append(f"[{''.join(members)}]")
    for code in sorted({code for low, high in ranges for code in range(low, min(high, 0x7F) + 1)}):
        if any(low <= code <= high for low, high in _NOT_RAW):
            short = _SHORT.get(code)
            text = f"\\{short}" if short else f"\\u{code:04x}"
            choices.append('"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"')
    if not choices:
        raise InputError("pattern: a set of characters that a JSON text cannot have")
    return choices[0] if len(choices) == 1 else f"({' | '.join(choices)})"


def _code(code: int) -> str:
    character = chr(code)
    return character if character.isascii() and character.isalnum() else f"\\U{code:08X}"
