"""Where a chat's lines come from: an editor on a terminal, else standard input as it is."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from prompt_toolkit import PromptSession
from prompt_toolkit.application import get_app
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.completion import CompleteEvent, Completer, Completion, PathCompleter
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import FormattedText
from prompt_toolkit.history import FileHistory, History, InMemoryHistory
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output import ColorDepth
from prompt_toolkit.styles import Style

from mtpcli.cli.chat_commands import COMMANDS
from mtpcli.cli.options import decode_text
from mtpcli.sanitize import visible

_MENU_ROWS = 6


class Input(Protocol):
    """Gives the user's lines."""

    def read(self, prefill: str = "") -> str | None:
        """The next line, perhaps empty; None at the end. `prefill` is there to be edited."""
        ...


class Lines:
    """Standard input, a line at a time."""

    def read(self, prefill: str = "") -> str | None:
        """The next line. There is nothing to edit it in, so `prefill` is not used.

        Raises:
            InputError: it is not UTF-8, or has no end.
        """
        typed = sys.stdin.isatty()
        if typed:
            sys.stderr.write("> ")
            sys.stderr.flush()
        try:
            line = decode_text(sys.stdin.buffer.readline, "a line of standard input")
        except KeyboardInterrupt:
            if not typed:
                raise
            sys.stderr.write("\n")
            return ""
        return line.strip() if line else None


class Editor:
    """A line editor with history and completion, on a terminal."""

    def __init__(self, history: Path, status: Callable[[], str], *, colour: bool) -> None:
        """`status` is shown below the line while it is edited."""
        self._session: PromptSession[str] = PromptSession(
            "> ",
            multiline=True,  # Enter sends all the same: see _keys
            prompt_continuation="  ",
            history=_history(history),
            key_bindings=_keys(),
            completer=_Commands(),
            complete_while_typing=Condition(lambda: _is_command(get_app().current_buffer.text)),
            reserve_space_for_menu=_MENU_ROWS,
            bottom_toolbar=lambda: FormattedText([("", visible(status()))]),
            style=Style.from_dict({"bottom-toolbar": "noreverse ansibrightblack"}),
            color_depth=None if colour else ColorDepth.DEPTH_1_BIT,
        )

    def read(self, prefill: str = "") -> str | None:
        """The next message; empty if Ctrl-C has cleared it."""
        try:
            text = self._session.prompt(default=prefill)
        except KeyboardInterrupt:
            return ""
        except EOFError:
            return None
        return _valid(text).strip()


def _is_command(text: str) -> bool:
    return text.startswith("/") and not text.startswith("//")


def _valid(text: str) -> str:
    # Bytes that are not UTF-8 arrive as lone surrogates, which cannot be written anywhere.
    return text.encode("utf-8", "replace").decode()


def _keys() -> KeyBindings:
    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        buffer: Buffer = event.current_buffer
        chosen = buffer.complete_state and buffer.complete_state.current_completion
        if chosen and buffer.text.endswith((" ", "/")):
            buffer.complete_state = None  # a command that wants more, or a folder
        elif buffer.document.is_cursor_at_the_end and buffer.text.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.newline(copy_margin=False)
        else:
            buffer.validate_and_handle()

    @keys.add("escape", "enter")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.newline(copy_margin=False)

    return keys


class _Commands(Completer):
    """Completes slash commands and their arguments."""

    def __init__(self) -> None:
        self._paths = PathCompleter(expanduser=True)

    def get_completions(self, document: Document, event: CompleteEvent) -> Iterator[Completion]:
        """Completions of what stands before the cursor."""
        text = document.text_before_cursor
        if not _is_command(text) or "\n" in text:
            return
        name, space, argument = text[1:].partition(" ")
        if not space:
            for command in COMMANDS.values():
                if command.name.startswith(name):
                    yield Completion(
                        command.name + (" " if command.arguments else ""),
                        start_position=-len(name),
                        display=f"/{command.name}",
                        display_meta=command.help,
                    )
        elif found := COMMANDS.get(name):
            for choice in found.choices:
                if choice.startswith(argument):
                    yield Completion(choice, start_position=-len(argument))
            if found.takes_file:
                yield from self._paths.get_completions(Document(argument), event)


class _PrivateHistory(FileHistory):
    """A history file that never stops a chat: what cannot be written is not written."""

    def store_string(self, string: str) -> None:
        """Append an entry."""
        with contextlib.suppress(OSError):
            super().store_string(_valid(string))


def _history(path: Path) -> History:
    """The history file, readable by its owner only; one in memory if there can be none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        path.chmod(0o600)
    except OSError:
        return InMemoryHistory()
    return _PrivateHistory(str(path))


@contextlib.contextmanager
def open_input(history: Path, status: Callable[[], str], *, colour: bool) -> Iterator[Input]:
    """An editor where there is a terminal to draw it on, else lines."""
    if sys.stdin.isatty() and sys.stdout.isatty():
        with _quiet_keys():
            yield Editor(history, status, colour=colour)
    else:
        yield Lines()


@contextlib.contextmanager
def _quiet_keys() -> Iterator[None]:
    """What is typed while nothing is asked for is not echoed; it waits for the next prompt."""
    try:
        import termios
    except ImportError:  # Windows
        yield
        return
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    quiet = [*before]
    # Keys arrive later as they were pressed: Enter as Enter, Ctrl-D as Ctrl-D.
    quiet[0] &= ~termios.ICRNL
    quiet[3] &= ~(termios.ECHO | termios.ICANON)
    termios.tcsetattr(descriptor, termios.TCSANOW, quiet)
    try:
        yield
    finally:
        with contextlib.suppress(termios.error):  # the terminal is gone
            termios.tcsetattr(descriptor, termios.TCSANOW, before)
