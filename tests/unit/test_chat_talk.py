"""A conversation over a fake model: which tokens a turn costs, and what stays of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mtpcli.chat import storage
from mtpcli.chat.conversation import Conversation
from mtpcli.chat.settings import Settings
from mtpcli.chat.talk import Talk
from mtpcli.config import SamplingConfig
from mtpcli.decode.depth import FixedDepth
from mtpcli.decode.engine import Engine
from mtpcli.decode.sequence import Request
from mtpcli.errors import InputError
from mtpcli.prompt.stream import TextStream
from mtpcli.prompt.template import Message
from mtpcli.session import PairPaths
from tests.fakes import END, FakeDrafter, FakeTarget

GREEDY = SamplingConfig(temperature=0)
# Tokens of the toy template: beginnings of turns, the end of one, the empty thinking block.
USER, MODEL, SYSTEM, CLOSE, NO_THOUGHT = 45, 46, 47, 48, 49


class Numbers:
    """A detokenizer: token 7 is the text "7 "."""

    def feed(self, token: int) -> str:
        return f"{token} "

    def flush(self) -> str:
        return ""


class FakeSession:
    """Texts are numbers; as in Gemma 4's template the thinking block is not in the history."""

    sampling = GREEDY

    def __init__(self, folder: Path, n_ctx: int = 256, *, drafted: bool = True) -> None:
        self.target = FakeTarget(n_ctx)
        self.n_ctx = n_ctx
        self.paths = PairPaths(folder / "target.gguf", None)
        self.paths.target.write_bytes(b"weights")
        drafter = FakeDrafter(self.target, wrong=range(0, 999, 7)) if drafted else None
        self.engine = Engine(self.target, drafter, FixedDepth(3), lambda token: token == END)

    def chat_tokens(
        self, messages: Sequence[Message], *, thinking: bool = False, answer: bool = True
    ) -> list[int]:
        marks = {"system": SYSTEM, "user": USER, "assistant": MODEL}
        tokens: list[int] = []
        for message in messages:
            numbers = [int(word) for word in str(message["content"]).split()]
            tokens += [marks[message["role"]], *numbers, CLOSE]
        return [*tokens, MODEL, NO_THOUGHT] if answer else tokens

    def request(
        self, prompt: list[int], sampling: SamplingConfig, *, max_tokens: int | None, reuse: bool
    ) -> tuple[Request, TextStream]:
        stream = TextStream(Numbers())
        return Request(prompt, sampling, stream, max_tokens, reuse), stream


def never() -> bool:
    return False


def make(session: Any, **settings: Any) -> Talk:
    values = {"sampling": GREEDY, "seed": 1, "max_tokens": 10, **settings}
    return Talk(session, Conversation(), Settings(**values), notices.append)


notices: list[str] = []


@pytest.fixture(autouse=True)
def no_notices() -> None:
    notices.clear()


def ask(talk: Talk, text: str, stopped: Callable[[], bool] = never) -> str:
    return "".join(piece.text for pieces in talk.answer(text, stopped) for piece in pieces)


def costs(talk: Talk) -> list[tuple[int, int, int]]:
    return [(report.prompt, report.reused, report.again) for report in talk.totals.reports]


@pytest.mark.parametrize("background", [False, True])
def test_a_turn_decodes_only_its_new_tokens(tmp_path: Path, background: bool) -> None:
    talk = make(FakeSession(tmp_path))
    for text in ("1 2 3", "4 5", "6"):
        if background:
            talk.ahead()
        ask(talk, text)
    # The first prompt has 7 tokens. The answer's 10 and its close follow where the thinking block
    # stood: 11 tokens are decoded again between the turns. The turn itself: its mark, message,
    # close, and the beginning of the answer.
    assert costs(talk) == [(7, 0, 0), (17 + 6, 17, 11), (33 + 5, 33, 11)]
    assert [report.decoded for report in talk.totals.reports] == [7, 6, 5]


