"""A model's own chat template, rendered as transformers renders it, in a sandbox.

Templates come with downloaded files: they are programs of strangers. Jinja's sandbox keeps them
from the interpreter; the limits on time and size keep a broken one from taking the afternoon.
"""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from types import FrameType
from typing import Any, NoReturn, TypedDict

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
import jinja2.sandbox

from mtpcli.errors import InputError, ModelError
from mtpcli.sanitize import one_line

MAX_SOURCE = 1 << 20
MAX_OUTPUT = 1 << 24
MAX_SECONDS = 10.0


class _Role(TypedDict):
    role: str


class Message(_Role, total=False):
    """One message of a conversation, as chat templates read it.

    `role` is `system`, `user`, `assistant` or `tool`; `content` is text or a list of parts.
    """

    content: str | list[dict[str, Any]] | None
    reasoning: str
    tool_calls: list[dict[str, Any]]
    tool_call_id: str
    name: str


class ChatTemplate:
    """A compiled chat template."""

    def __init__(self, source: str, bos_token: str, eos_token: str) -> None:
        """Compile `source`, the text of `tokenizer.chat_template`.

        Raises:
            ModelError: the template is not valid Jinja, or too large to be one.
        """
        if len(source) > MAX_SOURCE:
            raise ModelError(f"the model's chat template is too large: {len(source)} characters")
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}
        with _template_errors():
            self._template = _Sandbox().from_string(source)

    def render(
        self,
        messages: Sequence[Message],
        *,
        thinking: bool = False,
        tools: Sequence[dict[str, Any]] | None = None,
        add_generation_prompt: bool = True,
    ) -> str:
        """The text that makes the model answer `messages`.

        It begins with the beginning-of-sequence token where the template writes it, so tokenise
        it with special tokens read as such and without adding another.

        Args:
            messages: the conversation, the oldest first.
            thinking: let the model think before it answers.
            tools: JSON schemas of functions that the model may call.
            add_generation_prompt: open the model's turn at the end.

        Raises:
            InputError: the template refuses the messages (`raise_exception`).
            ModelError: the template fails, or exceeds the limits on time or size.
        """
        values = {
            "messages": list(messages),
            "tools": list(tools) if tools else None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            "enable_thinking": thinking,
            **self._tokens,
        }
        pieces: list[str] = []
        size = 0
        with _template_errors(), _time_limit(MAX_SECONDS):
            for piece in self._template.generate(values):
                size += len(piece)
                if size > MAX_OUTPUT:
                    raise _LimitError(f"it writes more than {MAX_OUTPUT} characters")
                pieces.append(piece)
        return "".join(pieces)


class _RefusalError(jinja2.TemplateError):
    """The template called `raise_exception`."""


class _LimitError(Exception):
    """The template used too much of something."""


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}`, which marks the model's text for training: here it marks nothing."""

    tags = {"generation"}  # noqa: RUF012 - declared as an instance variable by jinja2

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(jinja2.sandbox.ImmutableSandboxedEnvironment):
    """transformers' Jinja environment, with limits on what one multiplication can build."""

    intercepted_binops = frozenset(("*", "**"))

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[_GenerationTag, jinja2.ext.loopcontrols],
        )
        self.filters["tojson"] = _to_json
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = _strftime_now

    def call_binop(
        self, context: jinja2.runtime.Context, operator: str, left: Any, right: Any
    ) -> Any:
        """Evaluate an intercepted operator, unless its result would be huge."""
        if operator == "**" and (abs(left) > 1 << 16 or abs(right) > 64):
            raise _LimitError("it raises a number to a huge power")
        if operator == "*":
            for text, count in ((left, right), (right, left)):
                if hasattr(text, "__len__") and len(text) * int(count) > MAX_OUTPUT:
                    raise _LimitError("it repeats a text too often")
        return super().call_binop(context, operator, left, right)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes HTML, which a prompt is not.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: object) -> NoReturn:
    raise _RefusalError(str(message))


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)


@contextmanager
def _template_errors() -> Iterator[None]:
    """Turn whatever a template raises into one line."""
    try:
        yield
    except _RefusalError as error:
        raise InputError(
            f"the model's chat template refuses these messages: {one_line(str(error))}"
        ) from None
    except jinja2.TemplateSyntaxError as error:
        raise ModelError(
            f"the model's chat template is not valid, line {error.lineno}: "
            f"{one_line(error.message or '')}"
        ) from None
    except _LimitError as error:
        raise ModelError(f"the model's chat template was stopped: {error}") from None
    except Exception as error:  # a stranger's program: anything may come out of it
        raise ModelError(
            f"the model's chat template fails: {one_line(str(error) or type(error).__name__)}"
        ) from None


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Interrupt the block after `seconds`.

    Only in the main thread, where Python runs signal handlers; a host that renders in another
    thread has Jinja's limit on loops (100000 rounds each) and the limit on size.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise _LimitError(f"it runs for more than {seconds:g} seconds")

    previous = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
