"""Reads GBNF grammars as llama.cpp does, and refuses those that it does not survive.

llama.cpp prints a grammar's mistakes on standard error and never ends on some grammars that its
check for left recursion does not see. So a grammar is read here first. The syntax is described in
llama.cpp's `grammars/README.md`.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field

from mtpcli.errors import InputError

# Beyond it llama.cpp refuses a count, or takes an upper limit for none.
MAX_REPEAT = 2000
# llama.cpp expands repetitions, copies the rules with every clone, and recurses through them.
_MAX_ELEMENTS = 200_000
_MAX_RULES = 10_000
_MAX_NESTING = 100
_MAX_TEXT = 400_000
# Places where a text may stand after the same beginning; each costs time at every token.
_MAX_PLACES = 10_000

_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME = re.compile(r"[a-zA-Z0-9-]+")
_ESCAPE = re.compile(r'\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([tnr\\"\[\]-]))')
_REPEAT = re.compile(r"\{([ \t]*)(\d+)[ \t]*(?:(,)[ \t]*(\d*)[ \t]*)?\}")
_REPEATS: dict[str, tuple[int, int | None]] = {"*": (0, None), "+": (1, None), "?": (0, 1)}


@dataclass
class Symbol:
    """One thing in a sequence: characters, or a rule, once or repeatedly.

    Attributes:
        rule: the rule's name; None for a character.
        size: elements that it takes in llama.cpp.
        low, high: how often it stands; None is no limit.
        at: where it was read, counted in characters.
    """

    rule: str | None = None
    size: int = 1
    low: int = 1
    high: int | None = 1
    at: int = 0


@dataclass
class Rule:
    """Alternatives, each a sequence."""

    alternatives: list[list[Symbol]] = field(default_factory=list)


@functools.lru_cache(maxsize=16)
def check(text: str) -> None:
    """Make sure that llama.cpp can work with a grammar.

    Raises:
        InputError: it cannot; says where and why.
    """
    rules = _Reader(text).read()
    if "root" not in rules:
        raise InputError("the grammar has no rule `root`")
    for rule in rules.values():
        for symbol in (symbol for sequence in rule.alternatives for symbol in sequence):
            if symbol.rule is not None and symbol.rule not in rules:
                raise _error(text, symbol.at, f"`{symbol.rule}` is no rule of the grammar")
    size = sum(_size(sequence) for rule in rules.values() for sequence in rule.alternatives)
    if size > _MAX_ELEMENTS or len(rules) > _MAX_RULES:
        raise InputError(
            f"the grammar is too large: {len(rules)} rules of {size} elements, repetitions written "
            f"out (at most {_MAX_RULES} and {_MAX_ELEMENTS})"
        )
    nullable = _nullable(rules)
    _check_places(rules, nullable, _left_order(rules, nullable))


class _Reader:
    """Recursive descent over a grammar's text."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._rules: dict[str, Rule] = {}
        self._nesting = 0
        # llama.cpp multiplies the rules inside of what is repeated with the repetitions. Names
        # count when they are first seen, and `_made` counts the rules that have none.
        self._names: set[str] = set()
        self._made = 0
        self._inner = 1

    def read(self) -> dict[str, Rule]:
        if "\0" in self._text:
            raise InputError("the grammar has a NUL character")
        if len(self._text) > _MAX_TEXT:
            raise InputError(f"the grammar has more than {_MAX_TEXT} characters")
        self._skip(_SPACE_AND_LINES)
        while self._at < len(self._text):
            name = self._take(_NAME, "the name of a rule")[0]
            self._names.add(name)
            self._skip(_SPACE)
            self._take(re.compile("::="), f"`::=` after `{name}`")
            if name in self._rules:
                # llama.cpp keeps the last one and says nothing.
                raise self._wrong(f"the rule `{name}` is there twice")
            self._skip(_SPACE_AND_LINES)
            self._rules[name] = self._alternatives(name, nested=False)
            if self._at < len(self._text) and self._text[self._at] not in "\r\n":
                raise self._wrong("expected the end of the line")
            self._skip(_SPACE_AND_LINES)
        return self._rules

    def _alternatives(self, name: str, *, nested: bool) -> Rule:
        rule = Rule([self._sequence(name, nested=nested)])
        while self._text.startswith("|", self._at):
            self._at += 1
            self._skip(_SPACE_AND_LINES)
            rule.alternatives.append(self._sequence(name, nested=nested))
        return rule

    def _sequence(self, name: str, *, nested: bool) -> list[Symbol]:
        space = _SPACE_AND_LINES if nested else _SPACE
        sequence: list[Symbol] = []
        last: list[Symbol] | None = None
        while self._at < len(self._text):
            if (repeat := self._repeat()) is not None:
                if not last:
                    raise self._wrong("nothing to repeat")
                self._count(*repeat)
                # The whole literal is repeated, as one rule of its own.
                inner = self._name_for(last, name)
                sequence[-len(last) :] = last = [self._symbol(inner, *repeat, _size(last))]
            elif (symbols := self._item(name)) is not None:
                last = symbols
                sequence.extend(symbols)
            else:
                break
            self._skip(space)
        return sequence

    def _item(self, name: str) -> list[Symbol] | None:
        """A literal, a set, a rule or a group; None where the sequence ends."""
        first = self._text[self._at]
        self._inner = 1
        if first == '"':
            return self._literal()
        if first == "[":
            return [self._set()]
        if first == ".":
            self._at += 1
            return [self._symbol()]
        if first == "(":
            return [self._group(name)]
        if first in "<!":
            # One after characters ends llama.cpp's process when a token spans both.
            raise self._wrong("tokens (`<...>`) are not supported, only text")
        if reference := _NAME.match(self._text, self._at):
            self._at = reference.end()
            self._names.add(reference[0])
            return [self._symbol(reference[0])]
        return None

    def _literal(self) -> list[Symbol]:
        symbols: list[Symbol] = []
        self._at += 1
        while not self._text.startswith('"', self._at):
            self._character()
            symbols.append(self._symbol())
        self._at += 1
        return symbols

    def _set(self) -> Symbol:
        symbol = self._symbol(size=0)
        self._at += 1
        if self._text.startswith("^", self._at):
            self._at += 1
        while not self._text.startswith("]", self._at):
            self._character()
            symbol.size += 1
            if self._text.startswith("-", self._at) and not self._text.startswith("-]", self._at):
                self._at += 1
                self._character()
                symbol.size += 1
        if not symbol.size:
            # llama.cpp would read it as nothing at all.
            raise self._wrong("an empty set of characters")
        self._at += 1
        return symbol

    def _group(self, name: str) -> Symbol:
        self._nesting += 1
        if self._nesting > _MAX_NESTING:
            raise self._wrong(f"more than {_MAX_NESTING} groups inside each other")
        self._at += 1
        before = len(self._names) + self._made
        self._made += 1
        self._skip(_SPACE_AND_LINES)
        rule = self._alternatives(name, nested=True)
        if not self._text.startswith(")", self._at):
            raise self._wrong("expected `)`")
        self._at += 1
        self._nesting -= 1
        self._inner = len(self._names) + self._made - before
        return self._symbol(self._add(rule, name))

    def _repeat(self) -> tuple[int, int | None] | None:
        first = self._text[self._at]
        if first in _REPEATS:
            self._at += 1
            return _REPEATS[first]
        if first != "{":
            return None
        match = self._take(_REPEAT, "`{n}`, `{n,}` or `{n,m}`")
        low = int(match[2])
        high = (int(match[4]) if match[4] else None) if match[3] else low
        if max(low, high or 0) > MAX_REPEAT:
            raise self._wrong(f"more than {MAX_REPEAT} repetitions")
        if high is not None and high < low:
            raise self._wrong(f"at least {low} and at most {high} repetitions")
        return low, high

    def _count(self, low: int, high: int | None) -> None:
        """Refuse a repetition of repetitions that llama.cpp finds too many."""
        self._inner *= high or low or 1
        if self._inner > MAX_REPEAT:
            raise self._wrong(f"repetitions inside each other make more than {MAX_REPEAT} rules")
        self._made += 1 if high is None else high - low

    def _character(self) -> None:
        if self._text.startswith("\\", self._at):
            match = self._take(_ESCAPE, "an escape that GBNF knows")
            code = int(match[1] or match[2] or match[3] or "1", 16)
            if code > 0x10FFFF:
                raise self._wrong(f"{match[0]} is no character")
        elif self._at < len(self._text):
            self._at += 1
        else:
            raise self._wrong("the grammar ends inside of a literal or set")

    def _name_for(self, symbols: list[Symbol], name: str) -> str:
        if len(symbols) == 1 and symbols[0].rule and (symbols[0].low, symbols[0].high) == (1, 1):
            return symbols[0].rule
        return self._add(Rule([symbols]), name)

    def _add(self, rule: Rule, base: str) -> str:
        # No name that the grammar could use: those have no space.
        name = f"{base} {len(self._rules)}"
        self._rules[name] = rule
        return name

    def _symbol(
        self, rule: str | None = None, low: int = 1, high: int | None = 1, size: int = 1
    ) -> Symbol:
        return Symbol(rule, size, low, high, self._at)

    def _skip(self, space: re.Pattern[str]) -> None:
        match = space.match(self._text, self._at)
        assert match  # it matches nothing, too
        self._at = match.end()

    def _take(self, pattern: re.Pattern[str], what: str) -> re.Match[str]:
        match = pattern.match(self._text, self._at)
        if not match:
            raise self._wrong(f"expected {what}")
        self._at = match.end()
        return match

    def _wrong(self, what: str) -> InputError:
        return _error(self._text, self._at, what)


