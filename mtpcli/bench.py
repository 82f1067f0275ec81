"""The same prompts at several depths, in turn: speeds, acceptance, and whether texts are equal.

A machine's speed drifts, so a prompt is run in all modes before the next one, and figures are
ratios of runs that stand side by side.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from mtpcli.config import MAX_DRAFT_DEPTH, SamplingConfig
from mtpcli.decode.depth import AutoDepth, DepthPolicy, FixedDepth
from mtpcli.decode.metrics import SpeculationStats, Timings
from mtpcli.decode.round_costs import Costs
from mtpcli.errors import InputError
from mtpcli.session import Session

PLAIN = "plain"
AUTO = "auto"


Prompt = str | tuple[int, ...]
"""What a user says, or token ids as they are."""


@dataclass(frozen=True)
class Workload:
    """Prompts of a kind; a temperature that is theirs, or None for the run's."""

    name: str
    prompts: Sequence[Prompt]
    temperature: float | None = None


@dataclass
class Result:
    """One workload in one mode.

    Attributes:
        speeds: tokens per second of decoding, by run, over all prompts.
        stats: drafts of all runs.
        timings: seconds by phase of all runs.
        texts: the answers of all runs.
        tokens: how many tokens they have together.
        equal: all tokens of all runs are those of the workload's first mode.
    """

    workload: str
    mode: str
    speeds: list[float] = field(default_factory=list)
    stats: SpeculationStats = field(default_factory=SpeculationStats)
    timings: Timings = field(default_factory=Timings)
    texts: list[str] = field(default_factory=list)
    tokens: int = 0
    equal: bool = True

    @property
    def speed(self) -> float:
        """Median tokens per second."""
        return statistics.median(self.speeds)

    def speedup(self, other: Result) -> float:
        """Median of the ratios to another mode, run by run."""
        return statistics.median(
            mine / theirs for mine, theirs in zip(self.speeds, other.speeds, strict=True)
        )


def run(
    session: Session,
    workloads: Sequence[Workload],
    modes: Sequence[str],
    sampling: SamplingConfig,
    *,
    runs: int,
    max_tokens: int,
    progress: Callable[[str], None] = lambda message: None,
) -> list[list[Result]]:
    """Measure each workload in each mode, one run of warming up before those that count.

    Args:
        modes: `plain`, `auto` or a depth; texts are compared with those of the first.
        progress: told what is under way.

    Returns:
        A list per workload, of a result per mode.
    """
    own = session.engine.policy
    try:
        found = []
        for workload in workloads:
            policies = {mode: _policy(mode, own) for mode in modes}
            settings = sampling
            if workload.temperature is not None:
                settings = replace(sampling, temperature=workload.temperature)
            generate = partial(_generate, session, settings, max_tokens)
            found.append(_run_workload(workload, policies, generate, session, runs, progress))
        return found
    finally:
        session.engine.policy = own


def _run_workload(
    workload: Workload,
    policies: Mapping[str, DepthPolicy],
    generate: Callable[[Prompt, Result], tuple[list[int], float]],
    session: Session,
    runs: int,
    progress: Callable[[str], None],
) -> list[Result]:
    modes = list(policies)
    results = {mode: Result(workload.name, mode) for mode in modes}
    expected: dict[Prompt, list[int]] = {}
    for number in range(runs + 1):
        progress(f"{workload.name}, run {number} of {runs}")
        spent = {mode: [0, 0.0] for mode in modes}
        for place, prompt in enumerate(workload.prompts):
            for mode in in_turn(modes, number + place):
                session.engine.policy = policies[mode]
                counted = results[mode] if number else Result(workload.name, mode)
                tokens, seconds = generate(prompt, counted)
                counted.equal &= tokens == expected.setdefault(prompt, tokens)
                results[mode].equal &= counted.equal
                spent[mode][0] += len(tokens) - 1
                spent[mode][1] += seconds
        if number:
            for mode, (count, seconds) in spent.items():
                results[mode].speeds.append(count / seconds if seconds else 0.0)
    return list(results.values())


def in_turn(names: Sequence[str], turn: int) -> list[str]:
    """The names in an order that changes from turn to turn.

    Each comes first as often, for the first one finds the caches cold, and now behind its left
    neighbour, now behind its right one, for those leave them in different states.
    """
    step = -1 if turn % 2 else 1
    return [names[(turn + step * place) % len(names)] for place in range(len(names))]


def _policy(mode: str, own: DepthPolicy) -> DepthPolicy:
    if mode == PLAIN:
        return FixedDepth(0)
    if mode != AUTO:
        return FixedDepth(int(mode))
    # What is known of this machine and this pair is known; what this text accepts is not.
    known = own.costs if isinstance(own, AutoDepth) else Costs()
    return AutoDepth(replace(known, usual=deepcopy(known.usual)))


def _generate(
    session: Session, sampling: SamplingConfig, max_tokens: int, prompt: Prompt, result: Result
) -> tuple[list[int], float]:
    """Tokens of an answer, and the seconds of its rounds."""
    tokens = prompt_tokens(session, prompt)
    request, stream = session.request(tokens, sampling, max_tokens=max_tokens)
    session.engine.timings = Timings()
    (sequence,) = session.engine.generate([request])
    spent = session.engine.timings
    result.stats.merge(sequence.stats)
    result.timings.merge(spent)
    result.texts.append(stream.answer)
    result.tokens += len(sequence.tokens)
    return sequence.tokens, spent.decode


_MAX_PROMPTS = 8 << 20


def prompt_tokens(session: Session, prompt: Prompt) -> list[int]:
    """Token ids that the target is given."""
    if isinstance(prompt, str):
        return session.chat_tokens([{"role": "user", "content": prompt}])
    return list(prompt)


def load_prompts(path: Path) -> list[Workload]:
    """Workloads of a file: JSON with lists of prompts by name, or text with a prompt per line.

    Raises:
        InputError: the file cannot be read or holds no prompts.
    """
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAX_PROMPTS + 1)
    except UnicodeDecodeError:
        raise InputError(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if len(text) > _MAX_PROMPTS:
        raise InputError(f"{path} is too large for a list of prompts: give it as parts")
    if path.suffix != ".json":
        prompts = [line.strip() for line in text.splitlines() if line.strip()]
        workloads = [Workload(path.stem, prompts)]
    else:
        workloads = _from_json(path, text)
    if not workloads or not all(workload.prompts for workload in workloads):
        raise InputError(f"{path} holds no prompts")
    return workloads


def _from_json(path: Path, text: str) -> list[Workload]:
    form = 'must be {"name": ["prompt", ...], ...}, or {"prompt": "..."} in place of a prompt'
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from None
    if not isinstance(data, Mapping):
        raise InputError(f"{path} {form}")
    workloads = []
    for name, items in data.items():
        prompts: list[str] = []
        for item in items if isinstance(items, list) else [None]:
            prompt = item.get("prompt") if isinstance(item, Mapping) else item
            if not isinstance(prompt, str) or not prompt.strip():
                raise InputError(f"{path} {form}")
            prompts.append(prompt)
        workloads.append(Workload(name, prompts))
    return workloads


def depth_counts(stats: SpeculationStats) -> dict[int, int]:
    """How many rounds drafted 0, 1, ... tokens."""
    at_least = [stats.rounds, *stats.drafted_at, 0]
    counts = {depth: at_least[depth] - at_least[depth + 1] for depth in range(len(at_least) - 1)}
    return {depth: count for depth, count in counts.items() if count and depth <= MAX_DRAFT_DEPTH}
