"""What decoding needs of a target's context."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


class Rows(Protocol):
    """Rows of a decode: int32 arrays, and an int8 one for the rows whose logits are wanted.

    `capacity` is how many there are.
    """

    capacity: int
    token: npt.NDArray[np.int32]
    pos: npt.NDArray[np.int32]
    seq: npt.NDArray[np.int32]
    output: npt.NDArray[np.int8]


class Target(Protocol):
    """A model's context and its KV cache; `mtpcli.llama.context.TargetContext` is one."""

    n_ctx: int
    n_seq: int
    keeper: int | None

    @property
    def batch(self) -> Rows: ...
    @property
    def n_embd(self) -> int: ...
    def prefill(self, seq: int, start: int, tokens: list[int]) -> None: ...
    def decode(self, rows: int, outputs: int) -> None: ...
    def logits(self, output: int) -> FloatArray: ...
    def hidden(self, row: int) -> FloatArray: ...
    def forget(self, seq: int, start: int) -> None: ...
    def copy(self, seq: int, to: int) -> None: ...
    def move(self, seq: int, to: int) -> None: ...
    def can_resume(self, seq: int, position: int) -> bool: ...
    def draft_room(self, position: int) -> int: ...
    def save(self, seq: int) -> bytes: ...
    def restore(self, seq: int, state: bytes, tokens: int) -> bool: ...
    def close(self) -> None: ...
