"""JSON Schemas for tests, and a validator that knows what they use."""

from __future__ import annotations

import re
from datetime import date
from typing import Any

PERSON: dict[str, Any] = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "colour": {"enum": ["red", "green", "blue"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 6}, "maxItems": 3},
    },
    "required": ["name", "age", "colour"],
    "additionalProperties": False,
}
# None of them lets a text go on for ever.
BOUNDED: dict[str, Any] = {
    "person": PERSON,
    "constant": {"const": {"a": [1, 'x\n"\\é', None, 1.5]}},
    "number": {"type": "number", "minimum": -2.5, "exclusiveMaximum": 3},
    "negative": {"type": "integer", "minimum": -1203, "maximum": -17},
    "whole": {"type": "integer"},
    "any number": {"type": "number"},
    "date": {"type": "string", "format": "date"},
    "pattern": {"type": "string", "pattern": r'^(?:[^a-z]|\n){2,5}-[\w"\\\\]$|^x{3}$'},
    "several types": {"type": ["string", "null", "boolean"], "maxLength": 3},
    "optional": {
        "type": "object",
        "properties": {name: {"type": "boolean"} for name in "abcde"},
    },
    "nullable": {
        "anyOf": [{"$ref": "#/$defs/short"}, {"type": "null"}],
        "$defs": {"short": {"type": "string", "maxLength": 2, "title": "Short"}},
    },
    "tuple": {
        "type": "array",
        "prefixItems": [{"type": "boolean"}, {"type": "integer", "maximum": 9, "minimum": 0}],
        "items": False,
        "minItems": 1,
    },
    "list": {"type": "array", "items": {"const": 1}, "minItems": 2, "maxItems": 4},
    "long": {"type": "string", "minLength": 205, "maxLength": 250},
    "union": {
        "oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"const": kind}, "size": {"enum": [1, 2]}},
                "required": ["kind"],
            }
            for kind in ("cat", "dog")
        ]
    },
    "both": {
        "allOf": [
            {"$ref": "#/$defs/named"},
            {"properties": {"ok": {"type": "boolean"}}, "required": ["ok"]},
        ],
        "$defs": {
            "named": {
                "type": "object",
                "properties": {"name": {"enum": ["x", "y"]}},
                "required": ["name"],
            }
        },
    },
    "either": {
        "type": "object",
        "properties": {"a": {"const": 1}, "b": {"const": 2}},
        "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
    },
}
_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "null": type(None),
}


def validates(value: Any, schema: Any, root: Any = None) -> bool:
    """Whether a value satisfies a schema, for the keywords that occur here."""
    root = schema if root is None else root
    if isinstance(schema, bool):
        return schema

    def ok(inner: Any, part: Any = value) -> bool:
        return validates(part, inner, root)

    if "$ref" in schema:
        found = root
        for key in schema["$ref"].split("/")[1:]:
            found = found[key]
        if not ok(found):
            return False
    kinds = schema.get("type", list(_TYPES))
    kinds = [kinds] if isinstance(kinds, str) else kinds
    checks = [
        any(_is(value, kind) for kind in kinds),
        "const" not in schema or value == schema["const"],
        "enum" not in schema or value in schema["enum"],
        all(map(ok, schema.get("allOf", []))),
        any(map(ok, schema.get("anyOf", [True]))),
        sum(map(ok, schema.get("oneOf", [True]))) == 1,
    ]
    if isinstance(value, str):
        checks.append(len(value) >= schema.get("minLength", 0))
        checks.append(len(value) <= schema.get("maxLength", len(value)))
        checks.append(bool(re.search(schema.get("pattern", ""), value)))
        if schema.get("format") == "date":
            checks.append(bool(re.fullmatch(r"\d{4}-\d\d-\d\d", value)))
            # Python's years begin with 1.
            checks.append(bool(date.fromisoformat("2023" + value[4:])))
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        checks.append(value >= schema.get("minimum", value))
        checks.append(value <= schema.get("maximum", value))
        checks.append(value < schema.get("exclusiveMaximum", value + 1))
    elif isinstance(value, list):
        prefix = schema.get("prefixItems", [])
        checks.append(len(value) >= schema.get("minItems", 0))
        checks.append(len(value) <= schema.get("maxItems", len(value)))
        checks += [ok(inner, part) for inner, part in zip(prefix, value, strict=False)]
        checks += [ok(schema.get("items", True), part) for part in value[len(prefix) :]]
    elif isinstance(value, dict):
        named = schema.get("properties", {})
        checks += [key in value for key in schema.get("required", [])]
        others = schema.get("additionalProperties", True)
        checks += [ok(named.get(key, others), part) for key, part in value.items()]
    return all(checks)


def _is(value: Any, kind: str) -> bool:
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
