"""What rows may ask for, and how each kind is answered."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from mtpcli.batch.rows import Ask, Limits, Row, Template, conversation, limits, row_seed
from mtpcli.batch.shapes import Answer, OpenAiShape, PlainShape, choose_shape, encode
from mtpcli.config import SamplingConfig
from mtpcli.errors import InputError, UsageError

ANSWER = Answer("Hello", None, "stop", 3, 2, 9)


def row(number: int = 1, /, **fields: Any) -> Row:
    return Row(number, number + 1, fields)


def request(**body: Any) -> Row:
    return row(custom_id="a", method="POST", url="/v1/chat/completions", body=body)


HI = [{"role": "user", "content": "Hi"}]


def test_seeds_differ_by_row_and_by_run_and_stay() -> None:
    seeds = [row_seed(0, number) for number in range(1, 1001)]
    assert len(set(seeds)) == 1000
    assert max(seeds) < 2**48
    assert row_seed(1, 1) != row_seed(0, 1)
    # Records of an older version must come out the same.
    assert row_seed(0, 1) == 221829069981388


def test_limits_of_a_row() -> None:
    fields = {
        "max_tokens": 5.0,
        "temperature": 0,
        "top_p": 1,
        "seed": 7,
        "stop": "x",
        "top_k": None,
    }
    own = {"temperature": 0.0, "top_p": 1.0, "seed": 7}
    assert limits(fields) == Limits(5, own, ("x",))
    more = {"min_p": 0.1, "repeat_penalty": 1.2, "presence_penalty": -1, "frequency_penalty": 0.5}
    named = {"min_p": 0.1, "repetition": 1.2, "presence": -1.0, "frequency": 0.5}
    assert limits(more).sampling == named
    SamplingConfig(**named, **own)  # type: ignore[arg-type]
    assert limits({}) == Limits()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_tokens", 0),
        ("max_tokens", 2.5),
        ("max_tokens", "5"),
        ("max_tokens", True),
        ("temperature", -1),
        ("temperature", 1e300),
        ("temperature", 10**400),
        ("temperature", "hot"),
        ("top_p", 0),
        ("top_p", 1.1),
        ("top_k", -1),
        ("min_p", 2),
        ("repeat_penalty", 0),
        ("presence_penalty", "x"),
        ("seed", 2**64),
        ("seed", False),
        ("stop", 5),
        ("stop", [1]),
    ],
)
def test_impossible_limits(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name):
        limits({name: value})


def test_messages_are_kept_as_templates_read_them() -> None:
    parts = [{"type": "text", "text": "Hi"}]
    given = [
        {"role": "developer", "content": "Be kind.", "foreign": 1},
        {"role": "user", "content": parts},
        {"role": "assistant", "content": None, "tool_calls": [{}]},
    ]
    assert conversation(given) == [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": parts},
        {"role": "assistant", "tool_calls": [{}]},
    ]


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "Hi",
        ["Hi"],
        [{"content": "Hi"}],
        [{"role": "god", "content": "Hi"}],
        [{"role": "user"}],
        [{"role": "user", "content": 5}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
    ],
)
def test_messages_that_are_none(value: Any) -> None:
    with pytest.raises(InputError, match="message"):
        conversation(value)


def test_template() -> None:
    template = Template("{{{name}}}: {first name}, {n}!")
    assert template.names == ["name", "first name", "n"]
    fields = {"name": "{n}", "first name": "Zoë", "n": [1, "é"]}
    assert template.fill(fields) == '{{n}}: Zoë, [1, "é"]!'
    template.check(["n", "first name", "name", "more"])
    with pytest.raises(UsageError, match=re.escape("{first name}, and the columns are name, n")):
        template.check(["name", "n"])
    with pytest.raises(InputError, match="first name"):
        template.fill({"name": "x", "n": 1})


@pytest.mark.parametrize("text", ["no column", "{", "}", "{a} {", "{a}}", "{}"])
def test_templates_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="--template"):
        Template(text)


def test_plain_rows_ask_and_are_answered() -> None:
    shape = PlainShape()
    given = row(id="x", prompt="Hi", temperature=0, error="old", response="old")
    ask = shape.ask(given)
    assert (ask.prompt, ask.limits.sampling, ask.raw) == ("Hi", {"temperature": 0.0}, False)
    assert shape.ask(row(messages=HI)).prompt == HI
    assert shape.answer(given, ANSWER) == {
        "line": 2,
        "id": "x",
        "prompt": "Hi",
        "temperature": 0,
        "response": {
            "text": "Hello",
            "finish_reason": "stop",
            "usage": {"prompt_tokens": 3, "completion_tokens": 2},
            "seed": 9,
        },
    }
    failure = shape.failure(given, "no")
    assert failure["error"] == {"line": 2, "message": "no"}
    assert "response" not in failure
    thought = Answer("Hello", "Hm", "stop", 3, 2, 9)
    assert shape.answer(given, thought)["response"]["thought"] == "Hm"


@pytest.mark.parametrize("fields", [{}, {"prompt": 5}, {"prompt": "a", "messages": HI}])
def test_plain_rows_that_ask_nothing(fields: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="prompt"):
        PlainShape().ask(row(**fields))


def test_fields_for_a_template_are_data_only() -> None:
    shape = PlainShape(Template("Weather at {temperature}?"))
    ask = shape.ask(row(temperature="-5", max_tokens="many"))
    assert ask.prompt == "Weather at -5?"
    assert ask.limits == Limits()


def test_the_shape_of_an_input() -> None:
    given = row(prompt="Hi", temperature="hot", text="T")
    table = choose_shape("csv", ["prompt", "temperature"], None, "m")
    assert table.ask(given) == Ask("Hi", Limits())
    assert choose_shape("csv", ["text"], Template("{text}!"), "m").ask(given).prompt == "T!"
    assert choose_shape("text", None, None, "m").ask(given).prompt == "T"
    assert isinstance(choose_shape("openai", None, None, "m"), OpenAiShape)
    for kind, columns, template in (
        ("csv", ["a"], None),
        ("csv", ["a"], Template("{b}")),
        ("text", None, Template("{b}")),
        ("openai", None, Template("{b}")),
    ):
        with pytest.raises(UsageError, match="--template"):
            choose_shape(kind, columns, template, "m")  # type: ignore[arg-type]


def test_files_are_not_repeated_in_their_records() -> None:
    shape = PlainShape(files=True)
    given = Row(1, None, {"file": "a/b.txt", "name": "b", "text": "Hi"})
    assert shape.ask(given).prompt == "Hi"
    record = shape.answer(given, ANSWER)
    assert list(record) == ["file", "response"]
    assert shape.failure(given, "no") == {"file": "a/b.txt", "error": {"message": "no"}}


def test_openai_chat() -> None:
    shape = OpenAiShape("model.gguf")
    given = request(model="gpt", messages=HI, max_completion_tokens=4, n=1, stream=False, user="u")
    ask = shape.ask(given)
    assert (ask.prompt, ask.limits.max_tokens) == (HI, 4)
    record = shape.answer(given, Answer("Hello", None, "context", 3, 2, 9))
    assert list(record) == ["id", "custom_id", "response", "error"]
    assert record["custom_id"] == "a"
    assert record["error"] is None
    assert record["response"]["status_code"] == 200
    body = record["response"]["body"]
    assert body["object"] == "chat.completion"
    assert body["model"] == "model.gguf"
    (choice,) = body["choices"]
    assert choice["message"] == {"role": "assistant", "content": "Hello"}
    assert choice["finish_reason"] == "length"
    assert body["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def test_openai_response_formats() -> None:
    def schema(response_format: Any) -> Any:
        ask = OpenAiShape("m").ask(request(messages=HI, response_format=response_format))
        return ask.limits.schema

    wanted = {"type": "array"}
    named = {"name": "list", "schema": wanted, "strict": True}
    assert schema({"type": "text"}) is None
    assert schema({"type": "json_object"}) == {"type": "object"}
    assert schema({"type": "json_schema", "json_schema": named}) == wanted


def test_openai_completions_are_raw() -> None:
    shape = OpenAiShape("model.gguf")
    given = row(custom_id="a", url="/v1/completions", body={"prompt": ["Once"]})
    ask = shape.ask(given)
    assert (ask.prompt, ask.raw) == ("Once", True)
    body = shape.answer(given, ANSWER)["response"]["body"]
    assert body["object"] == "text_completion"
    assert body["choices"][0]["text"] == "Hello"


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (row(custom_id=5, body={}), "custom_id"),
        (row(custom_id="a", body=[]), "body"),
        (row(custom_id="a", url="/v1/embeddings", body={}), "url"),
        (request(messages=HI, n=2), "n is not"),
        (request(messages=HI, stream=True), "stream"),
        (request(messages=HI, tools=[{}]), "tools"),
        (request(messages=HI, response_format={"type": "xml"}), "response_format"),
        (request(messages=HI, response_format={"type": "json_schema"}), "response_format"),
        (request(messages=HI, response_format=[]), "response_format"),
        (request(messages=HI, frequency_penalty="x"), "frequency_penalty"),
        (request(messages=HI, logprobs=True), "logprobs"),
        (request(messages=HI, temperature="x"), "temperature"),
        (request(prompt="Hi"), "messages"),
        (row(custom_id="a", url="/v1/completions", body={"prompt": [1, 2]}), "prompt"),
    ],
)
def test_openai_requests_that_cannot_be_met(given: Row, says: str) -> None:
    with pytest.raises(InputError, match=says):
        OpenAiShape("m").ask(given)


def test_openai_failures_keep_the_id() -> None:
    record = OpenAiShape("m").failure(request(), "no")
    assert (record["custom_id"], record["response"]) == ("a", None)
    assert record["error"]["message"] == "no"
    assert OpenAiShape("m").failure(Row(1, 1, {}, "bad"), "bad")["custom_id"] is None


@pytest.mark.parametrize("text", ["żółw 🐢", "\x1b[2J\x00\n\t", "\ud800 half"])
def test_records_are_one_line_and_come_back(text: str) -> None:
    line = encode({"text": text})
    assert b"\n" not in line
    assert json.loads(line) == {"text": text}
