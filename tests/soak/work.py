"""What the soak does over and over: every kind of work that mtpcli has, with the same results."""

from __future__ import annotations

import hashlib
import io
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from mtpcli.__main__ import run as run_command
from mtpcli.chat.conversation import Conversation
from mtpcli.chat.settings import Settings
from mtpcli.chat.talk import Talk
from mtpcli.config import DraftConfig, RuntimeConfig, SamplingConfig
from mtpcli.demo.pack import SNAPSHOTS
from mtpcli.schema import schema_grammar
from mtpcli.session import PairPaths, Session
from tests.schemas import PERSON

VARIANTS = 4
_PARALLEL = 3


class Work:
    """Two sessions that stay open for the whole hour, and many that come and go.

    Attributes:
        requests: how many texts were generated so far.
    """

    def __init__(self, paths: PairPaths, folder: Path, after_step: Callable[[], None]) -> None:
        """`after_step` is called after every few seconds of work."""
        self._folder, self._after_step = folder, after_step
        self._paths = paths
        self._batch = Session(
            paths, DraftConfig(3), RuntimeConfig(n_ctx=512, n_seq=_PARALLEL, threads=1)
        )
        self._chat = self._chat_session()
        self._grammar = schema_grammar(PERSON)
        self._prompts = _prompts()
        self.requests = 0

    def close(self) -> None:
        """Close what is open."""
        self._chat.close()
        self._batch.close()

    def lap(self, variant: int) -> str:
        """One repetition; a digest of all its texts. A variant always has the same."""
        digest = hashlib.blake2b(digest_size=8)
        for step in (self._refilled, self._cancelled, self._talk, self._commands):
            for text in step(variant):
                digest.update(text.encode() + b"\0")
            self._after_step()
        return digest.hexdigest()

    def _refilled(self, variant: int) -> Iterator[str]:
        """More requests than slots, of all kinds, on the session that stays open."""
        session, asked = self._batch, []
        for number in range(10):
            greedy = number % 3 == 0
            sampling = replace(session.sampling, seed=100 * variant + number)
            formed = number % 4 == 3
            asked.append(
                session.request(
                    self._tokens(session, variant, number),
                    SamplingConfig(temperature=0) if greedy else sampling,
                    max_tokens=30 + 17 * (number % 3),
                    stops=["."] if number % 5 == 4 else [],
                    constraint=session.constraint(self._grammar) if formed else None,
                )
            )
        session.engine.generate([request for request, _ in asked])
        self.requests += len(asked)
        yield from (stream.answer for _, stream in asked)

    def _cancelled(self, variant: int) -> Iterator[str]:
        """Left in the middle; what comes next in the same slots must not notice."""
        session = self._batch
        requests = [
            session.request(
                self._tokens(session, variant, number),
                replace(session.sampling, seed=number),
                max_tokens=90,
                constraint=session.constraint(self._grammar) if number == 1 else None,
            )[0]
            for number in range(5)
        ]
        with closing(session.engine.rounds(requests)) as rounds:
            for _ in range(4):
                next(rounds)
        self.requests += _PARALLEL
        yield ""

    def _talk(self, variant: int) -> Iterator[str]:
        """Turns, undone and again; saved with their cells, and put back in another session."""
        file, keys = self._folder / "chat.json", self._folder / "keys"
        settings = Settings(self._chat.sampling, seed=variant, max_tokens=60)
        with closing(Talk(self._chat, Conversation("Be kind."), settings, _ignore)) as talk:
            for number in range(3):
                talk.ahead()
                yield self._ask(talk, self._prompts[(variant + 5 * number) % len(self._prompts)])
            settings.seed = variant + 50
            yield self._all(talk.again(None, _never))
            yield self._all(talk.again("Tell me about a brave cat named Leo.", _never))
            rounds = iter(range(3))
            self._all(talk.answer("And then?", lambda: next(rounds, None) is None))
            talk.conversation.undo()
            settings.sampling = replace(settings.sampling, temperature=0.0)
            yield self._ask(talk, "And then?")
            talk.save(file, state=True, key_folder=keys)
            talk.conversation.undo()
            again = self._ask(talk, "What was that?")
            talk.load(file, key_folder=keys)
            yield again + self._ask(talk, "What was that?")
        with (
            self._chat_session() as session,
            closing(Talk(session, Conversation(), replace(settings), _ignore)) as talk,
        ):
            found = talk.load(file, key_folder=keys)
            yield found.rpartition("and ")[2] + self._ask(talk, "What was that?")
        # The next repetition finds no cells that the first one had not found.
        request, stream = self._chat.request([2], SamplingConfig(temperature=0), max_tokens=1)
        self._chat.engine.generate([request])
        yield stream.answer

    def _commands(self, variant: int) -> Iterator[str]:
        """Whole commands, as the shell would run them: files, signals' handlers, a new session."""
        rows, answers = self._folder / "rows.jsonl", self._folder / "answers.jsonl"
        with rows.open("w", encoding="utf-8") as file:
            for number in range(6):
                prompt = self._prompts[(variant * 11 + number * 7) % len(self._prompts)]
                file.write(json.dumps({"prompt": prompt, "max_tokens": 40}) + "\n")
        more: list[object] = ["-m", self._paths.target, "--drafter", self._paths.drafter]
        more += ["--threads", 1, "--ctx", 512, "--seed", variant]
        yield _command("batch", rows, "-o", answers, "--restart", "--quiet", "-p", 2, *more)
        yield answers.read_text(encoding="utf-8")
        shown = json.loads(_command("generate", self._prompts[variant], "--json", *more))
        yield json.dumps(shown["tokens"])
        self.requests += 7

    def _tokens(self, session: Session, variant: int, number: int) -> list[int]:
        prompt = self._prompts[(variant * 13 + number) % len(self._prompts)]
        return session.chat_tokens([{"role": "user", "content": prompt}])

    def _chat_session(self) -> Session:
        runtime = RuntimeConfig(n_ctx=1024, threads=1, swa_full=True)
        return Session(self._paths, DraftConfig(None), runtime)

    def _ask(self, talk: Talk, text: str) -> str:
        return self._all(talk.answer(text, _never))

    def _all(self, pieces: Any) -> str:
        self.requests += 1
        return "".join(piece.text for some in pieces for piece in some)


def _prompts() -> list[str]:
    workloads = json.loads((SNAPSHOTS / "heldout.json").read_text(encoding="utf-8"))
    return [item["prompt"] for items in zip(*workloads.values(), strict=False) for item in items]


def _command(*arguments: object) -> str:
    """Run `mtpcli ARGS...` in this process; what it prints."""
    with _streams() as stdout:
        sys.argv = ["mtpcli", *map(str, arguments)]
        code = run_command()
        sys.stdout.flush()
        if code:
            raise RuntimeError(f"{' '.join(sys.argv)} ended with {code}")
        return stdout.getvalue().decode()


@contextmanager
def _streams() -> Iterator[io.BytesIO]:
    kept = sys.stdin, sys.stdout, sys.argv
    stdout = io.BytesIO()
    sys.stdin = io.TextIOWrapper(io.BytesIO())
    sys.stdout = io.TextIOWrapper(stdout, encoding="utf-8")
    try:
        yield stdout
    finally:
        sys.stdin, sys.stdout, sys.argv = kept


def _never() -> bool:
    return False


def _ignore(_line: str) -> None: ...
