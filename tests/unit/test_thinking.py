"""The thinking channel is told from the answer, however the stream is cut."""

from __future__ import annotations

import random

import pytest

from mtpcli.prompt.thinking import CONTROL_TOKENS, Channel, ChannelSplitter

CASES = {
    "thought and answer": (
        "<|channel>thought\nIs x < 3?\n\nYes.\n<channel|>The answer is\n4.<turn|>",
        "Is x < 3?\n\nYes.",
        "The answer is\n4.",
    ),
    "answer alone": ("a <| b |> <channel <", "", "a <| b |> <channel <"),
    "empty thought": ("<|channel>thought\n<channel|>hi", "", "hi"),
    "thought without a line": ("<|channel>thought<channel|>hi", "", "hi"),
    "thought cut off": ("<|channel>thought\nso far\n", "so far\n", ""),
    "name cut off": ("<|channel>thou", "", ""),
    "marker cut off": ("hi<|chan", "", "hi<|chan"),
    "text where a name should be": (
        f"<|channel>{'word ' * 20}<channel|>hi",
        "word " * 20,
        "hi",
    ),
    "thinks twice": (
        "<|channel>thought\na\n<channel|>b<|channel>thought\nc\n<channel|>d",
        "ac",
        "bd",
    ),
    "only one newline belongs to the marker": (
        "<|channel>thought\na\n\n<channel|>\nb",
        "a\n",
        "\nb",
    ),
    "control tokens": ("a" + "".join(CONTROL_TOKENS).replace("<|channel>", "") + "b", "", "ab"),
    "control tokens in a thought": ("<|channel>thought\na<turn|>b<channel|>c", "ab", "c"),
}


def split(pieces: list[str], start: Channel = Channel.ANSWER) -> dict[Channel, str]:
    splitter = ChannelSplitter(start)
    joined = dict.fromkeys(Channel, "")
    fed = [piece for text in pieces for piece in splitter.feed(text)]
    for channel, text in fed + splitter.flush():
        assert text
        joined[channel] += text
    return joined


@pytest.mark.parametrize(("text", "thought", "answer"), CASES.values(), ids=CASES)
def test_split(text: str, thought: str, answer: str) -> None:
    assert split([text]) == {Channel.THOUGHT: thought, Channel.ANSWER: answer}


@pytest.mark.parametrize("text", [case[0] for case in CASES.values()], ids=CASES)
def test_any_cut_gives_the_same(text: str) -> None:
    whole = split([text])
    assert split(list(text)) == whole
    for cut in range(len(text)):
        assert split([text[:cut], text[cut:]]) == whole
    noise = random.Random(0)
    for _ in range(50):
        cuts = sorted(noise.choices(range(len(text) + 1), k=4))
        ends = [*cuts, len(text)]
        assert split([text[a:b] for a, b in zip([0, *cuts], ends, strict=True)]) == whole


def test_text_is_not_held_back_longer_than_needed() -> None:
    splitter = ChannelSplitter()
    assert splitter.feed("Hello") == [(Channel.ANSWER, "Hello")]
    assert splitter.feed(" 3 <") == [(Channel.ANSWER, " 3 ")]
    assert splitter.feed(" 4") == [(Channel.ANSWER, "< 4")]
    assert splitter.feed("\n") == [(Channel.ANSWER, "\n")]


def test_prompt_may_have_opened_the_channel() -> None:
    assert split(["a\n<channel|>b"], Channel.THOUGHT) == {
        Channel.THOUGHT: "a",
        Channel.ANSWER: "b",
    }
