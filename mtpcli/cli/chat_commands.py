"""The slash commands of a chat, as a table: help, completion and dispatch all read it."""

from __future__ import annotations

import difflib
import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mtpcli.chat.settings import NAMES
from mtpcli.errors import InputError, UsageError

if TYPE_CHECKING:
    from mtpcli.cli.chat_loop import Chat


class Leave(Exception):
    """The user wants to go."""


@dataclass(frozen=True)
class Command:
    """A slash command.

    Attributes:
        name: without the slash.
        arguments: how they are written in the help.
        help: what it does.
        run: does it, given the chat and the text after the name.
        choices: first arguments worth completing.
        takes_file: complete names of files.
    """

    name: str
    arguments: str
    help: str
    run: Callable[[Chat, str], None]
    choices: tuple[str, ...] = ()
    takes_file: bool = False


KEYS = (
    ("Enter", "send"),
    ("Alt-Enter, or \\ before Enter", "new line"),
    ("Tab, Up, Down", "complete, earlier lines"),
    ("Ctrl-C", "stop the answer, clear the line"),
    ("Ctrl-D", "leave"),
    ("//text", "send a message that begins with a slash"),
)


def run(chat: Chat, line: str) -> None:
    """Run `/name arguments`.

    Raises:
        MtpError: it cannot be done; one line says why.
        Leave: the user wants to go.
    """
    name, _, arguments = line[1:].partition(" ")
    command = COMMANDS.get(name)
    if command is None:
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean /{near[0]}? " if near else ""
        raise UsageError(f"there is no command /{name}: {hint}/help lists all")
    try:
        command.run(chat, arguments.strip())
    except OSError as error:
        if error.filename is None:  # the terminal itself
            raise
        raise InputError(f"{os.fsdecode(error.filename)}: {error.strerror}") from None


def _help(chat: Chat, _arguments: str) -> None:
    for command in _TABLE:
        usage = f"/{command.name} {command.arguments}".strip()
        chat.screen.note(f"  {usage:<28} {command.help}")
    for key, what in KEYS:
        chat.screen.note(f"  {key:<28} {what}")


def _system(chat: Chat, text: str) -> None:
    conversation = chat.talk.conversation
    if text:
        conversation.system = None if text == "off" else text
    chat.screen.note(f"system prompt: {conversation.system or 'none'}")


def _set(chat: Chat, arguments: str) -> None:
    settings = chat.talk.settings
    name, _, text = arguments.partition(" ")
    if name:
        settings.set(name, text.strip())
    chat.screen.note(settings.line())


def _seed(chat: Chat, text: str) -> None:
    settings = chat.talk.settings
    if text:
        settings.set("seed", text)
    last = chat.talk.totals.reports[-1:]
    used = f"; the last answer's was {last[0].seed}" if last else ""
    chat.screen.note(f"seed {settings.seed_text()}{used}")


def _switch(name: str, text: str, words: tuple[str, ...]) -> str:
    if text not in words:
        raise UsageError(f"/{name} takes one of: {', '.join(words)}")
    return text


def _think(chat: Chat, text: str) -> None:
    if text:
        word = _switch("think", text, ("on", "off", "hidden"))
        chat.talk.settings.thinking = word != "off"
        chat.screen.show_thoughts = word != "hidden"
    thinking = chat.talk.settings.thinking
    shown = "" if chat.screen.show_thoughts else ", hidden"
    chat.screen.note(f"thinking {'on' + shown if thinking else 'off'}")


def _regenerate(chat: Chat, _arguments: str) -> None:
    if chat.talk.settings.seed is not None:
        chat.screen.note("the seed is fixed, so the answer is the same: /seed random changes it")
    chat.answer_again(None)


def _edit(chat: Chat, text: str) -> None:
    if text:
        chat.answer_again(text)
    elif turns := chat.talk.conversation.turns:
        if not chat.interactive:
            raise UsageError("without a terminal the new message goes here: /edit TEXT")
        chat.edit(turns[-1].user)
    else:
        raise UsageError("there is no message yet")


def _undo(chat: Chat, _arguments: str) -> None:
    turn = chat.talk.conversation.undo()
    if turn is None:
        raise UsageError("there is no message yet")
    from mtpcli.sanitize import one_line

    chat.screen.note(f"taken back: {one_line(turn.user, 60)}")


def _path(name: str, words: list[str]) -> Path:
    if len(words) != 1:
        raise UsageError(f"/{name} takes one file name (with spaces in it: in quotes)")
    try:
        if "\0" in words[0]:
            raise ValueError
        return Path(words[0]).expanduser()
    except (ValueError, RuntimeError):  # no such user's home
        raise UsageError(f"/{name}: no file can be called {words[0]}") from None


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        raise UsageError("a quotation mark is missing") from None


def _save(chat: Chat, arguments: str) -> None:
    words = _words(arguments)
    names = [word for word in words if word != "--state"]
    path = _path("save", names)
    state = len(names) < len(words)
    chat.screen.note(chat.talk.save(path, state=state, key_folder=chat.state_folder))


def _load(chat: Chat, arguments: str) -> None:
    path = _path("load", _words(arguments))
    chat.screen.note(chat.talk.load(path, key_folder=chat.state_folder))


def _stats(chat: Chat, _arguments: str) -> None:
    for line in chat.talk.totals.lines(chat.talk.n_ctx):
        chat.screen.note(line)


def _drafts(chat: Chat, text: str) -> None:
    if text:
        chat.screen.show_drafts = _switch("drafts", text, ("on", "off")) == "on"
    chat.screen.note(f"drafts {'on' if chat.screen.show_drafts else 'off'}")
    if chat.screen.show_drafts:
        chat.screen.show_legend()


def _reset(chat: Chat, _arguments: str) -> None:
    chat.talk.conversation.reset()
    chat.screen.note("a new conversation; system prompt and settings stay")


def _exit(_chat: Chat, _arguments: str) -> None:
    raise Leave


_TABLE = (
    Command("help", "", "list commands and keys", _help),
    Command("system", "[TEXT|off]", "set or show the system prompt", _system, ("off",)),
    Command("set", "[NAME VALUE]", "sampling: temperature, top-k, seed, ...", _set, NAMES),
    Command("seed", "[N|random]", "fix the seed, or another one each time", _seed, ("random",)),
    Command("think", "on|off|hidden", "think before answering", _think, ("on", "off", "hidden")),
    Command("regenerate", "", "answer the last message again", _regenerate),
    Command("edit", "[TEXT]", "change the last message and ask again", _edit),
    Command("undo", "", "take back the last message and its answer", _undo),
    Command("save", "FILE [--state]", "keep the conversation, and its KV cells", _save, (), True),
    Command("load", "FILE", "go on with a saved conversation", _load, (), True),
    Command("stats", "", "tokens, speed and what was kept, by answer", _stats),
    Command("drafts", "on|off", "colour tokens by origin, show speed", _drafts, ("on", "off")),
    Command("reset", "", "forget the conversation", _reset),
    Command("exit", "", "leave", _exit),
)
COMMANDS = {command.name: command for command in _TABLE} | {
    "quit": Command("quit", "", "leave", _exit),
}
