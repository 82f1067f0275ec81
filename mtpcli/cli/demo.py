"""`mtpcli demo`: the same prompts with and without the drafter, in turn, and what it brings."""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mtpcli.cli import options

if TYPE_CHECKING:
    from mtpcli.decode.metrics import SpeculationStats
    from mtpcli.session import Session

PROMPTS = {
    "story": ("Write a short story about a curious fox named Mia who finds a lantern.", 1.0),
    "json": ("Extract the data as JSON: Oscar, a pilot from Lisbon, is 41 years old.", 0.0),
    "echo": (
        "Repeat this text: The quiet baker opened the green box near the old harbor. "
        "On Friday Nora carried seven lemons to the market.",
        0.0,
    ),
}


@dataclass
class Comparison:
    """One prompt, plain and drafted in turn.

    Attributes:
        text: the plain text.
        equal: whether all runs gave the same tokens.
        plain, drafted: tokens per second of each run.
        stats: drafts of the last drafted run.
    """

    name: str
    prompt: str
    temperature: float
    text: str = ""
    equal: bool = True
    tokens: int = 0
    plain: list[float] = field(default_factory=list)
    drafted: list[float] = field(default_factory=list)
    stats: SpeculationStats | None = None

    @property
    def speedup(self) -> float:
        """Median of the ratios of neighbouring runs."""
        return statistics.median(b / a for a, b in zip(self.plain, self.drafted, strict=True))


def demo(
    runs: Annotated[int, typer.Option(min=1, help="Runs of each prompt and mode.")] = 5,
    seed: Annotated[int, typer.Option(min=0, max=2**64 - 1, help="Seed of sampled text.")] = 7,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    model: options.Model = None,
    threads: options.Threads = 0,
    drafter: options.Drafter = None,
    draft_depth: options.DraftDepth = options.DEPTH,
) -> None:
    """Three prompts with and without the drafter: the same text, faster.

    Plain and drafted runs take turns, so that a busy machine slows both.
    """
    from contextlib import ExitStack

    from mtpcli.cli import output
    from mtpcli.config import DraftConfig, RuntimeConfig
    from mtpcli.errors import ModelError, UsageError
    from mtpcli.session import Session, choose_pair

    if draft_depth == 0:
        raise UsageError("--draft-depth 0 leaves nothing to compare: take 1 to 15")
    paths = choose_pair(model, drafter, draft=True)
    options.say_which_model(paths)
    if not paths.drafter:
        raise ModelError(f"no drafter that fits lies beside {paths.target}: name one by --drafter")
    runtime = RuntimeConfig(n_ctx=1024, threads=threads)
    with ExitStack() as stack:
        plain = stack.enter_context(Session(paths, DraftConfig(0), runtime))
        drafted = stack.enter_context(Session(paths, DraftConfig(draft_depth), runtime))
        comparisons = [
            _compare(plain, drafted, Comparison(name, *prompt), runs, seed)
            for name, prompt in PROMPTS.items()
        ]
    if as_json:
        output.print_json(
            {
                "model": str(paths.target),
                "drafter": str(paths.drafter),
                "draft_depth": "auto" if draft_depth is None else draft_depth,
                "prompts": [_as_dict(comparison) for comparison in comparisons],
            }
        )
    else:
        _show(comparisons, "auto" if draft_depth is None else str(draft_depth))
    if not all(comparison.equal for comparison in comparisons):
        output.note(
            "texts differ: on this file and machine, batches do not give the bits of single rows"
        )
        raise typer.Exit(1)


def _compare(
    plain: Session, drafted: Session, comparison: Comparison, runs: int, seed: int
) -> Comparison:
    from dataclasses import replace

    from mtpcli.cli import output

    sampling = replace(plain.sampling, temperature=comparison.temperature, seed=seed)
    first: list[int] = []
    for run in range(runs + 1):  # the first one warms up and is not counted
        for session, speeds in ((plain, comparison.plain), (drafted, comparison.drafted)):
            tokens, text, speed, stats = _run(session, comparison.prompt, sampling)
            if not first:
                first, comparison.text = tokens, text
            comparison.equal &= tokens == first
            if run:
                speeds.append(speed)
        comparison.stats = stats
    comparison.tokens = len(first)
    if sys.stderr.isatty():
        output.note(f"{comparison.name}: {runs} runs of each mode")
    return comparison


def _run(
    session: Session, prompt: str, sampling: Any
) -> tuple[list[int], str, float, SpeculationStats]:
    """Tokens, text, tokens per second and drafts of one generation."""
    from mtpcli.cli import output
    from mtpcli.decode.metrics import Timings

    tokens = session.chat_tokens(options.messages(None, prompt))
    request, stream = session.request(tokens, sampling, max_tokens=256)
    session.engine.timings = Timings()
    (sequence,) = session.engine.generate([request])
    speed = output.tokens_per_second(len(sequence.tokens), session.engine.timings) or 0.0
    return sequence.tokens, stream.answer, speed, sequence.stats


def _as_dict(comparison: Comparison) -> dict[str, Any]:
    assert comparison.stats
    return {
        "name": comparison.name,
        "prompt": comparison.prompt,
        "temperature": comparison.temperature,
        "text": comparison.text,
        "equal": comparison.equal,
        "tokens": comparison.tokens,
        "plain_tokens_per_second": round(statistics.median(comparison.plain), 1),
        "drafted_tokens_per_second": round(statistics.median(comparison.drafted), 1),
        "speedup": round(comparison.speedup, 3),
        "acceptance_by_position": [
            round(share, 4) for share in comparison.stats.acceptance_by_position
        ],
        "tokens_per_round": round(comparison.stats.tokens_per_round or 0, 3),
    }


def _show(comparisons: list[Comparison], depth: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from mtpcli.sanitize import visible

    console = Console(highlight=False)
    for comparison in comparisons:
        console.print(Text(f"> {comparison.prompt}", style="bold"))
        console.print(Text(visible(comparison.text)))
        console.print()
    table = Table(box=box.SIMPLE_HEAD, title=f"with and without the drafter, depth {depth}")
    table.add_column("prompt")
    for heading in (
        "temp.",
        "tokens",
        "plain t/s",
        "drafted t/s",
        "speedup",
        "accepted by position",
    ):
        table.add_column(heading, justify="right")
    table.add_column("text")
    for comparison in comparisons:
        row = _as_dict(comparison)
        table.add_row(
            comparison.name,
            f"{comparison.temperature:g}",
            str(comparison.tokens),
            f"{row['plain_tokens_per_second']:.0f}",
            f"{row['drafted_tokens_per_second']:.0f}",
            f"{comparison.speedup:.2f}x",
            " ".join(f"{share:.2f}" for share in row["acceptance_by_position"]),
            "equal" if comparison.equal else "DIFFERS",
        )
    console.print(table)
