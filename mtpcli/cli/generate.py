"""`mtpcli generate`: one prompt, one answer."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtpcli.cli import options
from mtpcli.cli.runtime import RUNTIME, with_runtime
from mtpcli.config import RuntimeConfig

if TYPE_CHECKING:
    from mtpcli.decode.sequence import Sequence
    from mtpcli.session import Session

_LIMITS = {"length": "token limit", "context": "end of the context"}


@with_runtime
def generate(
    prompt: Annotated[
        str | None,
        typer.Argument(help="The prompt; `-` reads standard input. Piped text goes before it."),
    ] = None,
    file: Annotated[
        list[Path] | None,
        typer.Option(
            "--file",
            "-f",
            parser=options.path,
            help="Put this text file before the prompt. Repeatable.",
        ),
    ] = None,
    system: options.System = None,
    thinking: options.Thinking = False,
    raw: Annotated[
        bool, typer.Option("--raw", help="No chat template: continue the text as it is.")
    ] = False,
    max_tokens: options.MaxTokens = None,
    stop: options.Stop = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object instead of text.")
    ] = False,
    stats: Annotated[
        bool, typer.Option("--stats", help="Say on standard error how it went.")
    ] = False,
    json_schema: options.JsonSchema = None,
    grammar: options.Grammar = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    repeat_penalty: options.RepeatPenalty = None,
    presence_penalty: options.PresencePenalty = None,
    frequency_penalty: options.FrequencyPenalty = None,
    seed: options.Seed = None,
    model: options.Model = None,
    ctx: options.Context = 0,
    drafter: options.Drafter = None,
    no_draft: options.NoDraft = False,
    draft_depth: options.DraftDepth = options.DEPTH,
    verify: options.Verify = options.Verification.COUPLED,
    exact: options.Exact = False,
    runtime: RuntimeConfig = RUNTIME,
) -> None:
    """Answer one prompt.

    The answer goes to standard output token by token, everything else to standard error.

    The same seed gives the same text, with and without a drafter.
    A reader that leaves (`| head -1`) ends it quietly. With `xargs -P` use --json: one line each.

    Examples:

        mtpcli generate "Write a story about a fox."
        git diff | mtpcli generate "Write a commit message." > msg
        mtpcli generate -f notes.txt "Summarise." --json --seed 7
        mtpcli generate --json-schema person.schema.json "Ada Lovelace, 36" | jq .name
        mtpcli generate --grammar chess.gbnf "Your move?" --temperature 0
    """
    text = _prompt_text(prompt, file or [])

    from mtpcli.cli import output
    from mtpcli.config import DraftConfig
    from mtpcli.errors import UsageError
    from mtpcli.session import Session, choose_pair

    if raw and (system or thinking):
        raise UsageError("--raw has no chat template for --system or --thinking")
    if json_schema and grammar:
        raise UsageError("--json-schema and --grammar exclude each other")
    if (json_schema or grammar) and thinking:
        raise UsageError("--thinking leaves the form of --json-schema and --grammar: choose one")
    grammar_text = options.grammar_text(json_schema, grammar)
    options.check_exact(exact, verify)
    paths = choose_pair(model, drafter, draft=not no_draft)
    options.say_which_model(paths)
    rejection = verify is options.Verification.REJECTION
    draft = DraftConfig(draft_depth, rejection=rejection, exact=exact)
    with Session(paths, draft, replace(runtime, n_ctx=ctx), options.progress()) as session:
        options.say_exact_rows(session)
        health = session.engine.health
        output.warn(health)
        sampling = options.sampling(
            session.sampling,
            seed=seed,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            repetition=repeat_penalty,
            presence=presence_penalty,
            frequency=frequency_penalty,
        )
        tokens = (
            session.raw_tokens(text)
            if raw
            else session.chat_tokens(options.messages(system, text), thinking=thinking)
        )
        request, stream = session.request(
            tokens,
            sampling,
            max_tokens=max_tokens,
            stops=stop or [],
            raw=raw,
            constraint=session.constraint(grammar_text) if grammar_text is not None else None,
        )
        writer = output.AnswerWriter()
        for sequences in session.engine.rounds([request]):
            sequence = sequences[0]
            if not as_json:
                writer.write(stream.take())
        if as_json:
            result = _result(session, sequence, stream.answer)
            output.print_json({**result, "thought": stream.thought} if thinking else result)
        else:
            writer.end()
        output.warn(health)
        limit = _LIMITS.get(sequence.finish_reason or "")
        if grammar_text is not None and limit:
            output.note(f"cut at the {limit}: the answer is not complete")
        if stats or (sys.stderr.isatty() and not as_json):
            line = output.stats_line(
                sequence.stats,
                session.engine.timings,
                len(sequence.tokens),
                session.drafter_name,
            )
            output.note(f"{line} · seed {sampling.seed}")


def _result(session: Session, sequence: Sequence, text: str) -> dict[str, Any]:
    """The object that `--json` prints."""
    from mtpcli.cli import output

    tokens = sequence.tokens
    return {
        "text": text,
        "tokens": tokens,
        "finish_reason": sequence.finish_reason,
        "usage": {
            "prompt_tokens": len(sequence.request.prompt),
            "completion_tokens": len(tokens),
        },
        "speculation": output.speculation(
            sequence.stats, session.drafter_name, session.engine.health.failure
        ),
        "timings": output.timings(session.load_seconds, session.engine.timings, len(tokens)),
        "seed": sequence.request.sampling.seed,
        "model": str(session.paths.target),
        "warnings": session.engine.health.notices,
    }


def _prompt_text(prompt: str | None, files: list[Path]) -> str:
    """Files, then piped text, then the argument, with blank lines between them."""
    from mtpcli.errors import UsageError

    parts = [options.read_text(path) for path in files]
    if prompt == "-" or not sys.stdin.isatty():
        parts.append(options.decode_text(sys.stdin.buffer.read, "standard input"))
    if prompt and prompt != "-":
        parts.append(prompt)
    parts = [part.strip("\n") for part in parts if part.strip()]
    if not parts:
        raise UsageError(
            "no prompt: give it as an argument, with -f FILE, or on standard input "
            '(`mtpcli generate "Tell me a story."`)'
        )
    return "\n\n".join(parts)
