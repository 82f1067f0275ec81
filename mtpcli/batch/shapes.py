"""How the rows of each kind of input ask, and how their records answer: pure functions.

A record repeats what identifies its row and has a `response` or an `error`, in every shape.
Nothing in it depends on the clock or on what else was generated: the same row gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mtpcli.batch.rows import Ask, Row, Template, conversation, limits
from mtpcli.errors import InputError, UsageError

Kind = Literal["jsonl", "openai", "csv", "text"]

# What these ask for cannot be given; leaving it out silently would be worse than an error.
_UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "stream": (False,),
    "n": (1,),
    "best_of": (1,),
    "tools": ([],),
    "functions": ([],),
    "logprobs": (False, 0),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "echo": (False,),
    "suffix": ("",),
}
_CHAT, _TEXT = "/v1/chat/completions", "/v1/completions"


@dataclass(frozen=True)
class Answer:
    """What was generated for a row; `thought` is None where the model was not to think."""

    text: str
    thought: str | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seed: int


class Shape(Protocol):
    """One kind of rows.

    Attributes:
        head: what all their prompts begin with.
    """

    head: str

    def ask(self, row: Row) -> Ask:
        """What the row asks for.

        Raises:
            InputError: it asks for nothing, or for something that cannot be.
        """
        ...

    def answer(self, row: Row, answer: Answer) -> dict[str, Any]:
        """The record of a row that has an answer."""
        ...

    def failure(self, row: Row, message: str) -> dict[str, Any]:
        """The record of a row that has none."""
        ...


class PlainShape:
    """Objects with `prompt` or `messages`, rows of a table, files.

    The record is the row's own fields and the answer: what identifies the row in its reader's
    eyes is in them.
    """

    def __init__(self, template: Template | None = None, *, files: bool = False) -> None:
        """With a template, the fields are its data and nothing else; a file's text too."""
        self._template = template or (Template("{text}") if files else None)
        self._files = files
        self.head = self._template.head if self._template else ""

    def ask(self, row: Row) -> Ask:
        """See `Shape`."""
        if self._template:
            return Ask(self._template.fill(row.fields), limits({}))
        prompt, messages = row.fields.get("prompt"), row.fields.get("messages")
        if (prompt is None) == (messages is None):
            both = "both prompt and messages" if prompt is not None else "no prompt and no messages"
            raise InputError(f"there are {both}" if prompt is not None else f"there is {both}")
        if messages is not None:
            return Ask(conversation(messages), limits(row.fields))
        if not isinstance(prompt, str):
            raise InputError("prompt must be a text")
        return Ask(prompt, limits(row.fields))

    def answer(self, row: Row, answer: Answer) -> dict[str, Any]:
        """See `Shape`."""
        response: dict[str, Any] = {"text": answer.text}
        if answer.thought is not None:
            response["thought"] = answer.thought
        response |= {
            "finish_reason": answer.finish_reason,
            "usage": {
                "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.completion_tokens,
            },
            "seed": answer.seed,
        }
        return {**self._own(row), "response": response}

    def failure(self, row: Row, message: str) -> dict[str, Any]:
        """See `Shape`."""
        error = {"line": row.line, "message": message} if row.line else {"message": message}
        return {**self._own(row), "error": error}

    def _own(self, row: Row) -> dict[str, Any]:
        if self._files:
            return {"file": row.fields["file"]}
        own = {key: value for key, value in row.fields.items() if key not in ("response", "error")}
        return {"line": row.line, **own}


