"""What a model will do on this machine, told before it is downloaded."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from mtpcli.hub.store import models_folder
from mtpcli.machine import MachineMemory, machine_memory
from mtpcli.plan.blueprint import Subject, find_subject, make_blueprint, source_bytes
from mtpcli.plan.memory import DOES_NOT_FIT, FITS, memory_of
from mtpcli.plan.report import Disk, Report, Speed
from mtpcli.plan.speed import ACCEPTANCES, pays_from, plain_speed, rate_at

_USUAL_CONTEXT = 8192
# To suggest, the best first: what people use, of both the converter's types and the presets.
_SUGGESTED = ("bf16", "q8_0", "q6_k", "q5_k_m", "q4_k_m", "q4_0", "q3_k_m", "q2_k")

Progress = Callable[[str, float], None]


def plan(
    name: str,
    quant: str | None = None,
    *,
    n_ctx: int = 0,
    threads: int = 0,
    acceptances: Sequence[float] = ACCEPTANCES,
    measured: bool = True,
    progress: Progress | None = None,
) -> Report:
    """Tell whether a model fits, how fast it is, with and without MTP, and what to do.

    Args:
        name: member of the family, GGUF file, folder of a checkpoint, or repository.
        quant: the type to convert to; None is Q4_0, or that of a file.
        n_ctx: tokens of context; 0 is the model's own, at most 8192.
        acceptances: shares of right drafts to tell the speed at.
        measured: build and time samples of it; takes a minute, and some GB of disk meanwhile.
        progress: told what is under way, and which share of it is done.

    Raises:
        UsageError: there is no such model or quant, or the context is longer than the model's.
        ModelError: the file cannot be read.
        InputError: there is no room for the samples.
    """
    from mtpcli.errors import UsageError
    from mtpcli.llama.lib import default_threads

    subject = find_subject(name, quant)
    config = subject.target.config
    n_ctx = n_ctx or min(config.context, _USUAL_CONTEXT)
    if n_ctx > config.context:
        raise UsageError(f"--ctx {n_ctx} is more than the {config.context} tokens of {name}")
    memory, machine = memory_of(subject, n_ctx), machine_memory()
    verdict = memory.verdict(machine) if machine else FITS
    other = None
    if machine and verdict != FITS and subject.path is None:
        other = _fitting_quant(subject, n_ctx, machine)
    threads = threads or default_threads()
    speed = None
    if measured and verdict != DOES_NOT_FIT:
        speed = _speed(subject, threads, acceptances, progress)
    return Report(
        name=subject.name,
        quant=subject.quant,
        n_ctx=n_ctx,
        threads=threads,
        drafter=subject.drafter is not None,
        path=str(subject.path) if subject.path else None,
        layers=config.layers,
        parameters=_parameters(subject),
        memory=memory,
        machine=machine,
        disk=_disk(subject),
        other_quant=other,
        speed=speed,
        next_command=_next(subject, other),
    )


def _fitting_quant(subject: Subject, n_ctx: int, machine: MachineMemory) -> str | None:
    """The best type in which the model would fit."""
    for quant in _SUGGESTED:
        target = make_blueprint(subject.target.config, quant)
        other = Subject(subject.name, quant, target, subject.drafter)
        smaller = target.n_bytes < subject.target.n_bytes
        if smaller and memory_of(other, n_ctx).verdict(machine) == FITS:
            return quant.upper()
    return None


def _speed(
    subject: Subject, threads: int, acceptances: Sequence[float], progress: Progress | None
) -> Speed:
    from mtpcli.plan.measure import measure

    found = measure(subject, threads, progress)
    costs = found.costs
    return Speed(
        prompt=found.prompt_rows / found.prompt_seconds,
        plain=plain_speed(costs),
        rates=[rate_at(costs, share) for share in acceptances] if subject.drafter else [],
        pays_from=pays_from(costs) if subject.drafter else None,
        verify_ms={rows: 1e3 * seconds for rows, seconds in costs.verify.seconds.items()},
        draft_ms=1e3 * costs.draft.at(1),
        rest_ms=1e3 * costs.rest,
        parts_ms={part: 1e3 * seconds for part, seconds in found.parts.items()},
        layers=found.layers,
        sample_bytes=found.sample_bytes,
        seconds=found.seconds,
        spread=found.spread,
    )


def _parameters(subject: Subject) -> int:
    from convert.model import tensor_specs

    specs = tensor_specs(subject.target.config)
    return sum(math.prod(spec.shape) for spec in specs if spec.required)


def _disk(subject: Subject) -> Disk:
    if subject.path:
        folder = subject.path.parent
    else:
        folder = models_folder() if subject.checkpoint else Path.cwd()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    return Disk(
        files=subject.n_bytes,
        checkpoint=source_bytes(subject) if subject.checkpoint else 0,
        free=shutil.disk_usage(existing).free,
        folder=str(folder),
    )


def _next(subject: Subject, other: str | None) -> str:
    """What to run next."""
    if subject.path:
        return f"mtpcli bench -m {subject.path}"
    quant = other or subject.quant
    if subject.checkpoint:
        return f"mtpcli pull {subject.checkpoint} --quant {quant}"
    return f"mtpcli convert {subject.name} --outtype {quant.lower()} -o models"
