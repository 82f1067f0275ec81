"""From a JSON Schema to a grammar in GBNF.

The grammar may be narrower than the schema (properties come in the schema's order, and those that
it does not name are not written), never wider: what cannot be kept is refused, not left out.
"""

from __future__ import annotations

import json
import math
from typing import Any

from mtpcli.errors import InputError
from mtpcli.schema import ranges
from mtpcli.schema.merge import Schema, demands, disjoint, json_type, merged
from mtpcli.schema.pattern import pattern_rule

_HEX = "[0-9a-fA-F]"
_DATE = (
    '[0-9]{4} "-" (("0" [13578] | "1" [02]) "-" ("0" [1-9] | [12] [0-9] | "3" [01]) | '
    '("0" [469] | "11") "-" ("0" [1-9] | [12] [0-9] | "30") | '
    # The 29th of February exists in some years only: it is not written.
    '"02-" ("0" [1-9] | "1" [0-9] | "2" [0-8]))'
)
_TIME = (
    '([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9] ":" [0-5] [0-9] ("." [0-9]{1,6})? '
    '("Z" | [+-] ([01] [0-9] | "2" [0-3]) ":" [0-5] [0-9])'
)
_BUILT_IN = {
    # Where people put it, and little of it: a model may like white space better than the answer.
    "ws": '(" " | "\\n" [ \\t]{0,20})?',
    # Neither raw control characters nor halves of surrogate pairs, raw or escaped.
    "char": r'[^"\\\x00-\x1F\x7F\uD800-\uDFFF] | "\\" (["\\/bfnrt] | "u" '
    rf"([0-9a-cA-CefEF] {_HEX}{{3}} | [dD] [0-7] {_HEX}{{2}}))",
    "string": '"\\"" char* "\\""',
    "number": f'({ranges.integers(None, None)}) ("." [0-9]{{1,15}})? ([eE] [+-]? [0-9]{{1,2}})?',
    "boolean": '"true" | "false"',
    "null": '"null"',
    "value": "object | array | string | number | boolean | null",
    "pair": 'string ":" ws value',
    "object": '"{" ws (pair ("," ws pair)* ws)? "}"',
    "array": '"[" ws (value ("," ws value)* ws)? "]"',
}
_FORMATS = {
    "date": f'"\\"" {_DATE} "\\""',
    "time": f'"\\"" {_TIME} "\\""',
    "date-time": f'"\\"" {_DATE} "T" {_TIME} "\\""',
    "uuid": f'"\\"" {_HEX}{{8}} ' + f'"-" {_HEX}{{4}} ' * 3 + f'"-" {_HEX}{{12}} "\\""',
}
_BY_TYPE = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems", "uniqueItems"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
    "boolean": set(),
    "null": set(),
}
_BY_TYPE["integer"] = _BY_TYPE["number"]
_ELSEWHERE = {"type", "enum", "const", "$ref", "anyOf", "oneOf", "allOf"}
_KNOWN = _ELSEWHERE.union(*_BY_TYPE.values())
_SHAPES: dict[str, type] = {
    "properties": dict,
    "required": list,
    "pattern": str,
    "prefixItems": list,
    "enum": list,
    "allOf": list,
    "anyOf": list,
    "oneOf": list,
}
_MAX_NESTING = 50
# Longer runs are made of blocks of this size: llama.cpp writes repetitions out.
_BLOCK = 100


def schema_grammar(schema: Any) -> str:
    """A GBNF grammar of the JSON texts that a schema accepts.

    Args:
        schema: a parsed JSON Schema, of draft 2020-12 or an older one: a dict or a bool.

    Raises:
        InputError: it is no schema, or asks for something that the grammar cannot keep; says what
            and where in the schema.
    """
    return _Converter(schema).grammar()


