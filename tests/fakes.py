"""A target and drafters without weights: exact about positions, rows and roll-back."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from mtpcli.config import MAX_DRAFT_DEPTH
from mtpcli.decode import sampling
from mtpcli.decode.acceptance import Usual
from mtpcli.decode.depth import AutoDepth
from mtpcli.decode.drafters.base import Draft, DraftRequest, GoOn
from mtpcli.decode.round_costs import Costs, Curve

VOCAB = 50
END = 0
N_EMBD = 4


def toy_logits(context: Sequence[int]) -> npt.NDArray[np.float32]:
    """Logits `[VOCAB]` that depend on every token of the context; the end is unlikely."""
    seed = 17
    for token in context:
        seed = (seed * 1000003 + token + 1) % 2**32
    logits = (np.random.default_rng(seed).standard_normal(VOCAB) * 2).astype(np.float32)
    logits[END] -= 2
    return logits


Logits = Callable[[Sequence[int]], npt.NDArray[np.float32]]
"""From a context to the logits behind it, in an array that the caller may change."""


def toy_hidden(context: Sequence[int], logits: Logits = toy_logits) -> npt.NDArray[np.float32]:
    """A hidden state `[N_EMBD]` that tells of which context it is."""
    return logits(context)[:N_EMBD] * 3


@dataclass
class FakeRows:
    """Rows of a decode, as NumPy arrays."""

    capacity: int = 512
    token: npt.NDArray[np.int32] = field(init=False)
    pos: npt.NDArray[np.int32] = field(init=False)
    seq: npt.NDArray[np.int32] = field(init=False)
    output: npt.NDArray[np.int8] = field(init=False)

    def __post_init__(self) -> None:
        self.token = np.full(self.capacity, -1, np.int32)
        self.pos = np.full(self.capacity, -1, np.int32)
        self.seq = np.full(self.capacity, -1, np.int32)
        self.output = np.zeros(self.capacity, np.int8)


class FakeTarget:
    """A KV cache that refuses holes and duplicates, over `toy_logits` or others.

    Attributes:
        model: its logits.
        cells: tokens per sequence, as the cache holds them.
        decodes: rows of each decode.
        ring: cells after which a sequence begins to overwrite its own.
    """

    n_embd = N_EMBD

    def __init__(
        self,
        n_ctx: int = 256,
        n_seq: int = 1,
        model: Logits = toy_logits,
        *,
        keeper: bool = False,
    ) -> None:
        self.n_ctx, self.n_seq = n_ctx, n_seq
        self.keeper = n_seq if keeper else None
        self.model = model
        self.batch = FakeRows()
        self.cells: list[list[int]] = [[] for _ in range(n_seq + keeper)]
        self.decodes: list[int] = []
        self.closed = 0
        self.resume_from = 0
        self.ring = 1 << 20
        self._contexts: list[list[int]] = []

    def prefill(self, seq: int, start: int, tokens: list[int]) -> None:
        assert tokens, "no row, so no logits"
        for offset, token in enumerate(tokens):
            self._put(seq, start + offset, token)
        self._contexts = [list(self.cells[seq])]

    def decode(self, rows: int, outputs: int) -> None:
        assert outputs == rows == int(self.batch.output[:rows].sum())
        self.decodes.append(rows)
        self._contexts = []
        for row in range(rows):
            seq = int(self.batch.seq[row])
            self._put(seq, int(self.batch.pos[row]), int(self.batch.token[row]))
            self._contexts.append(list(self.cells[seq]))

    def _put(self, seq: int, position: int, token: int) -> None:
        assert position == len(self.cells[seq]), f"a hole or a stale cell at {position}"
        assert position < self.n_ctx, "beyond the context"
        self.cells[seq].append(token)

    def logits(self, output: int) -> npt.NDArray[np.float32]:
        return self.model(self._contexts[output])

    def hidden(self, row: int) -> npt.NDArray[np.float32]:
        return toy_hidden(self._contexts[row], self.model)

    def forget(self, seq: int, start: int) -> None:
        del self.cells[seq][start:]

    def copy(self, seq: int, to: int) -> None:
        self.cells[to] = list(self.cells[seq])

    def move(self, seq: int, to: int) -> None:
        self.cells[to], self.cells[seq] = self.cells[seq], []

    def can_resume(self, seq: int, position: int) -> bool:
        return position >= self.resume_from

    def draft_room(self, position: int) -> int:
        return self.ring - 1 - position % self.ring

    def save(self, seq: int) -> bytes:
        return bytes(self.cells[seq])

    def restore(self, seq: int, state: bytes, tokens: int) -> bool:
        self.cells[seq] = list(state)
        return len(state) == tokens

    def close(self) -> None:
        self.closed += 1


class FakeDrafter:
    """Drafts what the target will say, except where `wrong` says no.

    It reads the target's cells as the real one does, so a stale cell or a wrong hidden row shows.

    Attributes:
        obedient: it drafts what the sequence's constraint allows.
        honest: it is as confident as its probabilities are, not as it is right.
    """

    name = "fake"
    obedient = True
    honest = False
    decode_seconds = 0.0

    def __init__(
        self, target: FakeTarget, wrong: Sequence[int] = (), model: Logits | None = None
    ) -> None:
        """Drafted tokens at the absolute positions in `wrong` are wrong.

        Args:
            model: its logits, if they are not the target's.
        """
        self._target = target
        self._model = model or target.model
        self._wrong = set(wrong)
        self.closed = 0

    def set_threads(self, threads: int) -> None: ...

    def draft(self, requests: Sequence[DraftRequest], go_on: GoOn) -> list[Draft]:
        return [self._draft(request, go_on) for request in requests]

    def _draft(self, request: DraftRequest, go_on: GoOn) -> Draft:
        context = list(self._target.cells[request.seq])
        assert len(context) == request.position, "the drafter sees stale cells"
        np.testing.assert_array_equal(request.hidden, toy_hidden(context, self._target.model))
        context.append(request.token)
        draft = Draft(source=self.name)
        constraint = request.constraint.clone() if request.constraint and self.obedient else None
        while len(draft.tokens) < request.depth:
            position = len(context)
            recent = [*request.recent, *draft.tokens] if request.recent else []
            drawn = sampling.draw(
                self._model(context),
                request.sampling,
                position,
                constraint=constraint,
                recent=recent,
                sharpness=request.sharpness,
            )
            token = drawn.token
            draft.kept.append(drawn.kept)
            draft.rivals.append(drawn.rivals)
            if constraint:
                constraint.accept(token)
            wrong = position in self._wrong
            if wrong:
                token = (token + 1) % VOCAB
            context.append(token)
            draft.tokens.append(token)
            sure = drawn.probability if self.honest else 0.9
            draft.confidences.append(0.1 if wrong else sure)
            if not go_on(draft.confidences):
                break
        if constraint:
            constraint.close()
        return draft

    def close(self) -> None:
        self.closed += 1


class Steady(AutoDepth):
    """The automatic depth on a machine whose times are always the same.

    What it drafts then depends on the text alone.
    """

    def __init__(
        self,
        usual: dict[str, Usual] | None = None,
        *,
        verify: dict[int, float] | None = None,
        draft: float = 0.15,
        max_depth: int = MAX_DRAFT_DEPTH,
    ) -> None:
        """Seconds of a verify by rows, and of a draft step."""
        verify = verify or {1: 1.0, 4: 1.2, 8: 2.0, 16: 4.0}
        super().__init__(Costs(Curve(verify), Curve({1: draft}), usual=usual or {}), max_depth)

    def observe_draft(self, rows: int, steps: int, seconds: float) -> None: ...
    def observe_verify(self, rows: int, seconds: float) -> None: ...
    def observe_rest(self, seconds: float) -> None: ...


class Whim:
    """A depth policy that does what it likes, and sees to it that it is told the truth."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self.drafted = self.accepted = self.prompts = 0

    def plan(self, sequences: int) -> int:
        return self._dice.randrange(6)

    def go_on(self, confidences: Sequence[float]) -> bool:
        return self._dice.random() < 0.7

    def keep(self, confidences: Sequence[float]) -> int:
        return self._dice.randrange(len(confidences) + 1)

    def observe_draft(self, rows: int, steps: int, seconds: float) -> None:
        assert rows and steps and seconds >= 0

    def observe_verify(self, rows: int, seconds: float) -> None:
        assert rows and seconds >= 0

    def observe_rest(self, seconds: float) -> None:
        assert seconds >= 0

    def observe_prompt(self) -> None:
        self.prompts += 1

    def take(self, source: str, confidences: Sequence[float]) -> int:
        assert source == "lookup"
        return self._dice.randrange(len(confidences) + 1)

    def observe_draft_result(
        self, source: str, confidences: Sequence[float], accepted: int
    ) -> None:
        if source == "fake":
            # That one is sure of what is right.
            assert [value > 0.5 for value in confidences[:accepted]] == [True] * accepted
        self.drafted += len(confidences)
        self.accepted += accepted


