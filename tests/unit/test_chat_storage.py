"""Saved conversations: whole files, read with suspicion; states only from this user."""

from __future__ import annotations

import json
import resource
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mtpcli.chat import storage
from mtpcli.chat.conversation import Conversation, Turn
from mtpcli.config import SamplingConfig
from mtpcli.errors import InputError

DEFAULT = SamplingConfig(0.9, 40, 0.8)
TURNS = [
    Turn("Hello\nthere", "Hi! \ud83d\ude42 ünï", seed=2**64 - 1),
    Turn("And?", "", thought="hm", finish="interrupted"),
]
KEY, IDENTITY = b"k" * 32, {"model": "a", "n_ctx": 64}


def saved(**changes: Any) -> storage.Saved:
    values = {
        "conversation": Conversation("Be brief.", list(TURNS), left_out=1),
        "sampling": SamplingConfig(0.5, 3, 0.7),
        "seed": 5,
        "thinking": True,
        **changes,
    }
    return storage.Saved(**values)


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    original = saved(conversation=Conversation("Be brief.", TURNS[1:], left_out=1))
    storage.save(path, original, "model.gguf")
    assert storage.load(path, DEFAULT) == original
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    # Anything that reads OpenAI's messages can read it.
    assert json.loads(path.read_text("utf-8"))["messages"][0] == {
        "role": "system",
        "content": "Be brief.",
    }


def test_a_lone_surrogate_is_no_reason_to_lose_a_conversation(tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    storage.save(path, saved(), "model.gguf")
    turns = storage.load(path, DEFAULT).conversation.turns
    assert turns[0].user == "Hello\nthere" and turns[0].seed == 2**64 - 1


def test_foreign_messages_are_welcome(tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    path.write_text(
        json.dumps(
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "b", "seed": -1, "finish_reason": 7},
                ],
                "left_out": 99,
            }
        )
    )
    loaded = storage.load(path, DEFAULT)
    assert loaded == storage.Saved(Conversation(None, [Turn("a", "b")]), DEFAULT, None, False)


def test_only_a_saved_conversation_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "chat.json"
    storage.save(path, saved(), "m")
    (tmp_path / "link").hardlink_to(path)
    storage.save(path, saved(seed=6), "m")
    assert storage.load(path, DEFAULT).seed == 6
    assert storage.load(tmp_path / "link", DEFAULT).seed != 6, "it was renamed, not written over"
    (tmp_path / "link").unlink()
    other = tmp_path / "thesis.txt"
    other.write_text("years of work")
    with pytest.raises(InputError, match="exists and is not a saved conversation"):
        storage.save(other, saved(), "m")
    assert other.read_text() == "years of work"
    with pytest.raises(InputError, match="cannot write"):
        storage.save(tmp_path / "no" / "folder.json", saved(), "m")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chat.json", "thesis.txt"]


def message(role: str, content: Any = "x") -> dict[str, Any]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("{", "not JSON"),
        ("[" * 100000, "not JSON"),
        ("[]", "no messages"),
        ('{"messages": 1}', "no messages"),
        ('{"format": "mtpcli chat 99", "messages": []}', "'mtpcli chat 99'"),
        ([message("assistant")], "message 1"),
        ([message("user"), message("system")], "message 2"),
        ([message("user"), message("user")], "message 2"),
        ([message("user"), message("assistant", ["x"])], "message 2"),
        (["x"], "message 1"),
        ([message("user")], "no answer"),
        ('{"messages": [], "sampling": {"temperature": -1}}', "sampling"),
        ('{"messages": [], "sampling": {"temperature": NaN}}', "sampling"),
        ('{"messages": [], "sampling": {"top_p": 0}}', "sampling"),
        ('{"messages": [], "sampling": {"top_k": 1.5}}', "sampling"),
        ('{"messages": [], "sampling": {"seed": true}}', "sampling"),
    ],
)
def test_what_is_not_a_conversation(tmp_path: Path, content: Any, reason: str) -> None:
    path = tmp_path / "chat.json"
    text = content if isinstance(content, str) else json.dumps({"messages": content})
    path.write_text(text)
    with pytest.raises(InputError, match=reason) as caught:
        storage.load(path, DEFAULT)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        storage.load(tmp_path / "chat.json", DEFAULT)


def test_state_round_trip(tmp_path: Path) -> None:
    path = storage.state_path(tmp_path / "chat.json")
    assert storage.save_state(path, [1, 2, 3], b"cells", IDENTITY, KEY) == 5
    assert storage.load_state(path, IDENTITY, KEY) == ([1, 2, 3], b"cells")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_state_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "chat.json.state"
    storage.save_state(path, [1, 2, 3], b"cells" * 100, IDENTITY, KEY)
    with pytest.raises(InputError, match="another model"):
        storage.load_state(path, {**IDENTITY, "n_ctx": 65}, KEY)
    with pytest.raises(InputError, match="not written by you"):
        storage.load_state(path, IDENTITY, b"x" * 32)
    with pytest.raises(InputError, match="cannot be read"):
        storage.load_state(tmp_path / "none", IDENTITY, KEY)


def test_no_changed_byte_of_a_state_gets_through(tmp_path: Path) -> None:
    path = tmp_path / "chat.json.state"
    storage.save_state(path, [1, 2, 3], b"cells", IDENTITY, KEY)
    content = path.read_bytes()
    for at in range(len(content)):
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(InputError):
            storage.load_state(path, IDENTITY, KEY)
        path.write_bytes(content[:at])
        with pytest.raises(InputError):
            storage.load_state(path, IDENTITY, KEY)


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "mtpcli"
    key = storage.private_key(folder)
    assert len(key) == 32 and storage.private_key(folder) == key
    assert stat.S_IMODE((folder / "state.key").stat().st_mode) == 0o600
    (folder / "state.key").write_bytes(b"short")
    with pytest.raises(InputError, match="damaged"):
        storage.private_key(folder)


def test_a_full_disk_leaves_no_half_key(tmp_path: Path) -> None:
    path = tmp_path / "state" / "state.key"
    script = (
        "from pathlib import Path; from mtpcli.chat import storage; storage.private_key(Path({!r}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script.format(str(path.parent))],
        capture_output=True,
        text=True,
        check=False,
        # Python ignores the signal that comes with it, and sees an error as on a full disk.
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (16, 16)),
    )
    assert f"InputError: cannot keep a key in {path}" in done.stderr
    assert list(path.parent.iterdir()) == []
    assert len(storage.private_key(path.parent)) == 32


def test_fingerprint_sees_size_and_content(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    prints = set()
    for content in (b"", b"a", b"aa", b"x" * 3_000_000, b"x" * 2_999_999 + b"y"):
        path.write_bytes(content)
        prints.add(storage.fingerprint(path))
    assert len(prints) == 5
