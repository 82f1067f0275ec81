"""A backend without weights for batches: the engine over the fake target, letters for tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mtpcli.batch.worker import Defaults
from mtpcli.config import SamplingConfig
from mtpcli.decode.constraint import Constraint
from mtpcli.decode.depth import FixedDepth
from mtpcli.decode.engine import Engine
from mtpcli.decode.sequence import Request
from mtpcli.errors import ModelError
from mtpcli.prompt.stream import TextStream
from mtpcli.prompt.template import Message
from tests.fakes import END, VOCAB, FakeDrafter, FakeTarget

DEFAULTS = Defaults(SamplingConfig(seed=3), max_tokens=6)


class Letters:
    """A detokenizer whose tokens are letters."""

    def feed(self, token: int) -> str:
        return chr(ord("A") + token)

    def flush(self) -> str:
        return ""


class FakeBackend:
    """What `mtpcli.session.Session` is to a batch.

    Attributes:
        requests: how many there were.
        grammars: that were compiled.
    """

    def __init__(self, n_seq: int = 3, n_ctx: int = 64) -> None:
        self.target = FakeTarget(n_ctx, n_seq)
        drafter = FakeDrafter(self.target, wrong=(7, 11))
        self.engine = Engine(self.target, drafter, FixedDepth(2), lambda token: token == END)
        self.n_ctx = n_ctx
        self.requests = 0
        self.grammars: list[str] = []

    def chat_tokens(self, messages: Sequence[Message], *, thinking: bool = False) -> list[int]:
        text = "".join(str(message["content"]) for message in messages)
        if "refuse" in text:
            raise ModelError("the model's chat template fails: refused")
        return [2, *self.raw_tokens(text)]

    def raw_tokens(self, text: str) -> list[int]:
        return [1 + ord(char) % (VOCAB - 1) for char in text]

    def constraint(self, grammar: str) -> Callable[[], Constraint]:
        self.grammars.append(grammar)

        def make() -> Constraint:
            raise NotImplementedError

        return make

    def request(
        self,
        prompt: list[int],
        sampling: SamplingConfig,
        *,
        max_tokens: int | None = None,
        stops: Sequence[str] = (),
        raw: bool = False,
        constraint: Callable[[], Constraint] | None = None,
    ) -> tuple[Request, TextStream]:
        self.requests += 1
        self.target.decodes.clear()
        stream = TextStream(Letters(), stops=stops)
        return Request(prompt, sampling, stream, max_tokens, constraint=constraint), stream