class _Converter:
    """Collects rules while it walks a schema. Methods give the names of rules, or expressions."""

    def __init__(self, schema: Any) -> None:
        self._schema = schema
        self._rules: dict[str, str] = {}
        self._names: dict[str, str] = {}
        self._references: dict[str, str] = {}
        self._nesting = 0

    def grammar(self) -> str:
        root = self._visit(self._schema, "#")
        rules = {"root": root, **self._rules, **_BUILT_IN}
        return "".join(f"{name} ::= {body}\n" for name, body in rules.items())

    def _rule(self, body: str) -> str:
        """The name of a rule; the same text is the same rule."""
        if body not in self._names:
            self._names[body] = f"r{len(self._names)}"
            self._rules[self._names[body]] = body
        return self._names[body]

    def _visit(self, schema: Any, where: str) -> str:
        if schema is True:
            return "value"
        if schema is False:
            raise InputError(f"{where}: no value satisfies `false`")
        schema = _checked(schema, where)
        self._nesting += 1
        if self._nesting > _MAX_NESTING:
            raise InputError(f"{where}: nested too deeply, or it asks for itself")
        try:
            return self._any_of_kinds(schema, where)
        finally:
            self._nesting -= 1

    def _any_of_kinds(self, schema: Schema, where: str) -> str:
        if "$ref" in schema and len(schema) == 1:
            return self._reference(schema["$ref"], where)
        for key in ("$ref", "allOf", "anyOf", "oneOf"):
            if key in schema:
                rest = {name: value for name, value in schema.items() if name != key}
                return self._combined(key, schema[key], rest, where)
        if "const" in schema or "enum" in schema:
            return self._constants(schema, where)
        kinds = schema.get("type")
        if kinds is None:
            # A value of another type would do as well; nobody who names properties wants one.
            kinds = [kind for kind, keys in _BY_TYPE.items() if keys & schema.keys()]
            kinds = [kind for kind in kinds if kind != "integer"]
            if not kinds:
                return "value"
        kinds = [kinds] if isinstance(kinds, str) else kinds
        return self._union([self._kind(kind, schema, where) for kind in kinds])

    def _union(self, choices: list[str]) -> str:
        choices = list(dict.fromkeys(choices))
        return choices[0] if len(choices) == 1 else self._rule(" | ".join(choices))

    def _reference(self, pointer: Any, where: str) -> str:
        if str(pointer) not in self._references:
            # Before the walk: what it refers to may refer to itself.
            name = self._references[str(pointer)] = f"ref{len(self._references)}"
            self._rules[name] = self._visit(self._resolve(pointer, where), str(pointer))
        return self._references[str(pointer)]

    def _resolve(self, pointer: Any, where: str) -> Any:
        if not isinstance(pointer, str) or not (pointer == "#" or pointer.startswith("#/")):
            raise InputError(f"{where}: `$ref` to {_shown(pointer)}: only `#/...` is supported")
        found = self._schema
        for part in pointer.split("/")[1:]:
            part = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, list) and part.isdecimal() and int(part) < len(found):
                found = found[int(part)]
            elif isinstance(found, dict) and part in found:
                found = found[part]
            else:
                raise InputError(f"{where}: there is no {pointer}")
        return found

    def _combined(self, key: str, parts: Any, rest: Schema, where: str) -> str:
        parts = [{"$ref": parts}] if key == "$ref" else parts
        if not parts:
            raise InputError(f"{where}: `{key}` is empty")
        if key in ("$ref", "allOf"):
            for part in parts:
                rest = merged(rest, self._looked_up(part, where), where)
            return self._visit(rest, where)
        if key == "oneOf":
            looked_up = [self._looked_up(part, where) for part in parts]
            for place, part in enumerate(looked_up):
                if not all(disjoint(part, other) for other in looked_up[:place]):
                    raise InputError(
                        f"{where}: a value could satisfy several branches of `oneOf`: use `anyOf`"
                    )
        names: list[str] = []
        for place, part in enumerate(parts):
            whole = merged(rest, self._looked_up(part, where), where) if rest else part
            names.append(self._visit(whole, f"{where}/{key}/{place}"))
        return self._union(names)

    def _looked_up(self, schema: Any, where: str) -> Schema:
        for _ in range(_MAX_NESTING):
            schema = _checked(schema, where)
            if schema.keys() != {"$ref"}:
                return schema
            schema = self._resolve(schema["$ref"], where)
        raise InputError(f"{where}: `$ref` goes round in circles")

    def _constants(self, schema: Schema, where: str) -> str:
        values = [schema["const"]] if "const" in schema else schema["enum"]
        if extra := schema.keys() - {"const", "enum", "type"}:
            raise InputError(f"{where}: `{min(extra)}` beside constants is not supported")
        if "const" in schema and "enum" in schema:
            raise InputError(f"{where}: `const` beside `enum` is not supported")
        kinds = schema.get("type", list(_BY_TYPE))
        kinds = [kinds] if isinstance(kinds, str) else kinds
        values = [value for value in values if _is_of(value, kinds)]
        if not values:
            raise InputError(f"{where}: there is no value to choose from")
        return self._rule(" | ".join(dict.fromkeys(map(_json_literal, values))))

    def _kind(self, kind: str, schema: Schema, where: str) -> str:
        if kind == "object":
            return self._object(schema, where)
        if kind == "array":
            return self._array(schema, where)
        if kind == "string":
            return self._string(schema, where)
        if kind in ("number", "integer"):
            return self._number(schema, where, whole=kind == "integer")
        return kind

    def _object(self, schema: Schema, where: str) -> str:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        others = schema.get("additionalProperties", True)
        named = {**properties, **{key: others for key in required if key not in properties}}
        if not named:
            if others is False:
                return self._rule('"{" ws "}"')
            value = self._visit(others, f"{where}/additionalProperties")
            pair = self._rule(f'string ":" ws {value}')
            return self._rule(f'"{{" ws ({pair} ("," ws {pair})* ws)? "}}"')
        # Two rules per property: what may follow when nothing is written yet, and when something
        # is. So the grammar grows with the properties and not with their subsets.
        first, later = '""', '""'
        for key, value in reversed(named.items()):
            if value is False and key not in required:
                continue
            rule = self._visit(value, f"{where}/properties/{key}")
            pair = self._rule(f'{_json_literal(key)} ":" ws {rule}')
            begun = f"{pair} {later}"
            optional = key not in required
            first, later = (
                self._rule(f"{begun} | {first}" if optional else begun),
                self._rule(f'"," ws {begun} | {later}' if optional else f'"," ws {begun}'),
            )
        return self._rule(f'"{{" ws {first} ws "}}"')

    def _array(self, schema: Schema, where: str) -> str:
        prefix, items = schema.get("prefixItems", []), schema.get("items", True)
        if isinstance(items, list):  # as it was written before 2020
            prefix, items = items, True
        low, high = self._limits(schema, "Items", where)
        if schema.get("uniqueItems"):
            raise InputError(f"{where}: `uniqueItems` is not supported")
        if items is False:
            high = len(prefix) if high is None else min(high, len(prefix))
        elif prefix and "items" not in schema:
            high = max(low, len(prefix)) if high is None else min(high, max(low, len(prefix)))
        if high is not None and high < low:
            raise InputError(f"{where}: no array has enough items")
        # The items that are named are all written, as far as there is room for them.
        prefix = prefix if high is None else prefix[:high]
        rules = [self._visit(item, f"{where}/prefixItems/{at}") for at, item in enumerate(prefix)]
        low, high = max(0, low - len(rules)), None if high is None else high - len(rules)
        written = ' "," ws '.join(rules)
        if high == 0:
            return self._rule(f'"[" ws {written} ws "]"' if rules else '"[" ws "]"')
        rule = self._visit(items, f"{where}/items")
        further = self._rule(f'"," ws {rule}')
        if rules:
            return self._rule(f'"[" ws {written} {self._times(further, low, high)} ws "]"')
        more = self._times(further, max(0, low - 1), None if high is None else high - 1)
        body = f"{rule} {more} ws"
        return self._rule(f'"[" ws ({body}){"" if low else "?"} "]"')

    def _string(self, schema: Schema, where: str) -> str:
        low, high = self._limits(schema, "Length", where)
        form, pattern = _FORMATS.get(str(schema.get("format"))), schema.get("pattern")
        if (low > 0 or high is not None) + bool(form) + (pattern is not None) > 1:
            raise InputError(f"{where}: only one of length, `pattern` and `format` is supported")
        if form:
            return self._rule(form)
        if pattern is not None:
            try:
                return self._rule(pattern_rule(pattern))
            except InputError as error:
                raise InputError(f"{where}: {error}") from None
        # Other formats are remarks: validators check them only when told to.
        if not low and high is None:
            return "string"
        return self._rule(f'"\\"" {self._times("char", low, high)} "\\""')

    def _number(self, schema: Schema, where: str, *, whole: bool) -> str:
        keys = _BY_TYPE["number"]
        for key in keys & schema.keys():
            if not _is_number(schema[key]):
                raise InputError(f"{where}: `{key}` is a number, not {_shown(schema[key])}")
        if "multipleOf" in schema and not (whole and schema["multipleOf"] == 1):
            raise InputError(f"{where}: `multipleOf` is not supported")
        if not whole and not keys & schema.keys():
            return "number"
        low, open_low = _bound(schema, "minimum", "exclusiveMinimum", 1)
        high, open_high = _bound(schema, "maximum", "exclusiveMaximum", -1)
        if whole:
            low = None if low is None else low + open_low
            high = None if high is None else high - open_high
            fits = low is None or high is None or low <= high
            body = ranges.integers(low, high) if fits else None
        else:
            body = ranges.numbers(low, high, open_low=open_low, open_high=open_high)
        if body is None:
            raise InputError(f"{where}: no number lies between the bounds, or none can be written")
        return self._rule(body)

    def _limits(self, schema: Schema, of: str, where: str) -> tuple[int, int | None]:
        """Both limits of a length; None is no limit."""
        low, high = schema.get(f"min{of}", 0), schema.get(f"max{of}")
        for limit in (low, 0 if high is None else high):
            if not _is_number(limit) or limit < 0 or limit != int(limit):
                raise InputError(f"{where}: {_shown(limit)} is no length")
        if high is not None and high < low:
            raise InputError(f"{where}: `max{of}` is less than `min{of}`")
        return int(low), None if high is None else int(high)

    def _times(self, rule: str, low: int, high: int | None) -> str:
        """A rule from `low` to `high` times."""
        written = self._exactly(rule, low)
        if high is None:
            return f"{written} {rule}*"
        if high - low <= 2 * _BLOCK:
            return f"{written} {rule}{{0,{high - low}}}"
        blocks, rest = divmod(high - low, _BLOCK)
        block = self._rule(f"{rule}{{{_BLOCK}}}")
        fewer = f"{self._times(block, 0, blocks - 1)} {rule}{{0,{_BLOCK - 1}}}"
        return f"{written} ({fewer} | {self._exactly(block, blocks)} {rule}{{0,{rest}}})"

    def _exactly(self, rule: str, count: int) -> str:
        if count <= 2 * _BLOCK:
            return f"{rule}{{{count}}}" if count else ""
        blocks, rest = divmod(count, _BLOCK)
        block = self._rule(f"{rule}{{{_BLOCK}}}")
        return f"{self._exactly(block, blocks)} {self._exactly(rule, rest)}"


