"""`mtpcli chat`: a conversation, line by line."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from mtpcli.cli import options

if TYPE_CHECKING:
    from mtpcli.cli.output import AnswerWriter
    from mtpcli.config import SamplingConfig
    from mtpcli.prompt.template import Message
    from mtpcli.session import Session


def chat(
    system: options.System = None,
    thinking: options.Thinking = False,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    seed: options.Seed = None,
    model: options.Model = None,
    ctx: options.Context = 0,
    threads: options.Threads = 0,
    drafter: options.Drafter = None,
    no_draft: options.NoDraft = False,
    draft_depth: options.DraftDepth = options.DEPTH,
) -> None:
    """Talk with the model. Ctrl-C stops an answer, Ctrl-D leaves.

    Without a terminal every line of standard input is a turn.
    """
    from mtpcli.cli import output
    from mtpcli.config import DraftConfig, RuntimeConfig
    from mtpcli.errors import InputError
    from mtpcli.session import Session, choose_pair

    paths = choose_pair(model, drafter, draft=not no_draft)
    options.say_which_model(paths)
    with Session(paths, DraftConfig(draft_depth), RuntimeConfig(ctx, 1, threads)) as session:
        sampling = options.sampling(
            session.sampling, seed=seed, temperature=temperature, top_k=top_k, top_p=top_p
        )
        history: list[Message] = [{"role": "system", "content": system}] if system else []
        for line in _lines():
            history.append({"role": "user", "content": line})
            try:
                writer = output.AnswerWriter()
                answer = _answer(session, history, sampling, writer, max_tokens, thinking)
            except InputError as error:
                # The turn does not fit; the conversation before it stays.
                history.pop()
                output.note(str(error))
                continue
            history.append({"role": "assistant", "content": answer})


def _answer(
    session: Session,
    history: list[Message],
    sampling: SamplingConfig,
    writer: AnswerWriter,
    max_tokens: int | None,
    thinking: bool,
) -> str:
    """Generate and show one answer; what there is of it when Ctrl-C stops it."""
    from contextlib import closing

    from mtpcli.cli import output
    from mtpcli.decode.metrics import Timings

    tokens = session.chat_tokens(history, thinking=thinking)
    request, stream = session.request(tokens, sampling, max_tokens=max_tokens, reuse=True)
    session.engine.timings = Timings()
    sequence = None
    with closing(session.engine.rounds([request])) as rounds:
        try:
            for sequences in rounds:
                sequence = sequences[0]
                writer.write(stream.take())
        except KeyboardInterrupt:
            output.note("stopped")
    writer.end()
    if sequence and sys.stderr.isatty():
        output.note(
            output.stats_line(
                sequence.stats, session.engine.timings, len(sequence.tokens), session.drafter_name
            )
        )
    return stream.answer


def _lines() -> Iterator[str]:
    """The user's turns, until the end of input."""
    terminal = sys.stdin.isatty()
    while True:
        if terminal:
            sys.stderr.write("> ")
            sys.stderr.flush()
        try:
            line = sys.stdin.readline()
        except KeyboardInterrupt:
            # Nothing is under way: an empty prompt again, as shells do it.
            sys.stderr.write("\n")
            continue
        if not line:
            return
        if line.strip():
            yield line.strip()