def _error(text: str, at: int, what: str) -> InputError:
    line = text.count("\n", 0, at) + 1
    return InputError(f"line {line} of the grammar: {what}")


def _size(sequence: list[Symbol]) -> int:
    """Elements of a sequence in llama.cpp, which writes repetitions out."""
    total = 1
    for symbol in sequence:
        if (symbol.low, symbol.high) == (1, 1):
            total += symbol.size
        else:
            optional = 1 if symbol.high is None else symbol.high - symbol.low
            total += symbol.low * symbol.size + optional * (symbol.size + 3)
    return total


def _nullable(rules: dict[str, Rule]) -> set[str]:
    """Names of the rules that match the empty text."""
    users: dict[str, set[str]] = {name: set() for name in rules}
    for name, rule in rules.items():
        for symbol in (symbol for sequence in rule.alternatives for symbol in sequence):
            if symbol.rule:
                users[symbol.rule].add(name)
    found: set[str] = set()
    todo = list(rules)
    while todo:
        name = todo.pop()
        sequences = rules[name].alternatives
        if name not in found and any(
            all(_empty(symbol, found) for symbol in sequence) for sequence in sequences
        ):
            found.add(name)
            todo.extend(users[name])
    return found


def _empty(symbol: Symbol, nullable: set[str]) -> bool:
    return symbol.low == 0 or symbol.rule in nullable


