"""How pieces of an answer look, on a terminal and elsewhere."""

from __future__ import annotations

import io

import pytest

from mtpcli.chat.talk import Piece
from mtpcli.cli.chat_screen import Screen
from mtpcli.prompt.thinking import Channel

THOUGHT, ANSWER = Channel.THOUGHT, Channel.ANSWER
PIECES = [
    Piece(THOUGHT, "two ", "target"),
    Piece(THOUGHT, "and \x1b[31mtwo", "mtp"),
    Piece(ANSWER, "It ", "target"),
    Piece(ANSWER, "is ", "mtp"),
    Piece(ANSWER, "fo\x1b[31mur", "lookup"),
    Piece(ANSWER, ".", "other"),
]


class Paper(io.StringIO):
    """Text that is, or is not, a terminal's."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


@pytest.fixture(autouse=True)
def colourful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)


def show(*, terminal: bool, drafts: bool = False, thoughts: bool = True) -> str:
    """All that is written, in its order."""
    paper = Paper(terminal=terminal)
    screen = Screen(paper, paper)
    screen.show_drafts, screen.show_thoughts = drafts, thoughts
    for piece in PIECES:
        screen.write([piece])
    screen.end()
    return paper.getvalue()


def test_thoughts_are_dimmed_and_stand_apart() -> None:
    assert show(terminal=True) == (
        "\x1b[2mtwo \x1b[0m\x1b[2mand ␛[31mtwo\x1b[0m\nIt is fo␛[31mur.\n"
    )


def test_thoughts_can_be_hidden() -> None:
    assert show(terminal=True, thoughts=False) == (
        "\x1b[2mthinking…\x1b[0m\r\x1b[KIt is fo␛[31mur.\n"
    )


def test_tokens_have_the_colour_of_their_origin() -> None:
    assert show(terminal=True, drafts=True).endswith(
        "\nIt \x1b[32mis \x1b[0m\x1b[36mfo␛[31mur\x1b[0m\x1b[35m.\x1b[0m\n"
    )


@pytest.mark.parametrize("drafts", [False, True])
def test_a_pipe_gets_the_text_as_it_is(drafts: bool) -> None:
    paper, rest = Paper(terminal=False), Paper(terminal=False)
    screen = Screen(paper, rest)
    screen.show_drafts = drafts
    screen.write(PIECES)
    screen.end()
    assert paper.getvalue() == "It is fo\x1b[31mur.\n"
    assert rest.getvalue() == "two and ␛[31mtwo\n"
    assert "NO_COLOR is respected" in screen.legend()


def test_no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert show(terminal=True, drafts=True) == "two and ␛[31mtwo\nIt is fo␛[31mur.\n"
    assert show(terminal=True, thoughts=False) == "It is fo␛[31mur.\n"


def test_an_answer_ends_with_one_new_line() -> None:
    paper = Paper(terminal=True)
    screen = Screen(paper, paper)
    screen.write([Piece(ANSWER, "a\n", "target")])
    screen.end()
    screen.end()
    assert paper.getvalue() == "a\n"


def test_errors_and_notes_are_one_visible_line() -> None:
    paper = Paper(terminal=False)
    screen = Screen(paper, paper)
    screen.error("a\n  b \x1b[31m")
    screen.note("c \x1b[31m")
    assert paper.getvalue() == "error: a b ␛[31m\nc ␛[31m\n"