def test_the_text_is_that_of_plain_decoding_of_the_rendered_template(tmp_path: Path) -> None:
    session = FakeSession(tmp_path)
    talk = make(session)
    answers = [ask(talk, text) for text in ("1 2 3", "4 5", "6")]
    for number, turn in enumerate(talk.conversation.turns):
        alone = Conversation(None, talk.conversation.turns[:number])
        prompt = session.chat_tokens(alone.messages(turn.user))
        with Engine(FakeTarget(), None, FixedDepth(0), lambda token: token == END) as engine:
            stream = TextStream(Numbers())
            engine.generate([Request(prompt, SamplingConfig(0, seed=1), stream, 10)])
        assert answers[number] == stream.answer == turn.answer


def test_undo_and_regenerate_decode_next_to_nothing(tmp_path: Path) -> None:
    talk = make(FakeSession(tmp_path), sampling=SamplingConfig(), seed=None)
    for text in ("1 2 3", "4 5", "6"):
        ask(talk, text)
    first = talk.conversation.turns[-1]
    list(talk.again(None, never))
    assert talk.conversation.turns[-1].user == "6"
    assert talk.conversation.turns[-1].seed != first.seed
    # The same prompt: only its last token is decoded, for its logits.
    assert talk.totals.reports[-1].decoded == 1
    talk.conversation.undo()
    talk.conversation.undo()
    talk.ahead()
    ask(talk, "8 9")
    assert talk.totals.reports[-1].decoded == 5
    assert talk.totals.reports[-1].again == 0


def test_edit_puts_another_message_in_the_place_of_the_last(tmp_path: Path) -> None:
    talk = make(FakeSession(tmp_path))
    ask(talk, "1 2 3")
    ask(talk, "4 5")
    list(talk.again("4 6", never))
    assert [turn.user for turn in talk.conversation.turns] == ["1 2 3", "4 6"]
    # All up to the 4 is there.
    assert talk.totals.reports[-1].decoded == 4


def test_an_answer_is_stopped_and_the_half_stays(tmp_path: Path) -> None:
    talk = make(FakeSession(tmp_path), max_tokens=None)
    asked = iter([False, False, True])
    text = ask(talk, "1 2 3", lambda: next(asked))
    (turn,) = talk.conversation.turns
    assert turn.answer == text and turn.finish == "interrupted"
    assert talk.totals.reports[-1].kept
    ask(talk, "4", lambda: True)
    assert len(talk.conversation.turns) == 2


def test_ctrl_c_in_a_round_stops_it_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = FakeSession(tmp_path)
    talk = make(session)
    answer = talk.answer("1 2 3", never)
    next(answer)
    half = "".join(piece.text for piece in next(answer))

    def interrupted(sequences: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.engine, "step", interrupted)
    list(answer)
    monkeypatch.undo()
    (turn,) = talk.conversation.turns
    assert turn.finish == "interrupted" and turn.answer.endswith(half)
    assert ask(talk, "4")


