"""How a batch shows its progress and sums up."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from mtpcli.cli.output import speculation

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from mtpcli.batch.run import Survey, Totals
    from mtpcli.decode.health import DrafterHealth

_REFRESH_SECONDS = 0.1


class BatchProgress:
    """A bar with rows, speed, acceptance and the time that is left; nothing if not shown."""

    def __init__(self, totals: Totals, *, shown: bool) -> None:
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._drawn = 0.0
        if shown:
            self._bar = _bar("{task.fields[speed]}", "{task.fields[accepted]}")
            self._task = self._bar.add_task(
                "", total=totals.rows, completed=totals.before, speed="", accepted=""
            )

    def __enter__(self) -> BatchProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_exc: Any) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, totals: Totals) -> None:
        """Show the figures, unless they were shown just now."""
        now = monotonic()
        if self._bar is None or self._task is None or now - self._drawn < _REFRESH_SECONDS:
            return
        self._drawn = now
        share = totals.stats.acceptance
        self._bar.update(
            self._task,
            completed=totals.before + totals.done + totals.failed,
            speed=f"{totals.tokens_per_second:.1f} tokens/s",
            accepted="" if share is None else f"{share:.0%} accepted",
        )


class SurveyProgress:
    """A count of rows and tokens; nothing if not shown."""

    def __init__(self, *, shown: bool) -> None:
        self._bar = _bar("{task.fields[tokens]}") if shown else None
        self._task = self._bar.add_task("", total=None, tokens="") if self._bar else None

    def __enter__(self) -> SurveyProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_exc: Any) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, found: Survey) -> None:
        """Show the figures."""
        if self._bar and self._task is not None:
            tokens = f"{found.prompt_tokens} tokens"
            self._bar.update(self._task, completed=found.rows, tokens=tokens)


def _bar(*columns: str) -> Progress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("rows"),
        *(TextColumn(column, markup=False) for column in columns),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
    )


def summary(
    totals: Totals, failed: int, drafter: str | None, health: DrafterHealth
) -> dict[str, Any]:
    """The figures of `--json-summary`; tokens and times are those of this run.

    Args:
        failed: rows without an answer, those of earlier runs included.
    """
    return {
        "rows": totals.rows,
        "finished": totals.before + totals.done + totals.failed,
        "answered": totals.before + totals.done + totals.failed - failed,
        "failed": failed,
        "finished_before": totals.before,
        "prompt_tokens": totals.prompt_tokens,
        "reused_prompt_tokens": totals.reused_tokens,
        "completion_tokens": totals.completion_tokens,
        "seconds": round(totals.seconds, 3),
        "tokens_per_second": round(totals.tokens_per_second, 3),
        "speculation": speculation(totals.stats, drafter, health.failure),
        "warnings": health.notices,
    }


def summary_line(totals: Totals, failed: int, drafter: str | None) -> str:
    """The same for people."""
    finished = totals.before + totals.done + totals.failed
    parts = [f"{finished} rows: {finished - failed} answered, {failed} failed"]
    if totals.before:
        parts.append(f"{totals.before} of them before")
    parts.append(f"{totals.completion_tokens} tokens in {_duration(totals.seconds)}")
    parts.append(f"{totals.tokens_per_second:.1f} tokens/s")
    stats = totals.stats
    if drafter is None:
        parts.append("plain decoding")
    elif stats.acceptance is not None:
        parts.append(f"{drafter}: {stats.acceptance:.0%} of drafted tokens accepted")
        parts.append(f"{stats.tokens_per_round:.2f} tokens per round")
    return " · ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"
