"""The loop of a chat: what a line does, with a conversation that a script holds."""

from __future__ import annotations

import io
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mtpcli.chat.conversation import Conversation, Turn
from mtpcli.chat.speed import Totals
from mtpcli.chat.talk import Piece
from mtpcli.cli.chat_loop import Chat
from mtpcli.cli.chat_screen import Screen
from mtpcli.errors import InputError, ModelError
from mtpcli.prompt.thinking import Channel

Stopped = Callable[[], bool]


class ScriptedTalk:
    """Answers "re: message"; what else happens, a test decides by `on_piece`."""

    n_ctx = 64

    def __init__(self) -> None:
        self.conversation = Conversation()
        self.totals = Totals()
        self.settings: Any = None
        self.log: list[str] = []
        self.on_start: Callable[[], None] = lambda: None

    def news(self) -> list[str]:
        return []

    def ahead(self) -> None:
        self.log.append("ahead")

    def keep_half(self) -> None:
        self.log.append("keep_half")

    def answer(self, user: str, stopped: Stopped) -> Iterator[list[Piece]]:
        self.log.append(f"answer {user}")
        self.on_start()
        yield [Piece(Channel.ANSWER, f"re: {user}", "target")]
        self.conversation.turns.append(Turn(user, f"re: {user}"))
        self.totals.reports.append(Kept())  # type: ignore[arg-type]

    def again(self, user: str | None, stopped: Stopped) -> Iterator[list[Piece]]:
        last = self.conversation.undo()
        assert last
        yield from self.answer(user or last.user, stopped)


class Kept:
    """A report of which the loop reads little."""

    kept, finish = True, "stop"

    def line(self, n_ctx: int) -> str:
        return f"figures of {n_ctx}"


class Keys:
    """Types lines, and remembers what stood in the line before."""

    def __init__(self, *lines: str) -> None:
        self._lines = iter(lines)
        self.prefills: list[str] = []

    def read(self, prefill: str = "") -> str | None:
        self.prefills.append(prefill)
        return next(self._lines, None)


def run(*lines: str, talk: Any = None, interactive: bool = True) -> tuple[Any, Keys, str]:
    talk, keys, paper = talk or ScriptedTalk(), Keys(*lines), io.StringIO()
    chat = Chat(
        talk,
        Screen(paper, paper),
        interactive=interactive,
        commands=interactive,
        state_folder=Path(),
    )
    chat.run(keys)
    return talk, keys, paper.getvalue()


def test_messages_are_answered_and_decoded_ahead() -> None:
    talk, _, shown = run("hello", "", "bye")
    assert talk.log == ["ahead", "answer hello", "ahead", "ahead", "answer bye", "ahead"]
    assert shown == "re: hello\nre: bye\n"


def test_a_pipe_decodes_nothing_ahead_and_has_no_commands() -> None:
    talk, _, _ = run("hello", "/exit", "bye", interactive=False)
    assert talk.log == ["answer hello", "answer /exit", "answer bye"]


def test_edit_gives_the_message_back_and_takes_its_place() -> None:
    talk, keys, _ = run("one", "two", "/edit", "three", "four")
    assert keys.prefills == ["", "", "", "two", "", ""]
    assert [turn.user for turn in talk.conversation.turns] == ["one", "three", "four"]


def test_an_edit_that_is_given_up_changes_nothing() -> None:
    talk, _, _ = run("one", "/edit", "", "two")
    assert [turn.user for turn in talk.conversation.turns] == ["one", "two"]
    talk, _, _ = run("one", "/edit", "/undo", "two")
    assert [turn.user for turn in talk.conversation.turns] == ["two"]


def test_a_message_that_was_stopped_is_there_to_edit() -> None:
    talk = ScriptedTalk()

    def interrupt() -> None:
        talk.on_start = lambda: None
        os.kill(os.getpid(), signal.SIGINT)

    talk.on_start = interrupt
    before = signal.getsignal(signal.SIGINT)
    _, keys, shown = run("one", "two", talk=talk)
    assert keys.prefills == ["", "one", ""]
    assert "stopped before an answer began" in shown
    assert [turn.user for turn in talk.conversation.turns] == ["two"]
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_between_answers_does_not_leave() -> None:
    talk = ScriptedTalk()
    talk.ahead = lambda: os.kill(os.getpid(), signal.SIGINT)  # type: ignore[method-assign]
    run("one", talk=talk)
    assert len(talk.conversation.turns) == 1


@pytest.mark.parametrize(
    ("error", "raised"), [(InputError("a\nb"), False), (ModelError("c"), True)]
)
def test_errors_are_lines_and_a_person_goes_on(error: Exception, raised: bool) -> None:
    def fail() -> None:
        raise error

    talk = ScriptedTalk()
    talk.on_start = fail
    _, _, shown = run("one", "two", talk=talk)
    assert shown == f"error: {' '.join(str(error).split())}\n" * 2
    if raised:
        with pytest.raises(ModelError):
            run("one", talk=talk, interactive=False)
    else:
        run("one", talk=talk, interactive=False)


def test_the_status_line() -> None:
    talk, keys, paper = ScriptedTalk(), Keys("/drafts on", "hello"), io.StringIO()
    screen = Screen(paper, paper)
    chat = Chat(talk, screen, interactive=True, commands=True, state_folder=Path())  # type: ignore[arg-type]
    assert chat.status().startswith("/help lists the commands")
    chat.run(keys)
    assert chat.status() == "figures of 64"
    assert paper.getvalue().endswith("re: hello\nfigures of 64\n")
