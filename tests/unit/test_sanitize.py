"""Nothing from a model or a file reaches the terminal as a command."""

from __future__ import annotations

import io
import sys
import unicodedata

import pytest

from mtpcli.cli.output import AnswerWriter
from mtpcli.prompt.thinking import Channel
from mtpcli.sanitize import one_line, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünïcödé 漢字 🙂\n\tindented", "plain ünïcödé 漢字 🙂\n\tindented"),
        ("\x1b[2J\x1b]0;title\x07", "␛[2J␛]0;title␇"),
        ("over\rwritten\b\x7f\x00", "over␍written␈␡␀"),
        ("\x9b31m", "<9B>31m"),
        ("\u202etxt.exe\u2066", "<U+202E>txt.exe<U+2066>"),
        ("\ud800", "\ufffd"),
    ],
)
def test_visible(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_no_control_character_is_left() -> None:
    shown = visible("".join(map(chr, range(0x110000))))
    controls = {char for char in shown if unicodedata.category(char) in ("Cc", "Cs")}
    assert controls == {"\n", "\t"}
    shown.encode("utf-8")


def test_pieces_are_as_good_as_the_whole() -> None:
    text = "a\x1b[31mb\x9b\r\n"
    assert "".join(map(visible, text)) == visible(text)


def test_one_line() -> None:
    assert one_line(" a\n\tb\x1b ") == "a b␛"
    assert one_line("x" * 300, limit=5) == "xxxx…"


def test_an_answer_is_passed_on_as_it_is_and_a_terminal_obeys_none_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for terminal, shown in ((True, "a␛[31m"), (False, "a\x1b[31m")):
        paper = io.StringIO()
        monkeypatch.setattr(paper, "isatty", lambda terminal=terminal: terminal)
        monkeypatch.setattr(sys, "stdout", paper)
        AnswerWriter().write([(Channel.ANSWER, "a\x1b[31m")])
        assert paper.getvalue() == shown
