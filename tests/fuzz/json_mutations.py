"""Ways to damage JSON: values exchanged, removed, doubled or moved, and bytes that are no JSON."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

ODD: list[Any] = [None, True, False, 0, -1, 1, 3, 2**31, 2**63, 2**70, 1.5, 1e308, -0.0, "", "x"]
ODD += ["\ud800", "\x1b[2J", "[bold]", "\x00", "A" * 5000, [], {}, [[]], [None], {"a": {}}, "1"]
BYTES = [b"", b"\n", b"\xff", b'"', b"\x00", b"{", b"}", b",", b"[" * 3000, b"9" * 5000, b"NaN"]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths of everything inside a value."""
    found: list[tuple[Any, ...]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list):
        inner = list(enumerate(value[:20]))  # long lists are alike all over
    else:
        return found
    for key, item in inner:
        found += [(*path, key), *places(item, (*path, key))]
    return found


def mutate_value(value: Any, rng: random.Random) -> Any:
    """A copy with one thing in it exchanged, removed, doubled, renamed or moved."""
    value = copy.deepcopy(value)
    paths = places(value)
    if not paths or rng.random() < 0.02:
        return rng.choice(ODD)
    # As often near the root as deep inside, however much there is.
    depth = rng.randrange(1, max(map(len, paths)) + 1)
    *above, key = rng.choice([path for path in paths if len(path) <= depth])
    parent = value
    for step in above:
        parent = parent[step]
    way = rng.randrange(8)
    if way == 0:
        del parent[key]
    elif way == 1 and isinstance(parent, dict):
        parent[rng.choice([*parent, "", "\x1b", key + "x"])] = parent.pop(key)
    elif way == 2 and isinstance(parent, list):
        parent.insert(key, parent[rng.randrange(len(parent))])
    elif way == 3:
        *above, _ = rng.choice(paths)
        source = value
        for step in above:
            source = source[step] if isinstance(source, list | dict) else source
        parent[key] = copy.deepcopy(source)
    elif way == 4 and isinstance(parent[key], int | float):
        number = parent[key]
        parent[key] = rng.choice(
            [number + 1, number - 1, number * 2, -number, number / 3, str(number)]
        )
    else:
        parent[key] = rng.choice(ODD)
    return value


def dump(value: Any) -> bytes:
    """JSON text; lone surrogates stay in it as bytes that are no UTF-8."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """The bytes with some of them changed, cut out, or put in."""
    changed = bytearray(data)
    if rng.random() < 0.1:
        return bytes(changed[: rng.randrange(len(changed) + 1)])
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(len(changed) + 1)
        changed[at : at + rng.randrange(4)] = rng.choice(BYTES)
    return bytes(changed)


def mutate(data: bytes, rng: random.Random) -> bytes:
    """Damage the value of a JSON text, or its bytes."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):  # damaged before
        value = None
    if value is None or rng.random() < 0.2:
        return mutate_bytes(data, rng)
    return dump(mutate_value(value, rng))
