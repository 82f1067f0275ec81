"""Conversations -> rows of token ids of one length, several conversations packed into a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from .corpus import Conversation, render, stream
from .tokenizer import TURN_CLOSE, TURN_OPEN

USER, MODEL, UNSEEN = 1, 2, 3  # roles of tokens; 0 is padding
_CHANNEL = "<|channel>"


@dataclass
class Rows:
    """`doc` numbers the conversations of a row from 1; attention does not cross them."""

    ids: NDArray[np.int16]
    doc: NDArray[np.int16]
    role: NDArray[np.int8]

    def save(self, path: Path) -> None:
        np.savez(path, ids=self.ids, doc=self.doc, role=self.role)

    @staticmethod
    def load(path: Path) -> Rows:
        with np.load(path) as z:
            return Rows(z["ids"], z["doc"], z["role"])


class Encoder:
    """Tokenises rendered conversations and tells which tokens the model wrote."""

    def __init__(self, tokenizer: Tokenizer, template: Any) -> None:
        self.tokenizer, self.template = tokenizer, template
        self.model = self.encode("model\n")
        self.channel = self.encode(_CHANNEL)[0]
        self.empty_thought = self.encode("<|channel>thought\n<channel|>")

    def encode(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def conversation(self, c: Conversation) -> tuple[list[int], list[int]]:
        ids = self.encode(render(self.template, c))
        role = [USER] * len(ids)
        starts = [i for i, token in enumerate(ids) if token == TURN_OPEN]
        head = 1 + len(self.model)
        for start in starts:
            if ids[start + 1 : start + head] != self.model:
                continue
            first = start + head
            end = ids.index(TURN_CLOSE, first) + 1
            role[first:end] = [MODEL] * (end - first)
            given = first + len(self.empty_thought)
            if ids[first:given] == self.empty_thought:
                role[first:given] = [USER] * len(
                    self.empty_thought
                )  # the prompt's, not the model's
            elif ids[first] != self.channel:
                role[first] = UNSEEN  # history: no prompt ends right before it
        return ids, role


def pack(encoder: Encoder, conversations: Iterator[Conversation], length: int, tokens: int) -> Rows:
    """Fill rows of `length`.

    A conversation that does not fit starts the next row; its beginning fills up this one.
    """
    count = tokens // length
    ids, doc = np.zeros((count, length), np.int16), np.zeros((count, length), np.int16)
    role = np.zeros((count, length), np.int8)
    row = used = number = 0
    for c in conversations:
        new, roles = encoder.conversation(c)
        new, roles = new[:length], roles[:length]
        while row < count:
            part = min(len(new), length - used)
            if part == len(new) or part >= 40:
                here = slice(used, used + part)
                ids[row, here], role[row, here], doc[row, here] = (
                    new[:part],
                    roles[:part],
                    number + 1,
                )
                used, number = used + part, number + 1
            if part == len(new):
                break
            row, used, number = row + 1, 0, 0
        if row >= count:
            break
    return Rows(ids, doc, role)


def build(encoder: Encoder, directory: Path, short_tokens: int, long_tokens: int) -> None:
    """The training rows: many of 256 tokens, fewer of 1024 that reach past the sliding window."""
    pack(encoder, stream(1234), 256, short_tokens).save(directory / "rows256.npz")
    mixed = _alternate(stream(4321, long=True), stream(5678))
    pack(encoder, mixed, 1024, long_tokens).save(directory / "rows1024.npz")


def _alternate(a: Iterator[Conversation], b: Iterator[Conversation]) -> Iterator[Conversation]:
    """One long, three short: so that a row of 1024 still holds all kinds."""
    while True:
        yield next(a)
        for _ in range(3):
            yield next(b)