class OpenAiShape:
    """Requests of OpenAI's batch interface, answered as it answers.

    Times are 0, because a record must not depend on the clock.
    """

    head = ""

    def __init__(self, model: str) -> None:
        """`model` is the name that answers give."""
        self._model = model

    def ask(self, row: Row) -> Ask:
        """See `Shape`."""
        custom_id, body = row.fields.get("custom_id"), row.fields.get("body")
        if not isinstance(custom_id, str) or not isinstance(body, dict):
            raise InputError("a request needs a custom_id (a text) and a body (an object)")
        url = row.fields.get("url", _CHAT)
        if url not in (_CHAT, _TEXT):
            raise InputError(f"url must be {_CHAT} or {_TEXT}")
        for name, neutral in _UNSUPPORTED.items():
            if body.get(name) is not None and body[name] not in neutral:
                raise InputError(f"{name} is not supported here")
        body = dict(body)
        body["schema"] = _schema(body.get("response_format"))
        if body.get("max_tokens") is None:
            body["max_tokens"] = body.get("max_completion_tokens")
        if url == _CHAT:
            return Ask(conversation(body.get("messages")), limits(body))
        prompt = body.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        if not isinstance(prompt, str):
            raise InputError("prompt must be a text")
        return Ask(prompt, limits(body), raw=True)

    def answer(self, row: Row, answer: Answer) -> dict[str, Any]:
        """See `Shape`."""
        chat = row.fields.get("url", _CHAT) == _CHAT
        choice: dict[str, Any] = {"index": 0}
        if chat:
            message = {"role": "assistant", "content": answer.text}
            if answer.thought is not None:
                message["reasoning_content"] = answer.thought
            choice["message"] = message
        else:
            choice["text"] = answer.text
        choice["logprobs"] = None
        choice["finish_reason"] = "stop" if answer.finish_reason == "stop" else "length"
        body = {
            "id": f"{'chatcmpl' if chat else 'cmpl'}-{row.number}",
            "object": "chat.completion" if chat else "text_completion",
            "created": 0,
            "model": self._model,
            "choices": [choice],
            "usage": {
                "prompt_tokens": answer.prompt_tokens,
                "completion_tokens": answer.completion_tokens,
                "total_tokens": answer.prompt_tokens + answer.completion_tokens,
            },
            "seed": answer.seed,
        }
        response = {"status_code": 200, "request_id": f"req_{row.number}", "body": body}
        return {**self._ids(row), "response": response, "error": None}

    def failure(self, row: Row, message: str) -> dict[str, Any]:
        """See `Shape`."""
        error = {"code": "invalid_request", "message": message, "line": row.line}
        return {**self._ids(row), "response": None, "error": error}

    def _ids(self, row: Row) -> dict[str, Any]:
        return {"id": f"batch_req_{row.number}", "custom_id": row.fields.get("custom_id")}


def choose_shape(
    kind: Kind, columns: Sequence[str] | None, template: Template | None, model: str
) -> Shape:
    """The shape of an input.

    Args:
        columns: of a table, None elsewhere.
        model: name that answers in OpenAI's format give.

    Raises:
        UsageError: the template does not fit, or there should be one.
    """
    if kind == "openai":
        if template:
            raise UsageError("--template is for fields, and OpenAI's requests have prompts")
        return OpenAiShape(model)
    if template and kind == "text":
        template.check(["text", "name", "file"])
    elif template and columns:
        template.check(columns)
    elif columns:
        if "prompt" not in columns:
            raise UsageError(
                "say what to make of a row: --template '... {column} ...', with one or more of the "
                f"columns {', '.join(columns)}"
            )
        template = Template("{prompt}")  # the other cells are data, `temperature` perhaps
    return PlainShape(template, files=kind == "text")


def _schema(response_format: Any) -> Any:
    """The JSON Schema of a `response_format`, None for plain text."""
    if response_format is None or response_format == {"type": "text"}:
        return None
    if response_format == {"type": "json_object"}:
        return {"type": "object"}
    try:
        if response_format["type"] == "json_schema":
            return response_format["json_schema"]["schema"]
    except (KeyError, TypeError):
        pass
    raise InputError("response_format must be text, json_object, or json_schema with its schema")


def is_openai(fields: Mapping[str, Any]) -> bool:
    """Whether a row looks like a request of OpenAI's batch interface."""
    return "custom_id" in fields and "body" in fields


def encode(record: Mapping[str, Any]) -> bytes:
    """A record as one line of JSON, without the line's end."""
    try:
        return json.dumps(record, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can escape and UTF-8 not write
        return json.dumps(record).encode()