def _firsts(rule: Rule, nullable: set[str]) -> list[Symbol]:
    """What a text of the rule may begin with."""
    firsts: list[Symbol] = []
    for sequence in rule.alternatives:
        for symbol in sequence:
            firsts.append(symbol)
            if not _empty(symbol, nullable):
                break
    return firsts


def _left_order(rules: dict[str, Rule], nullable: set[str]) -> list[str]:
    """The rules' names, each behind those that its texts may begin with.

    Raises:
        InputError: a rule begins with itself.
    """
    order: list[str] = []
    done: set[str] = set()
    for start in rules:
        path: set[str] = set()
        stack = [(start, False)]
        while stack:
            name, leaving = stack.pop()
            if leaving:
                path.discard(name)
                done.add(name)
                order.append(name)
            elif name in path:
                shown = name.split(" ")[0]
                raise InputError(
                    f"the grammar's rule `{shown}` can begin with itself (left recursion): "
                    "llama.cpp cannot follow that"
                )
            elif name not in done:
                path.add(name)
                stack.append((name, True))
                firsts = _firsts(rules[name], nullable)
                stack.extend((symbol.rule, False) for symbol in firsts if symbol.rule)
    return order


def _check_places(rules: dict[str, Rule], nullable: set[str], order: list[str]) -> None:
    """Count the ways into each rule: thirty rules of two optional parts each have a milliard."""
    places: dict[str, int] = {}
    for name in order:
        count = 0
        for symbol in _firsts(rules[name], nullable):
            if symbol.rule is None:
                count += 1
                continue
            # Where the repeated thing may be empty, the text may stand in any of its copies.
            copies = symbol.low + 1 if symbol.high is None else symbol.high
            count += places[symbol.rule] * (copies if symbol.rule in nullable else 1)
        if count > _MAX_PLACES:
            shown = name.split(" ")[0]
            raise InputError(
                f"the grammar's rule `{shown}` can begin in more than {_MAX_PLACES} ways: "
                "make fewer of its parts optional"
            )
        places[name] = count
