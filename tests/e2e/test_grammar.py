"""llama.cpp's grammars on the embedded pair: what they let through, and drafts under them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from mtpcli.config import DraftConfig, RuntimeConfig, SamplingConfig
from mtpcli.decode.sampling import choose
from mtpcli.errors import InputError
from mtpcli.llama.grammar import Grammar
from mtpcli.llama.model import Model
from mtpcli.schema import schema_grammar
from mtpcli.session import PairPaths, Session
from tests.conftest import Pair
from tests.schemas import BOUNDED, PERSON, validates

PROMPTS = [
    "Write this as JSON: Rita is 48 years old and likes blue.",
    "Tell me about a brave cat named Leo.",
]


@pytest.fixture(scope="module")
def model(demo_pair: Pair) -> Iterator[Model]:
    with Model(demo_pair.target) as model:
        yield model


@pytest.fixture(scope="module")
def end(model: Model) -> int:
    return next(token for token in range(model.n_vocab) if model.is_end(token))


def one(token: int) -> np.ndarray:
    return np.array([token], np.int64)


def walk(model: Model, grammar: Grammar, seed: int, limit: int = 2000) -> bytes:
    """A random text of the grammar; shorter pieces and what ends a text are likelier."""
    random = np.random.default_rng(seed)
    favour = np.zeros(model.n_vocab, np.float32)
    for token in range(model.n_vocab):
        piece = model.piece(token)
        favour[token] = -len(piece) + 3 * piece.endswith((b'"', b"}", b"]"))
        favour[token] += 4 * model.is_end(token)
    text = b""
    for position in range(limit):
        logits = favour + random.standard_normal(model.n_vocab).astype(np.float32) * 3
        token = choose(logits, SamplingConfig(seed=seed), position, constraint=grammar)
        grammar.accept(token)
        if model.is_end(token):
            return text
        text += model.piece(token)
    raise AssertionError(f"no end after {limit} tokens: {text[-200:]!r}")


@pytest.mark.parametrize("name", BOUNDED)
def test_any_text_of_a_schemas_grammar_satisfies_the_schema(model: Model, name: str) -> None:
    schema = BOUNDED[name]
    texts = set()
    for seed in range(12):
        grammar = Grammar(model, schema_grammar(schema))
        text = walk(model, grammar, seed).decode("utf-8")
        grammar.close()
        assert validates(json.loads(text), schema), text
        texts.add(text)
    assert len(texts) > 1 or name == "constant"


def accepts(model: Model, grammar: str, text: str, end: int) -> bool:
    constraint = Grammar(model, grammar)
    try:
        for token in model.tokenize(text, special=False):
            if not constraint.allowed(one(token))[0]:
                return False
            constraint.accept(token)
        return bool(constraint.allowed(one(end))[0])
    finally:
        constraint.close()


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        (
            PERSON,
            [
                '{"name":"Ada","age":36,"colour":"red"}',
                '{\n  "name": "\\u00e9\\n🐢",\n  "age": 120,\n  "colour": "blue",\n  "tags": []\n}',
            ],
            [
                '{"age":36,"name":"Ada","colour":"red"}',
                '{"name":"Ada","age":121,"colour":"red"}',
                '{"name":"","age":3,"colour":"red"}',
                '{"name":"A\nB","age":3,"colour":"red"}',
                '{"name":"\\ud83d","age":3,"colour":"red"}',
                '{"name":"Ada","age":36}',
                '{"name":"Ada","age":36,"colour":"red"',
            ],
        ),
        (
            {"type": "number", "minimum": 0, "maximum": 1},
            ["0", "1", "0.5", "0.000001"],
            ["1.5", "-0.5", "2", "00", ".5"],
        ),
        (
            {"type": "integer", "minimum": 98, "maximum": 1005},
            ["98", "99", "100", "999", "1000", "1005"],
            ["97", "1006", "9", "2000", "-99", "098"],
        ),
        ({"type": "integer", "exclusiveMinimum": 3}, ["4", "77", "123456"], ["3", "0", "-5"]),
        (True, ["null", "[1,[2,{}]]", '{"a": -1.5e10}', '"x"'], ["", "nul", "[1,]", "01"]),
        (
            {"pattern": r"^[A-Z]{2}-\d{3,4}( \w+)?$"},
            ['"AB-123"', '"AB-1234 x_9"'],
            ['"AB-12"', '"ab-123"', '"AB-123 "', '"xAB-123"', "7"],
        ),
        # Anywhere in the string; quote and backslash as JSON writes them.
        ({"pattern": r'["\\]|^.é$'}, [r'"a\"b"', r'"\\"', '"🐢é"'], ['"ab"', '"🐢"', '"xxé"']),
        (
            {"type": "string", "format": "date"},
            ['"2024-01-31"', '"1999-11-30"'],
            ['"2024-11-31"', '"2024-02-30"', '"24-01-01"'],
        ),
        (
            {"type": "string", "minLength": 250, "maxLength": 1234},
            [f'"{"x" * size}"' for size in (250, 251, 777, 1233, 1234)],
            [f'"{"x" * size}"' for size in (249, 1235, 1300)],
        ),
    ],
)
def test_what_a_schema_lets_through(
    model: Model, end: int, schema: Any, good: list[str], bad: list[str]
) -> None:
    grammar = schema_grammar(schema)
    for text in good:
        assert accepts(model, grammar, text, end), text
    for text in bad:
        assert not accepts(model, grammar, text, end), text


def test_the_end_is_allowed_where_the_grammar_ends(model: Model, end: int) -> None:
    grammar = Grammar(model, 'root ::= "ab" "c"?')
    every = np.arange(model.n_vocab)
    for letter, may_end in (("a", False), ("b", True), ("c", True)):
        (token,) = model.tokenize(letter, special=False)
        grammar.accept(token)
        assert bool(grammar.allowed(one(end))[0]) == may_end
    # Only ends are left.
    assert all(model.is_end(token) for token in every[grammar.allowed(every)])
    grammar.accept(end)
    assert grammar.allowed(every).all()
    grammar.accept(5)
    grammar.close()
    grammar.close()


def test_a_clone_goes_its_own_way(model: Model) -> None:
    grammar = Grammar(model, 'root ::= "a" ("b" | "c")')
    letters = {letter: model.tokenize(letter, special=False)[0] for letter in "abc"}
    grammar.accept(letters["a"])
    clone = grammar.clone()
    clone.accept(letters["b"])
    assert not clone.allowed(one(letters["c"]))[0]
    clone.close()
    assert grammar.allowed(one(letters["c"]))[0]
    grammar.close()


def test_a_token_that_is_not_allowed_is_an_error_and_no_abort(model: Model) -> None:
    grammar = Grammar(model, 'root ::= "a"')
    with pytest.raises(ValueError, match="not what the grammar allows"):
        grammar.accept(model.tokenize("b", special=False)[0])
    grammar.close()


def test_tokens_that_structure_a_turn_are_no_text(model: Model) -> None:
    grammar = Grammar(model, "root ::= .*")
    every = np.arange(model.n_vocab)
    pieces = [model.piece(token) for token in every[grammar.allowed(every)].tolist()]
    texts = b"".join(pieces)
    for marker in (b"<|channel>", b"<channel|>", b"<|turn>", b"<bos>", b"<pad>"):
        assert marker not in texts
    grammar.close()


def test_characters_of_several_bytes_are_not_torn(model: Model, end: int) -> None:
    every = np.arange(model.n_vocab)
    by_piece = {model.piece(token): token for token in every.tolist()}
    grammar = Grammar(model, "root ::= .*")
    for byte in "🐢".encode():
        allowed = grammar.allowed(every)
        grammar.accept(by_piece[bytes([byte])])
    # Inside of the character only its next byte was allowed: no end, no letter, no first byte.
    assert {model.piece(token) for token in every[allowed].tolist()} == {
        bytes([byte]) for byte in range(0x80, 0xC0)
    }
    assert grammar.allowed(one(end))[0]
    # Bytes that begin no character: an overlong A, a surrogate, what lies beyond Unicode.
    for text in (b"\xc1\x81", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"):
        clone = grammar.clone()
        for byte in text:
            token = by_piece[bytes([byte])]
            if not clone.allowed(one(token))[0]:
                break
            clone.accept(token)
        else:
            raise AssertionError(f"{text!r} was let through")
        clone.close()
    grammar.close()


@pytest.mark.parametrize(
    ("grammar", "says"),
    [
        ('root ::= "x', "line 1 of the grammar"),
        ('root ::= root "x" | "y"', "left recursion"),
        # This one is left to llama.cpp's own check, whose words are quoted.
        ('root ::= ("a" | )*', "left recursion"),
    ],
)
def test_what_llama_cpp_cannot_follow_is_an_input_error(
    model: Model, grammar: str, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match=says):
        Grammar(model, grammar)
    assert capfd.readouterr() == ("", "")


def test_a_grammar_that_nothing_can_satisfy(model: Model) -> None:
    grammar = Grammar(model, "root ::= [^\\x00-\\U0010FFFF]")
    with pytest.raises(InputError, match="no token"):
        choose(np.zeros(model.n_vocab, np.float32), SamplingConfig(), 0, constraint=grammar)
    grammar.close()


Answers = list[tuple[list[int], str, str | None]]
Run = Callable[..., Answers]


@pytest.fixture(scope="module")
def run(demo_pair: Pair) -> Run:
    """Generate for all prompts and seeds under the schema, with a draft depth, n_seq at once."""

    def run(depth: int, n_seq: int, *, rejection: bool = False) -> Answers:
        paths = PairPaths(demo_pair.target, demo_pair.drafter if depth else None)
        runtime = RuntimeConfig(n_ctx=512, n_seq=n_seq, threads=1)
        with Session(paths, DraftConfig(depth, rejection=rejection), runtime) as session:
            constraint = session.constraint(schema_grammar(PERSON))
            pairs = [
                session.request(
                    session.chat_tokens([{"role": "user", "content": prompt}]),
                    config,
                    max_tokens=100,
                    constraint=constraint,
                )
                for prompt in PROMPTS
                for config in (
                    SamplingConfig(temperature=0),
                    *(SamplingConfig(seed=seed) for seed in range(3)),
                    SamplingConfig(seed=9, top_k=0, top_p=1),
                )
            ]
            sequences = session.engine.generate([request for request, _ in pairs])
            texts = [stream.answer for _, stream in pairs]
        return [
            (sequence.tokens, text, sequence.finish_reason)
            for sequence, text in zip(sequences, texts, strict=True)
        ]

    return run


@pytest.fixture(scope="module")
def plain(run: Run) -> Answers:
    return run(0, 1)


def test_results_satisfy_the_schema(plain: Answers) -> None:
    assert finished(plain) > 3


def finished(answers: Answers) -> int:
    """How many different answers came to their end, after a look at all of them."""
    texts = [text for _, text, reason in answers if reason == "stop"]
    assert len(texts) > len(answers) / 2
    for text in texts:
        assert validates(json.loads(text), PERSON), text
    return len(set(texts))


def test_results_by_rejection_satisfy_it_too(run: Run) -> None:
    assert finished(run(3, 1, rejection=True)) > 3


@pytest.mark.parametrize(("depth", "n_seq"), [(7, 1), (3, 2)])
def test_the_text_is_the_same_with_and_without_drafts(
    run: Run, plain: Answers, depth: int, n_seq: int
) -> None:
    assert run(depth, n_seq) == plain
