"""Conversations as JSON files, and beside them llama.cpp's cells: read with suspicion, never run.

A state goes into llama.cpp as it is, and llama.cpp trusts what is in it. So it is used only if
this user wrote it, which a keyed hash over the whole file proves, for the same model and settings;
else the conversation is decoded anew, which is slower and gives the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

from mtpcli.chat.conversation import Conversation, Turn
from mtpcli.chat.settings import KNOBS, MAX_SEED
from mtpcli.config import SamplingConfig
from mtpcli.errors import InputError
from mtpcli.files import replacing
from mtpcli.sanitize import one_line

FORMAT = "mtpcli chat 1"
_STATE_MAGIC = b"mtpcli state 1\n"
_MAX_FILE = 64 << 20
_MAX_HEADER = 16 << 20
_KEY_BYTES = 32


@dataclass(frozen=True)
class Saved:
    """A conversation with the settings that it was held with.

    Attributes:
        sampling: its seed is None in `seed` unless the user had fixed one.
    """

    conversation: Conversation
    sampling: SamplingConfig
    seed: int | None
    thinking: bool


def save(path: Path, saved: Saved, model: str) -> None:
    """Write a conversation, whole or not at all.

    Raises:
        InputError: the file cannot be written, or is something else that should stay.
    """
    if path.exists():
        try:
            _read_object(path)
        except InputError:
            raise InputError(
                f"{path} exists and is not a saved conversation: choose another name"
            ) from None
    messages: list[dict[str, Any]] = []
    if saved.conversation.system:
        messages.append({"role": "system", "content": saved.conversation.system})
    for turn in saved.conversation.turns:
        messages.append({"role": "user", "content": turn.user})
        answer = {"role": "assistant", "content": turn.answer, "finish_reason": turn.finish}
        extra = {"thought": turn.thought or None, "seed": turn.seed}
        messages.append(answer | {key: value for key, value in extra.items() if value is not None})
    content = {
        "format": FORMAT,
        "model": model,
        "thinking": saved.thinking,
        "sampling": {knob.field: getattr(saved.sampling, knob.field) for knob in KNOBS.values()}
        | {"seed": saved.seed},
        "left_out": saved.conversation.left_out,
        "messages": messages,
    }
    text = json.dumps(content, ensure_ascii=False, indent=1) + "\n"
    with _replacing(path) as file:
        file.write(text.encode("utf-8", "replace"))


def load(path: Path, default: SamplingConfig) -> Saved:
    """Read a conversation; settings that the file does not have are `default`'s.

    Raises:
        InputError: the file cannot be read, or is not a conversation.
    """
    content = _read_object(path)
    conversation = _conversation(path, content["messages"])
    left_out = content.get("left_out", 0)
    if type(left_out) is int and 0 <= left_out <= len(conversation.turns):
        conversation.left_out = left_out
    values = content.get("sampling")
    sampling, seed = _sampling(path, values if isinstance(values, dict) else {}, default)
    return Saved(conversation, sampling, seed, content.get("thinking") is True)


def _read_object(path: Path) -> dict[str, Any]:
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise InputError(f"{path} is not a saved conversation: it is no file")
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_FILE + 1)
        if len(raw) > _MAX_FILE:
            raise InputError(f"{path} is too large to be a saved conversation")
        content = json.loads(raw)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not a saved conversation: it is not JSON") from None
    if not isinstance(content, dict) or not isinstance(content.get("messages"), list):
        raise InputError(f"{path} is not a saved conversation: it has no messages")
    if content.get("format", FORMAT) != FORMAT:
        raise InputError(
            f"{path} has the format {one_line(repr(content['format']), 60)}, "
            "which this version of mtpcli does not know"
        )
    return content


def _conversation(path: Path, messages: list[Any]) -> Conversation:
    conversation, user = Conversation(), None
    for number, message in enumerate(messages, 1):
        bad = InputError(
            f"{path}, message {number}: after an optional system message, messages of user and "
            "assistant take turns, each with its content as text"
        )
        content = message.get("content") if isinstance(message, dict) else None
        if not isinstance(content, str):
            raise bad
        role = message.get("role")
        if role == "system" and number == 1:
            conversation.system = content
        elif role == "user" and user is None:
            user = content
        elif role == "assistant" and user is not None:
            conversation.turns.append(_turn(user, content, message))
            user = None
        else:
            raise bad
    if user is not None:
        raise InputError(f"{path}: the last message has no answer")
    return conversation


def _turn(user: str, answer: str, message: dict[str, Any]) -> Turn:
    turn = Turn(user, answer)
    thought, seed, finish = (message.get(key) for key in ("thought", "seed", "finish_reason"))
    if isinstance(thought, str):
        turn = replace(turn, thought=thought)
    if type(seed) is int and 0 <= seed <= MAX_SEED:
        turn = replace(turn, seed=seed)
    if finish in ("stop", "length", "context", "interrupted"):
        turn = replace(turn, finish=finish)
    return turn


def _sampling(
    path: Path, values: dict[str, Any], default: SamplingConfig
) -> tuple[SamplingConfig, int | None]:
    known = {knob.field: knob for knob in KNOBS.values() if knob.field in values}
    seed = values.get("seed")
    fits = seed is None or (type(seed) is int and 0 <= seed <= MAX_SEED)
    if not fits or not all(knob.allows(values[field]) for field, knob in known.items()):
        raise InputError(f"{path} has sampling values that cannot be")
    return replace(default, **{field: values[field] for field in known}), seed


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """See `replacing`; for the user's eyes only."""
    try:
        with replacing(path, private=True) as file:
            yield file
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def state_path(path: Path) -> Path:
    """Where the state of a conversation in `path` is kept."""
    return path.with_name(path.name + ".state")


