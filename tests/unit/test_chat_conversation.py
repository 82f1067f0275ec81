"""What the model sees of a conversation, and what leaves it when the context is full."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from mtpcli.chat.conversation import Conversation, Turn
from mtpcli.errors import InputError
from mtpcli.prompt.template import Message


def words(messages: Sequence[Message]) -> list[int]:
    """A token for each word, and one for each message."""
    tokens: list[int] = []
    for message in messages:
        content = message["content"]
        assert isinstance(content, str)
        tokens += [0] + [1] * len(content.split())
    return tokens


def talked(*sizes: int, system: str | None = None) -> Conversation:
    """Turns of a message of one word, and an answer of so many."""
    turns = [Turn(f"q{number}", "a " * size) for number, size in enumerate(sizes)]
    return Conversation(system, turns)


def test_the_model_sees_no_thoughts() -> None:
    conversation = Conversation("Be brief.", [Turn("2+2?", "4", thought="two and two")])
    assert conversation.messages("Sure?") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "content": "4"},
        {"role": "user", "content": "Sure?"},
    ]


def test_undo_and_reset() -> None:
    conversation = talked(1, 2, system="s")
    undone = conversation.undo()
    assert undone and undone.user == "q1"
    assert len(conversation.turns) == 1
    conversation.reset()
    assert conversation == Conversation("s")
    assert conversation.undo() is None


def test_a_turn_that_was_left_out_comes_back_by_undo() -> None:
    conversation = talked(1, 1, 1)
    conversation.left_out = 2
    conversation.undo()
    assert conversation.left_out == 1
    assert [message["content"] for message in conversation.messages()] == ["q1", "a "]
    conversation.undo()
    conversation.undo()
    assert (conversation.turns, conversation.left_out) == ([], 0)


def test_what_fits_stays() -> None:
    conversation = talked(10, 10)
    tokens = conversation.fit("one more", words, n_ctx=40, reserve=10)
    # Two turns of 2 + 11 tokens, and 3 of the message.
    assert len(tokens) == 29
    assert conversation.left_out == 0


def test_the_oldest_turns_leave_whole_until_half_is_free() -> None:
    conversation = talked(10, 10, 10, 10)
    tokens = conversation.fit("one more", words, n_ctx=60, reserve=10)
    # 55 tokens are too many beside 10 for the answer; with two turns it would be 29 of 60.
    assert (len(tokens), conversation.left_out) == (29, 2)
    assert len(conversation.turns) == 4
    assert conversation.messages()[0]["content"] == "q2"
    # They stay away.
    conversation.turns.append(Turn("one more", "a " * 10))
    assert len(conversation.fit("again", words, n_ctx=60, reserve=10)) == 42
    assert conversation.left_out == 2


def test_the_system_prompt_never_leaves() -> None:
    conversation = talked(30, 30, system="be brief")
    tokens = conversation.fit("hello", words, n_ctx=40, reserve=10)
    assert (len(tokens), conversation.left_out) == (5, 2)


def test_a_long_message_keeps_what_fits_beside_it() -> None:
    conversation = talked(4, 4)
    tokens = conversation.fit("w " * 25, words, n_ctx=40, reserve=5)
    # More than half by itself, so that the rest, less the reserve, is for the newest turn.
    assert (len(tokens), conversation.left_out) == (33, 1)


def test_a_message_may_fill_the_context() -> None:
    conversation = talked(4)
    assert len(conversation.fit("w " * 39, words, n_ctx=40, reserve=10)) == 40


def test_a_message_longer_than_the_context_changes_nothing() -> None:
    conversation = talked(4, 4)
    before = Conversation(None, list(conversation.turns), 0)
    with pytest.raises(InputError, match=r"41 tokens .* context 40: shorten it"):
        conversation.fit("w " * 40, words, n_ctx=40, reserve=10)
    assert conversation == before
