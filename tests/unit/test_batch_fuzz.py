"""Damaged and odd inputs: every row gets its record, and nothing else happens."""

from __future__ import annotations

import io
import json
import random
from typing import Any

import pytest

from mtpcli.batch.rows import Template
from mtpcli.batch.run import Run
from mtpcli.batch.shapes import Kind, OpenAiShape, PlainShape, Shape
from mtpcli.batch.sinks import StreamSink
from mtpcli.batch.source import LineSource
from mtpcli.batch.stop import Stop
from mtpcli.batch.worker import Preparer, Worker
from mtpcli.errors import InputError
from tests.batch_fakes import DEFAULTS, FakeBackend

HI = {"role": "user", "content": "Hi"}
PLAIN = [
    {"prompt": "Hello", "max_tokens": 3, "temperature": 0.5, "top_p": 0.9, "seed": 4},
    {"messages": [{"role": "system", "content": "x"}, HI], "stop": ["a"], "max_tokens": 2},
    {"prompt": "p", "schema": {"type": "object", "properties": {"a": {"enum": [1, None]}}}},
]
OPENAI = [
    {"custom_id": "a", "url": "/v1/chat/completions", "body": {"messages": [HI], "max_tokens": 2}},
    {"custom_id": "b", "url": "/v1/completions", "body": {"prompt": "x", "max_tokens": 2}},
    {"custom_id": "c", "body": {"messages": [HI], "response_format": {"type": "json_object"}}},
]
ODD: list[Any] = [None, True, -1, 2**70, 1e308, "", "\ud800", "\x1b[2J", [], {}, [[]], "{prompt}"]
TABLE = b'name,text\nBo,"two\nlines"\nZo\xc3\xab,"a ""quote"""\n,\n'


def mutate_value(value: Any, rng: random.Random) -> Any:
    """The value with something in it exchanged, removed or doubled."""
    if rng.random() < 0.3 or not isinstance(value, dict | list) or not value:
        return rng.choice(ODD)
    if isinstance(value, list):
        at = rng.randrange(len(value))
        return [*value[:at], mutate_value(value[at], rng), *value[at:]]
    key = rng.choice(list(value))
    changed = dict(value)
    if rng.random() < 0.2:
        changed[rng.choice(list(value))] = changed.pop(key)
    else:
        changed[key] = mutate_value(value[key], rng)
    return changed


def mutate_bytes(data: bytes, rng: random.Random) -> bytes:
    """The bytes with some of them changed, cut out, or put in."""
    changed = bytearray(data)
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(len(changed) + 1)
        piece = rng.choice(
            [b"", b"\n", b"\xff", b'"', b"\x00", b"{", b",", b"[" * 2000, b"9" * 5000]
        )
        changed[at : at + rng.randrange(4)] = piece
    return bytes(changed)


def answer_all(data: bytes, kind: Kind, shape: Shape) -> None:
    backend = FakeBackend()
    source = LineSource(io.BytesIO(data), "input", kind)
    measure = source.measure()
    assert measure is not None
    stream = io.BytesIO()
    sink = StreamSink(stream, "stream", ordered=True)
    run = Run(source.rows(), sink, Stop())
    worker = Worker(Preparer(backend, shape, DEFAULTS), shape, backend.engine)
    run.run(worker, lambda totals: None)
    assert run.complete
    records = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert len(records) == measure.rows == run.totals.done + run.totals.failed
    for record in records:
        assert (record.get("response") is None) == (record.get("error") is not None)


@pytest.fixture(autouse=True)
def no_grammar(monkeypatch: pytest.MonkeyPatch) -> None:
    # The fake target's tokens are no text that a grammar could read.
    monkeypatch.setattr(FakeBackend, "constraint", lambda self, grammar: None)


@pytest.mark.parametrize("kind", ["jsonl", "openai"])
def test_mutated_json_lines(kind: Kind) -> None:
    rng = random.Random(3)
    shape: Shape = PlainShape() if kind == "jsonl" else OpenAiShape("m")
    for _ in range(60):
        lines = []
        for _ in range(10):
            row = mutate_value(rng.choice(PLAIN if kind == "jsonl" else OPENAI), rng)
            line = json.dumps(row, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass")
            lines.append(mutate_bytes(line, rng) if rng.random() < 0.3 else line)
        answer_all(b"\n".join(lines), kind, shape)


def test_mutated_tables() -> None:
    rng = random.Random(4)
    shape = PlainShape(Template("{name}: {text}"))
    refused = 0
    for _ in range(300):
        try:
            answer_all(mutate_bytes(TABLE, rng), "csv", shape)
        except InputError as error:
            assert "column" in str(error)
            refused += 1
    assert refused < 150