def _checked(schema: Any, where: str) -> Schema:
    """What a schema asks, if it is one, and asks nothing that is not known here."""
    if not isinstance(schema, dict):
        raise InputError(f"{where}: a schema is an object, not {_shown(schema)}")
    schema = demands(schema)
    for key, value in schema.items():
        if key not in _KNOWN:
            raise InputError(f"{where}: `{key}` is not supported")
        if not isinstance(value, _SHAPES.get(key, object)):
            raise InputError(f"{where}: {_shown(value)} is no value of `{key}`")
    kinds = schema.get("type", "null")
    kinds = [kinds] if isinstance(kinds, str) else kinds
    names = list(_BY_TYPE)
    if not isinstance(kinds, list) or not kinds or not all(kind in names for kind in kinds):
        raise InputError(f"{where}: {_shown(schema['type'])} is no type")
    if not all(isinstance(key, str) for key in schema.get("required", [])):
        raise InputError(f"{where}: {_shown(schema['required'])} is no value of `required`")
    return schema


def _bound(schema: Schema, closed: str, opened: str, sign: int) -> tuple[int | None, bool]:
    """The tighter of two bounds as a whole number inside it, and whether it is left out itself.

    `sign` is 1 for lower bounds and -1 for upper ones.
    """
    bounds = [(schema[key], key == opened) for key in (closed, opened) if key in schema]
    if not bounds:
        return None, False
    # Of equal bounds the open one is tighter.
    value, is_open = max(bounds, key=lambda bound: (sign * bound[0], bound[1]))
    whole = math.ceil(value) if sign > 0 else math.floor(value)
    return whole, is_open and whole == value


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_of(value: Any, kinds: Any) -> bool:
    kind = json_type(value)
    return kind in kinds or (kind == "number" and "integer" in kinds and value == int(value))


def _json_literal(value: Any) -> str:
    """A value as JSON, as a GBNF literal."""
    text = json.dumps(value, ensure_ascii=False)
    if not text.isprintable():  # half a surrogate pair, or something that a reader would not see
        text = json.dumps(value)
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:59]}…"
