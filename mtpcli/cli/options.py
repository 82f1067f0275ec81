"""Options that several commands share, and what they make of them."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtpcli.config import MAX_DRAFT_DEPTH, SAMPLING_RANGES, SamplingConfig
from mtpcli.errors import UsageError

if TYPE_CHECKING:
    from mtpcli.prompt.template import Message
    from mtpcli.session import PairPaths, Session

_MODEL = "Model"
_SAMPLING = "Sampling"
_DRAFTING = "Drafting"
_OUTPUT = "Form of the answer"


def name(text: str) -> str:
    """A name that somebody gives; an empty one would be the current folder's."""
    if not text:
        raise typer.BadParameter("it is empty: give the name of a file")
    return text


def path(text: str) -> Path:
    """A file, a folder, or a model by its name."""
    return Path(name(text))


def files(*endings: str) -> Callable[[str], list[str]]:
    """Shell completion by files with these endings; none where there are folders to choose from.

    Without a suggestion of ours the shell suggests files by itself, and folders better than we do.
    """

    def complete(incomplete: str) -> list[str]:
        folder, slash, begun = incomplete.rpartition("/")
        try:
            paths = list(Path(folder + slash or ".").expanduser().iterdir())
        except OSError:
            return []
        paths = [path for path in paths if path.name.startswith(begun)]
        if any(path.is_dir() for path in paths):
            return []
        return sorted(folder + slash + path.name for path in paths if path.suffix in endings)

    return complete


def files_and_models(incomplete: str) -> list[str]:
    """Shell completion by GGUF files and by models that were pulled.

    Without tags: a colon ends a word for some shells.
    """
    from mtpcli.hub.names import FAMILY
    from mtpcli.hub.store import models

    pulled = {model.name for model in models()}
    pulled |= {short for short, name in FAMILY.items() if name in pulled}
    return [
        *sorted(name for name in pulled if name.startswith(incomplete)),
        *files(".gguf")(incomplete),
    ]


def drafter_of_config(context: typer.Context, value: Path | None) -> Path | None:
    """A drafter of the config file goes with the file's model, not with another one."""

    def source(name: str) -> str:
        found = context.get_parameter_source(name)
        return found.name if found else ""

    foreign = source("model") in ("COMMANDLINE", "ENVIRONMENT")
    return None if foreign and source("drafter") == "DEFAULT_MAP" else value


Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        parser=path,
        envvar="MTPCLI_MODEL",
        show_envvar=False,
        autocompletion=files_and_models,
        help="Target GGUF file, or a pulled model's name. Without it: $MTPCLI_MODEL, "
        "else the embedded demo pair.",
        rich_help_panel=_MODEL,
    ),
]
Threads = Annotated[
    int,
    typer.Option(min=0, max=512, help="CPU threads; 0 is one per core.", rich_help_panel="Device"),
]
Context = Annotated[
    int,
    typer.Option(
        "--ctx",
        min=0,
        help="Tokens of context; 0 is the model's own, at most 8192.",
        rich_help_panel=_MODEL,
    ),
]
Drafter = Annotated[
    Path | None,
    typer.Option(
        parser=path,
        callback=drafter_of_config,
        help="Drafter GGUF file, or a pulled model's name. Without it: the one that fits.",
        autocompletion=files_and_models,
        rich_help_panel=_DRAFTING,
    ),
]
NoDraft = Annotated[
    bool,
    typer.Option(
        "--no-draft", help="Plain decoding: the same text, slower.", rich_help_panel=_DRAFTING
    ),
]


def _depth(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) > MAX_DRAFT_DEPTH:
        raise typer.BadParameter(f"{text!r} is neither auto nor a number from 0 to 15")
    return int(text)


DraftDepth = Annotated[
    int | None,
    typer.Option(
        parser=_depth,
        metavar="auto|0..15",
        help="Tokens to draft per round; auto is what pays. Default: auto.",
        rich_help_panel=_DRAFTING,
    ),
]
Exact = Annotated[
    bool,
    typer.Option(
        "--exact",
        help="Decode only as many rows at once as give the same bits here: text that never "
        "depends on drafts. Slower. The first time it is found out, which takes a while.",
        rich_help_panel=_DRAFTING,
    ),
]
MaxTokens = Annotated[
    int | None,
    typer.Option("--max-tokens", "-n", min=1, help="Stop after this many tokens."),
]


