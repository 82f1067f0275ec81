"""What two schemas ask together, and whether a value can satisfy both."""

from __future__ import annotations

import json
from typing import Any

from mtpcli.errors import InputError

Schema = dict[str, Any]

# They say something about a value without asking anything of it.
ANNOTATIONS = frozenset(
    (
        "$anchor",
        "$comment",
        "$defs",
        "$id",
        "$schema",
        "default",
        "definitions",
        "deprecated",
        "description",
        "discriminator",
        "example",
        "examples",
        "readOnly",
        "title",
        "writeOnly",
    )
)


def demands(schema: Schema) -> Schema:
    """A schema without what asks nothing."""
    return {
        key: value
        for key, value in schema.items()
        if key not in ANNOTATIONS and not key.startswith("x-")
    }


def merged(one: Schema, other: Schema, where: str) -> Schema:
    """A schema that asks for what both ask for.

    Raises:
        InputError: it is not clear what that would be.
    """
    one, other = demands(one), demands(other)
    result = {**one, **other}
    for key in one.keys() & other.keys():
        if one[key] == other[key]:
            continue
        if key == "required" and isinstance(one[key], list) and isinstance(other[key], list):
            result[key] = list(dict.fromkeys([*one[key], *other[key]]))
        elif key == "properties" and not any(
            one[key][name] != other[key][name] for name in one[key].keys() & other[key].keys()
        ):
            result[key] = {**one[key], **other[key]}
        else:
            raise InputError(f"{where}: two different `{key}` cannot be combined")
    for part in (one, other):
        names = part.get("properties", {}).keys()
        if part.get("additionalProperties", True) is not True and names != (
            result.get("properties", {}).keys()
        ):
            raise InputError(
                f"{where}: `additionalProperties` cannot be combined with further properties"
            )
    return result


def disjoint(one: Schema, other: Schema) -> bool:
    """Whether no value satisfies both, as far as can be seen by types and constants."""
    if not _types(one) & _types(other):
        return True
    left, right = _constants(one), _constants(other)
    if left is not None and right is not None and not left & right:
        return True
    shared = one.get("properties", {}).keys() & other.get("properties", {}).keys()
    for name in shared.intersection(one.get("required", [])).intersection(
        other.get("required", [])
    ):
        left = _constants(one["properties"][name])
        right = _constants(other["properties"][name])
        if left is not None and right is not None and not left & right:
            return True
    return False


def _constants(schema: Any) -> set[str] | None:
    """The values that a schema names, as JSON; None if it names none."""
    if not isinstance(schema, dict):
        return None
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(values, list):
        return None
    return {json.dumps(value, sort_keys=True) for value in values}


def _types(schema: Schema) -> set[str]:
    kinds = schema.get("type")
    if kinds is None:
        values = [schema["const"]] if "const" in schema else schema.get("enum")
        if isinstance(values, list):
            return {json_type(value) for value in values}
        return {"object", "array", "string", "number", "boolean", "null"}
    found = {kinds} if isinstance(kinds, str) else set(map(str, kinds))
    return {"number" if kind == "integer" else kind for kind in found}


def json_type(value: Any) -> str:
    """JSON's name of a value's type; whole numbers are numbers."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, (int, float)):
        return "number"
    if isinstance(value, str):
        return "string"
    return "array" if isinstance(value, list) else "object"
