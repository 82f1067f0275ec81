"""JSON Schema to GBNF: what is refused, and that the rest gives grammars that can be followed."""

from __future__ import annotations

from typing import Any

import pytest

from mtpcli.errors import InputError
from mtpcli.llama.gbnf import check
from mtpcli.schema import schema_grammar
from mtpcli.schema.ranges import integers
from tests.schemas import BOUNDED, validates

UNBOUNDED: dict[str, Any] = {
    "true": True,
    "empty": {},
    "annotations": {"title": "x", "description": "y", "x-order": 3, "default": 1},
    "map": {"type": "object", "additionalProperties": {"type": "number"}},
    "tree": {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/node"}}},
            }
        },
        "$ref": "#/$defs/node",
    },
    "unknown format": {"type": "string", "format": "email"},
    "very long": {"type": "string", "maxLength": 100_000},
    "many properties": {"properties": {f"p{i}": {"type": "string"} for i in range(300)}},
    "old tuple": {"items": [{"type": "string"}, True]},
    "escaped pointer": {"$defs": {"a/b": {"type": "null"}}, "$ref": "#/$defs/a~1b"},
}


@pytest.mark.parametrize("name", [*BOUNDED, *UNBOUNDED])
def test_schemas_become_grammars(name: str) -> None:
    check(schema_grammar({**BOUNDED, **UNBOUNDED}[name]))


@pytest.mark.parametrize(
    ("schema", "says"),
    [
        ([1], "a schema is an object, not [1]"),
        (False, "no value satisfies"),
        ({"type": "strin"}, '"strin" is no type'),
        ({"type": []}, "no type"),
        ({"type": {"a": 1}}, "no type"),
        ({"properties": {"a": {"type": 1}}}, "#/properties/a: 1 is no type"),
        ({"properties": []}, "no value of `properties`"),
        ({"required": [1]}, "no value of `required`"),
        ({"enum": []}, "no value to choose from"),
        ({"type": "string", "enum": [1]}, "no value to choose from"),
        ({"enum": [1], "minimum": 0}, "`minimum` beside constants"),
        ({"anyOf": []}, "`anyOf` is empty"),
        ({"pattern": 1}, "no value of `pattern`"),
        ({"pattern": "a", "minLength": 3}, "only one of length, `pattern` and `format`"),
        ({"pattern": "(?=a)"}, "#: pattern, character 2: groups that look ahead"),
        ({"pattern": "a$b"}, "`$` is supported at the end only"),
        ({"pattern": "a)"}, "unbalanced `)`"),
        ({"pattern": "(a"}, "has no end"),
        ({"pattern": "[a"}, "too early"),
        ({"pattern": "[z-a]"}, "a range that is none"),
        ({"pattern": "\\bword"}, "\\b is not supported"),
        ({"pattern": "x**"}, "cannot stand there"),
        ({"pattern": "x{,3}"}, "expected {n}"),
        ({"not": {}}, "`not` is not supported"),
        ({"items": {"if": True}}, "#/items: `if` is not supported"),
        ({"uniqueItems": True, "items": {}}, "`uniqueItems`"),
        ({"type": "number", "multipleOf": 0.5}, "`multipleOf`"),
        ({"minLength": 2, "maxLength": 1}, "`maxLength` is less"),
        ({"minItems": -1}, "-1 is no length"),
        ({"minItems": 3, "items": False}, "no array has enough items"),
        ({"minimum": "1"}, "`minimum` is a number"),
        ({"type": "integer", "minimum": 1.2, "maximum": 1.8}, "no number lies between"),
        ({"format": "date", "maxLength": 3}, "only one of length"),
        ({"$ref": "http://example.com/schema"}, "only `#/...` is supported"),
        ({"$ref": "#/$defs/x"}, "there is no #/$defs/x"),
        ({"required": ["a"], "additionalProperties": False, "type": "object"}, "`false`"),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "use `anyOf`"),
        ({"allOf": [{"minLength": 1}, {"minLength": 2}]}, "two different `minLength`"),
        (
            {"allOf": [{"properties": {"a": True}}, {"additionalProperties": False}]},
            "further properties",
        ),
        ({"allOf": [{"$ref": "#"}]}, "nested too deeply"),
    ],
)
def test_schemas_that_cannot_be_kept_are_refused(schema: Any, says: str) -> None:
    with pytest.raises(InputError) as caught:
        schema_grammar(schema)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_schema_that_is_only_itself() -> None:
    with pytest.raises(InputError, match="itself"):
        check(schema_grammar({"$ref": "#"}))


def test_deep_schemas_are_refused_in_one_line() -> None:
    schema: Any = {}
    for _ in range(200):
        schema = {"items": schema}
    with pytest.raises(InputError, match="deeply"):
        schema_grammar(schema)


def test_the_grammar_grows_with_the_properties_and_not_with_their_subsets() -> None:
    def size(count: int) -> int:
        return len(schema_grammar({"properties": {f"p{i:03}": True for i in range(count)}}))

    assert size(200) - size(100) < 1.2 * (size(300) - size(200))


def test_no_bound_has_a_rule_for_every_number() -> None:
    assert len(integers(-(10**12), 10**12)) < 2000


def test_the_validator_of_these_tests_can_say_no() -> None:
    person = {"name": "Ada", "age": 36, "colour": "red"}
    assert validates(person, BOUNDED["person"])
    for change in ({"age": 121}, {"name": ""}, {"colour": "pink"}, {"more": 1}, {"tags": [1]}):
        assert not validates({**person, **change}, BOUNDED["person"])
    assert not validates({"kind": "cow"}, BOUNDED["union"])
    assert not validates({}, BOUNDED["either"])
    assert not validates("2023-02-30", {"type": "number"})