def _stop(text: str) -> str:
    if not text:
        raise typer.BadParameter("it is empty: every answer begins with that")
    return text


Stop = Annotated[
    list[str] | None,
    typer.Option(parser=_stop, metavar="TEXT", help="End answers before this text. Repeatable."),
]
Seed = Annotated[
    int | None,
    typer.Option(
        min=0,
        max=2**64 - 1,
        help="A seed gives one text. Default: random.",
        rich_help_panel=_SAMPLING,
    ),
]


def _within(field: str) -> Callable[[float | None], float | None]:
    """Checks a real number of `SamplingConfig`; no range of Click's refuses "nan" everywhere."""
    _, least, most = SAMPLING_RANGES[field]

    def check(value: float | None) -> float | None:
        if value is not None and not least <= value <= most:
            raise typer.BadParameter(f"it is a number from {least:.10g} to {most:.10g}")
        return value

    return check


Temperature = Annotated[
    float | None,
    typer.Option(
        callback=_within("temperature"),
        min=0.0,
        help="0 is greedy. Default: the model's own, 1.0.",
        rich_help_panel=_SAMPLING,
    ),
]
TopK = Annotated[
    int | None,
    typer.Option(
        min=0, help="Keep the k likeliest tokens; 0 is all. Default: 64.", rich_help_panel=_SAMPLING
    ),
]
TopP = Annotated[
    float | None,
    typer.Option(
        callback=_within("top_p"),
        min=0.0,
        max=1.0,
        help="Keep the likeliest tokens up to this probability. Default: 0.95.",
        rich_help_panel=_SAMPLING,
    ),
]
MinP = Annotated[
    float | None,
    typer.Option(
        callback=_within("min_p"),
        min=0.0,
        max=1.0,
        help="Keep tokens at least this times as likely as the best. Default: 0, off.",
        rich_help_panel=_SAMPLING,
    ),
]
RepeatPenalty = Annotated[
    float | None,
    typer.Option(
        callback=_within("repetition"),
        min=0.01,
        help="Divide the logits of the last 64 tokens by it. Default: 1, off.",
        rich_help_panel=_SAMPLING,
    ),
]
PresencePenalty = Annotated[
    float | None,
    typer.Option(
        callback=_within("presence"),
        help="Subtract from the logits of the last 64 tokens. Default: 0.",
        rich_help_panel=_SAMPLING,
    ),
]
FrequencyPenalty = Annotated[
    float | None,
    typer.Option(
        callback=_within("frequency"),
        help="Subtract as often as a token is among the last 64. Default: 0.",
        rich_help_panel=_SAMPLING,
    ),
]


class Verification(str, Enum):
    """How sampled drafts are verified."""

    COUPLED = "coupled"
    REJECTION = "rejection"


Verify = Annotated[
    Verification,
    typer.Option(
        help="coupled: a seed gives the text it gives without a drafter. "
        "rejection: as likely a text, and more drafts accepted.",
        rich_help_panel=_DRAFTING,
    ),
]
System = Annotated[str | None, typer.Option(help="System prompt.")]
Thinking = Annotated[
    bool, typer.Option("--thinking", help="Let the model think before it answers.")
]

JsonSchema = Annotated[
    Path | None,
    typer.Option(
        parser=path,
        help="The answer is JSON that satisfies this JSON Schema.",
        autocompletion=files(".json"),
        rich_help_panel=_OUTPUT,
    ),
]
Grammar = Annotated[
    Path | None,
    typer.Option(
        parser=path,
        help="The answer satisfies this grammar (GBNF, llama.cpp's notation).",
        autocompletion=files(".gbnf"),
        rich_help_panel=_OUTPUT,
    ),
]

DEPTH = None


