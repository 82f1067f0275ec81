"""Text from tokens: whole characters, stop strings, the thinking apart."""

from __future__ import annotations

import pytest

from mtpcli.prompt.stream import StopScanner, TextStream
from mtpcli.prompt.thinking import Channel, ChannelSplitter


class Words:
    """A detokenizer whose tokens are indices of texts."""

    def __init__(self, *texts: str, rest: str = "") -> None:
        self._texts, self._rest = texts, rest

    def feed(self, token: int) -> str:
        return self._texts[token]

    def flush(self) -> str:
        return self._rest


@pytest.mark.parametrize(
    ("stops", "pieces", "shown", "stopped"),
    [
        ((), ["a", "b"], "ab", False),
        (("b",), ["a", "b", "c"], "a", True),
        (("END",), ["x E", "N", "D y"], "x ", True),
        (("END",), ["x E", "N", "x"], "x ENx", False),
        (("END",), ["EEN", "END"], "EEN", True),
        (("long stop", "st"), ["a long st", "op"], "a long ", True),
        (("\n\n",), ["a\n", "b\n", "\nc"], "a\nb", True),
        (("",), ["a"], "a", False),
        (("END",), ["EN"], "EN", False),
    ],
)
def test_stop_strings(stops: tuple[str, ...], pieces: list[str], shown: str, stopped: bool) -> None:
    scanner = StopScanner(stops)
    text = "".join(map(scanner.feed, pieces)) + scanner.flush()
    assert (text, scanner.stopped) == (shown, stopped)


def test_what_may_begin_a_stop_string_is_held_back() -> None:
    scanner = StopScanner(["END"])
    assert scanner.feed("x E") == "x "
    assert scanner.feed("N") == ""
    assert scanner.feed("x") == "ENx"


def test_stop_strings_do_not_apply_to_thoughts() -> None:
    words = Words("<|channel>thought\nno stop", " here\n<channel|>", "an answer", " stop it")
    stream = TextStream(words, stops=["stop"], splitter=ChannelSplitter())
    for token in range(4):
        assert not stream.stopped
        stream.feed(token)
    assert stream.stopped
    assert (stream.thought, stream.answer) == ("no stop here", "an answer ")


def test_take_gives_each_piece_once() -> None:
    stream = TextStream(Words("a", "b", rest="c"))
    stream.feed(0)
    assert stream.take() == [(Channel.ANSWER, "a")]
    assert stream.take() == []
    stream.feed(1)
    stream.finish()
    assert "".join(text for _, text in stream.take()) == "bc"
    assert stream.answer == "abc"


def test_pieces_know_the_token_that_completed_them() -> None:
    words = Words("a", "<|chan", "ge", "b", rest="c")
    stream = TextStream(words, splitter=ChannelSplitter())
    for token in range(4):
        stream.feed(token)
    stream.finish()
    answer = Channel.ANSWER
    expected = [(answer, "a", 0), (answer, "<|change", 2), (answer, "b", 3), (answer, "c", 3)]
    assert stream.take_indexed() == expected
