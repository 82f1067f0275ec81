"""A model's own chat template, rendered as transformers renders it, in a sandbox.

Templates come with downloaded files: they are programs of strangers. Jinja's sandbox keeps them
from the interpreter; the limits on time and size keep a broken one from taking the afternoon.
"""

from __future__ import annotations

import ctypes
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
MAX_MEMORY = 1 << 30  # bytes more than the process has when rendering begins
_MAX_BITS = 1 << 16  # of a product of whole numbers


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
        # Jinja computes what it can while it compiles.
        with _template_errors(), _memory_limit(MAX_MEMORY), _time_limit(MAX_SECONDS):
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
        with _template_errors(), _memory_limit(MAX_MEMORY), _time_limit(MAX_SECONDS):
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


class _TimeUp(_LimitError):
    """Raised from another thread, which can only name a class."""

    def __str__(self) -> str:
        return f"it runs for more than {MAX_SECONDS:g} seconds"


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
            if isinstance(left, int) and isinstance(right, int):
                if left.bit_length() + right.bit_length() > _MAX_BITS:
                    raise _LimitError("it multiplies huge numbers")
                return left * right
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
    except MemoryError:
        raise ModelError(
            "the model's chat template was stopped: it takes too much memory"
        ) from None
    except Exception as error:  # a stranger's program: anything may come out of it
        raise ModelError(
            f"the model's chat template fails: {one_line(str(error) or type(error).__name__)}"
        ) from None


@contextmanager
def _memory_limit(size: int) -> Iterator[None]:
    """Let the process grow by `size` bytes at most: one operation of a template can ask for all.

    Only where the system knows such a limit and says how large the process is, as Linux does.
    """
    try:
        import resource

        with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - not a real file
            now = int(file.read().split()[0]) * resource.getpagesize()
        soft, hard = resource.getrlimit(resource.RLIMIT_AS)
        room = now + size
        if soft == resource.RLIM_INFINITY or soft > room:
            resource.setrlimit(resource.RLIMIT_AS, (room, hard))
    except (ImportError, OSError, ValueError):
        yield
        return
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Interrupt the block after `seconds`, in whichever thread it runs.

    In the main one they are the processor's, so that a busy or paused machine stops nobody.
    """
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or not hasattr(signal, "setitimer"):
        with _time_limit_by_thread(seconds):
            yield
        return

    def stop(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise _TimeUp

    previous = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, previous)


@contextmanager
def _time_limit_by_thread(seconds: float) -> Iterator[None]:
    """The same by another thread, where signals are not for this one."""
    thread = ctypes.c_ulong(threading.get_ident())
    lock, done = threading.Lock(), False

    def stop() -> None:
        with lock:
            if not done:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(_TimeUp))

    timer = threading.Timer(seconds, stop)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            done = True
            # One that was raised at the last moment, and has not arrived yet, must not come later.
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)
        timer.cancel()