def sampling(
    recommended: SamplingConfig,
    *,
    seed: int | None,
    temperature: float | None,
    top_k: int | None,
    top_p: float | None,
    **more: float | None,
) -> SamplingConfig:
    """The model's recommendation, with what the user wants otherwise; a random seed if none.

    Args:
        more: `min_p`, `repetition`, `presence`, `frequency`.
    """
    wanted = {"temperature": temperature, "top_p": top_p, **more}
    chosen: dict[str, Any] = {name: value for name, value in wanted.items() if value is not None}
    if top_k is not None:
        chosen["top_k"] = top_k
    return replace(recommended, seed=secrets.randbits(32) if seed is None else seed, **chosen)


def grammar_text(json_schema: Path | None, grammar: Path | None) -> str | None:
    """The grammar that an answer must keep to, in GBNF; None if nobody asks for one.

    Raises:
        InputError: the file cannot be read, or is no schema that can be kept to.
    """
    from mtpcli.errors import InputError

    if not json_schema and not grammar:
        return None
    # Before a model is loaded, which may take a while.
    from mtpcli.llama.gbnf import check

    if grammar:
        text = read_text(grammar)
        check(text)
        return text
    assert json_schema
    import json

    from mtpcli.schema import schema_grammar

    try:
        schema = json.loads(read_text(json_schema))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise InputError(f"{json_schema} is not JSON: {error.msg} at {place}") from None
    except RecursionError:
        raise InputError(f"{json_schema} is nested too deeply") from None
    try:
        text = schema_grammar(schema)
        check(text)
        return text
    except InputError as error:
        raise InputError(f"{json_schema}: {error}") from None


# Far more than any model's context holds: devices and the wrong files have no end.
_MAX_TEXT = 64 << 20


def decode_text(read: Callable[[int], bytes], name: str) -> str:
    """UTF-8 text without a byte order mark, its line ends as newlines.

    Args:
        read: gives all of it, or as many bytes as it is asked for.
        name: what it is, for people.

    Raises:
        InputError: it is no such text.
    """
    from mtpcli.errors import InputError

    raw = read(_MAX_TEXT + 1)
    if len(raw) > _MAX_TEXT:
        raise InputError(f"{name} is larger than {_MAX_TEXT >> 20} MiB, which no model can read")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{name} is not UTF-8 text") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_text(path: Path) -> str:
    """A text file's contents."""
    from mtpcli.errors import InputError

    try:
        with path.open("rb") as file:
            return decode_text(file.read, str(path))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def messages(system: str | None, user: str) -> list[Message]:
    """A conversation of one turn."""
    turn: list[Message] = [{"role": "user", "content": user}]
    return [{"role": "system", "content": system}, *turn] if system else turn


def row_counts(counts: Sequence[int]) -> str:
    """Numbers of rows in words, as `decodes of 2 to 16 rows`."""
    if len(counts) == 1:
        return "plain decoding"
    if list(counts) == list(range(counts[0], counts[-1] + 1)):
        return f"decodes of {counts[0]} to {counts[-1]} rows"
    return f"decodes of {', '.join(map(str, counts))} rows"


def check_exact(exact: bool, verification: Verification) -> None:
    """Rejected drafts are replaced by chance: such text depends on the draft by its nature."""
    if exact and verification is Verification.REJECTION:
        raise UsageError("--exact and --verify rejection exclude each other")


def progress() -> Callable[[str], None]:
    """Tells people on a terminal what takes long."""
    from mtpcli.cli.output import note

    return note if sys.stderr.isatty() else lambda text: None


def say_exact_rows(session: Session) -> None:
    """Tell people what --exact does here."""
    from mtpcli.cli.output import note

    if session.rows:
        note(f"--exact: {row_counts(session.rows.exact_rows())}")


def say_which_model(paths: PairPaths) -> None:
    """Tell people that they are talking to the toy, and how to use a real model."""
    from mtpcli.cli.output import note

    if paths.embedded:
        note(
            "using the embedded demo pair, a tiny Gemma 4 trained for tests. For a real one: "
            "`mtpcli pull e2b`, then `-m e2b`"
        )