class Watcher(Whim):
    """Drafts three tokens, and has none of them verified."""

    seen: list[tuple[int, int]]

    def __init__(self) -> None:
        super().__init__(0)
        self.seen = []

    def plan(self, sequences: int) -> int:
        return 3

    def go_on(self, confidences: Sequence[float]) -> bool:
        return True

    def keep(self, confidences: Sequence[float]) -> int:
        return 0

    def take(self, source: str, confidences: Sequence[float]) -> int:
        return 0

    def observe_draft_result(
        self, source: str, confidences: Sequence[float], accepted: int
    ) -> None:
        self.seen.append((len(confidences), accepted))


class FakeConstraint:
    """Neighbours differ by no multiple of three, and the end comes after six tokens or later.

    Attributes:
        open: how many there are that nobody has closed; shared by clones.
        asked: the largest number of tokens that were asked about at once; shared by clones.
    """

    def __init__(self) -> None:
        self.open, self.asked = [1], [0]
        self._tokens: list[int] = []
        self._closed = self._ended = False

    def allowed(self, ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        assert not self._closed
        self.asked[0] = max(self.asked[0], ids.size)
        if self._ended:
            return np.ones(ids.size, np.bool_)
        last = self._tokens[-1] if self._tokens else 1
        good: npt.NDArray[np.bool_] = (ids - last) % 3 != 0
        good[ids == END] = len(self._tokens) >= 6
        return good

    def accept(self, token: int) -> None:
        assert self.allowed(np.array([token]))[0], f"{token} after {self._tokens}"
        self._ended |= token == END
        self._tokens.append(token)

    def clone(self) -> FakeConstraint:
        other = FakeConstraint()
        other.open, other.asked = self.open, self.asked
        other._tokens, other._ended = list(self._tokens), self._ended
        self.open[0] += 1
        return other

    def close(self) -> None:
        assert not self._closed, "closed twice"
        self._closed = True
        self.open[0] -= 1


class ListStream:
    """A stream that keeps tokens, and stops after a token of the user's choice."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.tokens: list[int] = []
        self.stopped = False
        self.finished = 0
        self._stop_after = stop_after

    def feed(self, token: int) -> None:
        self.tokens.append(token)
        self.stopped = token == self._stop_after

    def finish(self) -> None:
        self.finished += 1