def save_state(
    path: Path, tokens: list[int], state: bytes, identity: dict[str, Any], key: bytes
) -> int:
    """Write a state; its size in bytes.

    Args:
        path: file to write.
        tokens: the tokens whose cells it holds.
        state: what llama.cpp wrote.
        identity: of the model and the settings: a state fits only the same.
        key: proves later who wrote it.
    """
    header = json.dumps({"identity": identity, "tokens": tokens, "bytes": len(state)}).encode()
    if path.exists() and not _is_state(path):
        raise InputError(f"{path} exists and is not a saved state: choose another name")
    with _replacing(path) as file:
        file.write(_STATE_MAGIC)
        file.write(_mac(key, header, state))
        file.write(len(header).to_bytes(8, "little"))
        file.write(header)
        file.write(state)
    return len(state)


def remove_state(path: Path) -> None:
    """Remove the state of an earlier save; a file of somebody else's stays."""
    if _is_state(path):
        path.unlink()


def _is_state(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_STATE_MAGIC)) == _STATE_MAGIC


def load_state(path: Path, identity: dict[str, Any], key: bytes) -> tuple[list[int], bytes]:
    """The tokens and the state in a file.

    Raises:
        InputError: why the state cannot be used, as a clause that follows "because".
    """
    if path.exists() and not path.is_file():
        raise InputError(f"{path.name} is no file")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path.name} cannot be read: {error.strerror}") from None
    start = len(_STATE_MAGIC)
    mac, rest = content[start : start + 32], content[start + 32 :]
    size = int.from_bytes(rest[:8], "little")
    header, state = rest[8 : 8 + size], rest[8 + size :]
    if not content.startswith(_STATE_MAGIC) or size > _MAX_HEADER or len(header) < size:
        raise InputError(f"{path.name} is not a saved state, or cut short")
    if not hmac.compare_digest(mac, _mac(key, header, state)):
        raise InputError(f"{path.name} was changed, or not written by you on this machine")
    values = json.loads(header)
    if values["identity"] != identity:
        raise InputError(f"{path.name} belongs to another model, context size or version")
    return values["tokens"], state


def _mac(key: bytes, header: bytes, state: bytes) -> bytes:
    digest = hmac.new(key, len(header).to_bytes(8, "little") + header, hashlib.sha256)
    digest.update(state)
    return digest.digest()


def private_key(folder: Path) -> bytes:
    """This user's key for states, made on first use and readable by nobody else."""
    path = folder / "state.key"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            with replacing(path, private=True) as file:
                file.write(secrets.token_bytes(_KEY_BYTES))
        key = path.read_bytes()
    except OSError as error:
        raise InputError(f"cannot keep a key in {path}: {error.strerror}") from None
    if len(key) < _KEY_BYTES:
        raise InputError(f"{path} is damaged: delete it, and states saved so far are void")
    return key


def fingerprint(path: Path) -> str:
    """Tells one model file from another: a hash of its size and of samples from all over it."""
    size = path.stat().st_size
    digest = hashlib.blake2b(str(size).encode(), digest_size=16)
    chunk, samples = 1 << 16, 64
    with path.open("rb") as file:
        digest.update(file.read(1 << 20))
        for index in range(samples):
            file.seek(max(0, (size - chunk) * index // (samples - 1)))
            digest.update(file.read(chunk))
    return digest.hexdigest()
