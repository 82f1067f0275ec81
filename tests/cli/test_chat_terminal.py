"""`mtpcli chat` on a terminal: typed, interrupted, edited, resized."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Pair
from tests.terminal import ALT_ENTER, CTRL_C, CTRL_D, ENTER, TAB, UP, Terminal

Start = Callable[..., Terminal]

# Tokens by the noise of the seed alone, whatever the model says: an answer that goes on until it
# is stopped, control tokens among it.
ENDLESS = ["--temperature", "1e6", "--top-k", "0", "--top-p", "1", "--seed", "5"]


@pytest.fixture
def start(demo_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """Start a chat with the embedded pair in a terminal, in the test's folder."""
    monkeypatch.chdir(tmp_path)

    def start(*arguments: str, **env: str) -> Terminal:
        folders = {name: str(tmp_path / name) for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME")}
        command = [sys.executable, "-m", "mtpcli", "chat", "-m", str(demo_pair.target)]
        options = ["--threads", "1", "--draft-depth", "3", *arguments]
        return Terminal([*command, *options], {**os.environ, **folders, **env})

    return start


def saved(path: Path) -> list[dict[str, Any]]:
    content: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return list(content["messages"])


def test_a_conversation(start: Start, tmp_path: Path) -> None:
    with start("--temperature", "0", "-n", "12") as terminal:
        terminal.expect("/help lists the commands")
        terminal.press("Hello!" + ENTER)
        terminal.expect(r"\d tokens/s .* context \d+/\d+")
        # Two ways to write more than one line. What is typed during an answer waits for its end.
        terminal.press("one" + ALT_ENTER + "two\\" + ENTER + "three" + ENTER)
        # The last message comes back to be changed; Ctrl-C leaves all as it was.
        terminal.press("/edit" + ENTER)
        terminal.expect("/edit")
        terminal.expect("three")
        terminal.press(CTRL_C)
        terminal.press("/save kept.json" + ENTER)
        terminal.expect("2 turns saved")
        terminal.press("/edit" + ENTER)
        terminal.expect("three")
        terminal.press(" four" + ENTER + "/save edited.json" + ENTER)
        terminal.expect("2 turns saved")
        terminal.press("/stats" + ENTER)
        terminal.expect("prompt tokens: .* kept from earlier turns")
        terminal.press(UP + UP + UP)
        terminal.expect("three four")
        terminal.press(CTRL_C + CTRL_D)
        assert terminal.close() == 0
        assert "\x1b[2m" in terminal.raw  # notes are dimmed
    users = [message["content"] for message in saved(tmp_path / "kept.json")[::2]]
    assert users == ["Hello!", "one\ntwo\nthree"]
    users = [message["content"] for message in saved(tmp_path / "edited.json")[::2]]
    assert users == ["Hello!", "one\ntwo\nthree four"]
    history = tmp_path / "XDG_STATE_HOME" / "mtpcli" / "history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600


def test_ctrl_c_stops_an_answer(start: Start, tmp_path: Path) -> None:
    with start(*ENDLESS) as terminal:
        terminal.expect(">")
        terminal.press("Talk!" + ENTER)
        terminal.expect(r"Talk!\s+\S[^>]{40}")
        terminal.press("not seen" + CTRL_C * 5)
        terminal.expect("stopped: the half answer stays")
        assert "not seen" not in terminal.raw
        terminal.press("/save half.json" + ENTER)
        terminal.expect("1 turn saved")
        terminal.press("/set temperature 0" + ENTER + "/set max-tokens 5" + ENTER)
        terminal.expect("max-tokens 5")
        terminal.press("Hello!" + ENTER + "/save whole.json" + ENTER)
        terminal.expect("2 turns saved")
        terminal.press(CTRL_D)
        assert terminal.close() == 0
    user, answer = saved(tmp_path / "half.json")
    assert user == {"role": "user", "content": "Talk!"}
    assert answer["finish_reason"] == "interrupted"
    assert answer["content"]
    assert "<|" not in answer["content"] and "|>" not in answer["content"]
    assert saved(tmp_path / "whole.json")[:2] == [user, answer]


def test_completion(start: Start) -> None:
    with start() as terminal:
        terminal.expect(">")
        terminal.press("/dr")
        terminal.expect("colour tokens by origin")
        terminal.press(TAB)
        terminal.expect("afts")
        terminal.press("on" + ENTER)
        terminal.expect("drafts on\\s")
        terminal.expect("■ target.*■ accepted MTP draft")
        assert "\x1b[32m■" in terminal.raw
        terminal.press("/think h")
        terminal.expect(" hidden ")
        terminal.press(TAB)
        terminal.expect("idden")
        terminal.press(ENTER)
        terminal.expect("thinking on, hidden")
        terminal.press("/und" + ENTER)
        terminal.expect("error: there is no command /und: did you mean /undo")
        terminal.press("/exit" + ENTER)
        assert terminal.close() == 0


def test_thoughts_are_dimmed_or_hidden(start: Start, tmp_path: Path) -> None:
    with start("--temperature", "0", "-n", "60", "--thinking") as terminal:
        terminal.expect(">")
        terminal.press("What is 12 plus 7?" + ENTER + "/save shown.json" + ENTER)
        terminal.expect("1 turn saved")
        thought = saved(tmp_path / "shown.json")[1]["thought"]
        first = thought.splitlines()[0]
        assert first in terminal.text
        assert f"\x1b[2m{thought[0]}" in terminal.raw
        terminal.press("/think hidden" + ENTER)
        terminal.expect("thinking on, hidden")
        seen = len(terminal.text)
        terminal.press("/regenerate" + ENTER + "/save hidden.json" + ENTER)
        terminal.expect("1 turn saved")
        assert saved(tmp_path / "hidden.json")[1] | {"seed": 0} == (
            saved(tmp_path / "shown.json")[1] | {"seed": 0}
        )
        assert "thinking…" in terminal.text[seen:]
        assert first not in terminal.text[seen:]
        terminal.press(CTRL_D)
        assert terminal.close() == 0


def test_resizing(start: Start, tmp_path: Path) -> None:
    with start("--temperature", "0", "-n", "8") as terminal:
        terminal.expect("/help lists")
        terminal.press("Hello there, how are you")
        terminal.expect("how are you")
        terminal.resize(20, 30)
        # The line is drawn again, in two rows.
        terminal.expect("how are you")
        terminal.press("?" + ENTER + "/save one.json" + ENTER)
        terminal.expect("1 turn saved")
        terminal.resize(40, 120)
        terminal.press("Bye!" + ENTER + "/save two.json" + ENTER)
        terminal.expect("2 turns saved")
        terminal.press(CTRL_D)
        assert terminal.close() == 0
    assert [message["content"] for message in saved(tmp_path / "two.json")[::2]] == [
        "Hello there, how are you?",
        "Bye!",
    ]


def test_no_colour(start: Start) -> None:
    with start("--temperature", "0", "-n", "8", NO_COLOR="1") as terminal:
        terminal.expect(">")
        terminal.press("/drafts on" + ENTER)
        terminal.expect("NO_COLOR is respected")
        terminal.press("Hello!" + ENTER)
        terminal.expect("tokens/s .* context")
        terminal.press(CTRL_D)
        assert terminal.close() == 0
        assert set(re.findall(r"\x1b\[[\d;]*m", terminal.raw)) == {"\x1b[0m"}


def test_a_model_file_that_is_cut_takes_no_conversation_along(
    start: Start, demo_pair: Pair, tmp_path: Path
) -> None:
    model = tmp_path / "model.gguf"
    model.write_bytes(demo_pair.target.read_bytes())
    with start("--temperature", "0", "-n", "8", "-m", str(model), "--no-draft") as terminal:
        terminal.expect("/help lists")
        terminal.press("Hello!" + ENTER)
        terminal.expect("tokens/s .* context")
        os.truncate(model, 4096)
        terminal.press("Are you there?" + ENTER)
        assert terminal.close() == 3
        terminal.expect("to go on with this conversation: mtpcli chat --load")
        terminal.expect("\nerror: a file that is mapped into memory cannot be read")
        assert terminal.raw.rindex("\x1b[?2004l") > terminal.raw.rfind("\x1b[?2004h")
    user, answer = saved(tmp_path / "XDG_STATE_HOME" / "mtpcli" / "interrupted.json")
    assert user["content"] == "Hello!" and answer["content"].startswith("Hello!")


@pytest.mark.parametrize(
    ("number", "answering"),
    [(signal.SIGTERM, True), (signal.SIGHUP, False), (None, True)],
    ids=["SIGTERM", "SIGHUP", "no terminal any more"],
)
def test_told_to_end_it_keeps_what_was_said(
    start: Start, tmp_path: Path, number: signal.Signals | None, answering: bool
) -> None:
    with start(*(ENDLESS if answering else ["--temperature", "0", "-n", "8"])) as terminal:
        before = terminal.settings
        terminal.expect("/help lists")
        terminal.press("Talk!" + ENTER)
        if answering:
            terminal.expect(r"Talk!\s+\S[^>]{40}")
        else:
            terminal.expect("tokens/s .* context")
            terminal.press("half a message")
            terminal.expect("half a message")
        if number is None:
            code = terminal.hang_up()
        else:
            terminal.signal(number)
            code = terminal.close()
            assert terminal.settings == before
            terminal.expect("\nto go on with this conversation: mtpcli chat --load")
            # The cursor is shown, and pasted text comes without marks.
            assert terminal.raw.rindex("\x1b[?25h") > terminal.raw.rfind("\x1b[?25l")
            assert terminal.raw.rindex("\x1b[?2004l") > terminal.raw.rfind("\x1b[?2004h")
    assert code == 128 + (number or signal.SIGHUP)
    folder = tmp_path / "XDG_STATE_HOME" / "mtpcli"
    assert {path.name for path in folder.iterdir()} == {"history", "interrupted.json"}
    user, answer = saved(folder / "interrupted.json")
    assert user["content"] == "Talk!"
    assert answer["content"]
    assert answer["finish_reason"] == ("interrupted" if answering else "length")
    assert stat.S_IMODE((folder / "interrupted.json").stat().st_mode) == 0o600