def test_without_an_answer_there_is_no_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = FakeSession(tmp_path)
    talk = make(session)
    ask(talk, "1")
    turns = list(talk.conversation.turns)

    def interrupted(seq: int, start: int, tokens: list[int]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(session.target, "prefill", interrupted)
    for call in (talk.answer("2", never), talk.again(None, never)):
        with pytest.raises(KeyboardInterrupt):
            list(call)
        assert talk.conversation.turns == turns
    monkeypatch.undo()
    ask(talk, "2")


def test_the_oldest_turns_leave_with_a_notice(tmp_path: Path) -> None:
    talk = make(FakeSession(tmp_path, n_ctx=64))
    for text in ("1", "2", "3", "4", "5"):
        ask(talk, text)
    assert talk.conversation.left_out > 0
    assert len(talk.conversation.turns) == 5
    assert notices and notices[0].startswith("the context is full: the model does not see the ")
    before = list(talk.conversation.turns)
    with pytest.raises(InputError, match="shorten it"):
        ask(talk, "1 " * 70)
    with pytest.raises(InputError, match="shorten it"):
        list(talk.again("1 " * 70, never))
    assert talk.conversation.turns == before
    ask(talk, "6")


def test_again_without_a_message(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no message yet"):
        list(make(FakeSession(tmp_path)).again(None, never))


def test_plain_rounds_are_measured_and_do_not_change_the_text(tmp_path: Path) -> None:
    drafted = make(FakeSession(tmp_path), max_tokens=40)
    plain = make(FakeSession(tmp_path, drafted=False), max_tokens=40)
    assert ask(drafted, "1 2") == ask(plain, "1 2")
    assert drafted.totals.reports[0].stats.plain_rounds == 5
    assert drafted.totals.reports[0].plain
    ask(drafted, "3")
    assert drafted.totals.reports[1].stats.plain_rounds == 0
    assert drafted.totals.reports[1].speedup


def test_pieces_tell_their_origin(tmp_path: Path) -> None:
    talk = make(FakeSession(tmp_path), max_tokens=40)
    pieces = [piece for part in talk.answer("1 2", never) for piece in part]
    origins = {piece.origin for piece in pieces}
    assert origins == {"target", "fake"}
    assert talk.totals.reports[0].stats.accepted == sum(p.origin == "fake" for p in pieces)


def test_a_saved_state_spares_the_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtpcli.llama.lib.versions", lambda: {"llama.cpp": "1"})
    talk = make(FakeSession(tmp_path), seed=9)
    ask(talk, "1 2 3")
    path, keys = tmp_path / "chat.json", tmp_path / "keys"
    assert "the cells of 17 tokens" in talk.save(path, state=True, key_folder=keys)
    expected = ask(talk, "4")

    later = make(FakeSession(tmp_path))
    assert "nothing to decode again" in later.load(path, key_folder=keys)
    assert later.settings.seed == 9
    assert ask(later, "4") == expected
    assert costs(later) == [(22, 17, 0)]

    # Without the state, or with one that does not fit, it is decoded.
    (tmp_path / "target.gguf").write_bytes(b"other weights")
    other = make(FakeSession(tmp_path))
    (tmp_path / "target.gguf").write_bytes(b"other weights")
    assert "decoded again, because chat.json.state belongs to" in other.load(path, key_folder=keys)
    ask(other, "4")
    assert costs(other) == [(22, 17, 17)]
    talk.save(path, state=False, key_folder=keys)
    assert not storage.state_path(path).exists()
    assert make(FakeSession(tmp_path)).load(path, key_folder=keys) == f"2 turns loaded from {path}"


def test_a_file_that_cannot_be_loaded_changes_nothing(tmp_path: Path) -> None:
    talk = make(FakeSession(tmp_path))
    ask(talk, "1")
    with pytest.raises(InputError):
        talk.load(tmp_path / "none.json", key_folder=tmp_path)
    assert len(talk.conversation.turns) == 1


def test_an_answer_that_was_cut_off_can_be_kept(tmp_path: Path) -> None:
    talk = make(FakeSession(tmp_path))
    talk.keep_half()
    ask(talk, "1 2")
    whole = talk.conversation.turns[0].answer
    answer = talk.answer("3", never)
    first = "".join(piece.text for piece in next(answer))
    answer.close()
    assert len(talk.conversation.turns) == 1
    talk.keep_half()
    talk.keep_half()
    assert [(turn.user, turn.finish) for turn in talk.conversation.turns] == [
        ("1 2", "length"),
        ("3", "interrupted"),
    ]
    assert talk.conversation.turns[-1].answer == first and first
    # One that was to take another's place leaves that one there.
    again = talk.again("4", never)
    next(again)
    again.close()
    talk.keep_half()
    assert [turn.user for turn in talk.conversation.turns] == ["1 2", "3"]
    assert talk.conversation.turns[0].answer == whole
