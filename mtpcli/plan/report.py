"""What a plan says: numbers, and what they mean in words."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from mtpcli.machine import MachineMemory
from mtpcli.plan.memory import DOES_NOT_FIT, FITS, SWAPS, Memory
from mtpcli.plan.speed import Rate
from mtpcli.units import bytes_text

_FAST, _READING, _SLOW = 20.0, 7.0, 2.0  # tokens per second
_BUSY = 0.15
_MUCH = 1.15  # times plain decoding


@dataclass(frozen=True)
class Disk:
    """Bytes.

    Attributes:
        files: of the GGUF files.
        checkpoint: of the snapshots that they are made of; 0 if the files are here.
        free: on the disk of `folder`.
    """

    files: int
    checkpoint: int
    free: int
    folder: str

    @property
    def fits(self) -> bool:
        """Whether there is room for what is still to come."""
        return not self.checkpoint or self.files + self.checkpoint <= self.free


@dataclass(frozen=True)
class Speed:
    """An estimate from measured layers.

    Attributes:
        prompt, plain: tokens per second.
        rates: with the drafter, by acceptance; empty without one.
        pays_from: the lowest acceptance at which it helps, None if it never does.
        verify_ms, draft_ms, rest_ms: what a round consists of.
        parts_ms: a decode of one row by part.
        layers: how many were measured.
        sample_bytes, seconds: what measuring took.
        spread: by how much times of the same decode differed, typically.
    """

    prompt: float
    plain: float
    rates: list[Rate]
    pays_from: float | None
    verify_ms: dict[int, float]
    draft_ms: float
    rest_ms: float
    parts_ms: dict[str, float]
    layers: int
    sample_bytes: int
    seconds: float
    spread: float = 0.0


@dataclass(frozen=True)
class Report:
    """A plan.

    Attributes:
        name, quant, n_ctx, threads: what was planned.
        drafter: whether it has one that is known.
        path: the file, if it is here.
        memory, machine: what it takes and what there is; `machine` is None where it is not told.
        disk: the same.
        other_quant: the best type that fits, where this one does not.
        speed: None if it was not measured.
        next_command: what to run next.
    """

    name: str
    quant: str
    n_ctx: int
    threads: int
    drafter: bool
    path: str | None
    layers: int
    parameters: int
    memory: Memory
    machine: MachineMemory | None
    disk: Disk
    other_quant: str | None
    speed: Speed | None
    next_command: str

    @property
    def verdict(self) -> str:
        """Whether the memory is enough, as far as is known."""
        return self.memory.verdict(self.machine) if self.machine else FITS

    @property
    def advice(self) -> list[str]:
        """What it means, in sentences."""
        return [*_about_memory(self), *_about_disk(self), *_about_speed(self)]

    def as_json(self) -> dict[str, Any]:
        """The whole as plain values; bytes, milliseconds, tokens per second."""
        return {
            "model": self.name,
            "quant": self.quant,
            "file": self.path,
            "ctx": self.n_ctx,
            "threads": self.threads,
            "layers": self.layers,
            "parameters": self.parameters,
            "drafter": self.drafter,
            "memory": {
                **asdict(self.memory),
                "total": self.memory.total,
                "machine": asdict(self.machine) if self.machine else None,
                "verdict": self.verdict,
            },
            "disk": {**asdict(self.disk), "fits": self.disk.fits},
            "other_quant": self.other_quant,
            "speed": _speed_json(self.speed) if self.speed else None,
            "advice": self.advice,
            "next": self.next_command,
        }


def _speed_json(speed: Speed) -> dict[str, Any]:
    def rounded(values: dict[Any, float]) -> dict[str, float]:
        return {str(key): round(value, 3) for key, value in sorted(values.items())}

    return {
        "prompt_tokens_per_second": round(speed.prompt, 2),
        "plain_tokens_per_second": round(speed.plain, 2),
        "mtp": [
            {
                "acceptance": rate.acceptance,
                "depth": rate.depth,
                "tokens_per_second": round(rate.tokens_per_second, 2),
                "speedup": round(rate.speedup, 3),
            }
            for rate in speed.rates
        ],
        "mtp_pays_from": speed.pays_from,
        "verify_ms": rounded(speed.verify_ms),
        "draft_ms": round(speed.draft_ms, 3),
        "rest_ms": round(speed.rest_ms, 3),
        "parts_ms": rounded(speed.parts_ms),
        "measured_layers": speed.layers,
        "sample_bytes": speed.sample_bytes,
        "seconds": round(speed.seconds, 1),
        "spread": round(speed.spread, 3),
    }


def _about_memory(report: Report) -> list[str]:
    needs, machine = bytes_text(report.memory.total), report.machine
    if machine is None:
        return [f"It takes {needs} of memory; this machine does not tell how much it has."]
    free = f"{bytes_text(machine.available)} of {bytes_text(machine.total)} are free"
    if report.verdict == FITS:
        return [f"It fits: it takes {needs} of memory, {free}."]
    other = (
        f"{report.other_quant} would fit."
        if report.other_quant
        else "No other type fits either: take a smaller model."
    )
    if report.verdict == SWAPS:
        return [
            f"It swaps: it takes {needs} of memory, {free}. Close other programs, or expect it "
            f"to wait for the disk. {other}"
        ]
    return [f"It does not fit: it takes {needs} of memory, {free}. {other}"]


def _about_disk(report: Report) -> list[str]:
    disk = report.disk
    if disk.fits:
        return []
    return [
        f"The disk is too small: the checkpoints take {bytes_text(disk.checkpoint)}, the files "
        f"made of them {bytes_text(disk.files)}, {bytes_text(disk.free)} are free in {disk.folder}."
    ]


def _about_speed(report: Report) -> list[str]:
    speed = report.speed
    if speed is None:
        if report.verdict == DOES_NOT_FIT:
            return ["Its speed was not measured: from the disk it would be useless."]
        return []
    plain = f"{speed.plain:.1f} tokens/s without a drafter"
    if speed.plain >= _FAST:
        said = f"It is fast: {plain}."
    elif speed.plain >= _READING:
        said = f"It writes about as fast as one reads: {plain}."
    elif speed.plain >= _SLOW:
        said = f"It is slow: {plain}; use it for answers that can wait."
    else:
        said = f"It is too slow to talk to: {plain}; use it for batches that run overnight."
    return [said, *_about_drafting(speed), *_about_noise(speed)]


def _about_noise(speed: Speed) -> list[str]:
    if speed.spread < _BUSY:
        return []
    return [
        "The machine was busy meanwhile: times of the same decode differed by "
        f"{speed.spread:.0%}. Plan again when it is idle."
    ]


def _about_drafting(speed: Speed) -> list[str]:
    if not speed.rates:
        return ["No drafter is known for it."]
    if speed.pays_from is None:
        return ["Drafting (MTP) never pays here: a verify of several rows costs too much."]
    best = max(speed.rates, key=lambda rate: rate.speedup)
    gain = (
        f"{best.speedup:.2f}x at {best.acceptance:.0%} acceptance, with {best.depth} tokens a draft"
    )
    start = f"from {speed.pays_from:.0%} accepted drafts on"
    if speed.pays_from >= max(rate.acceptance for rate in speed.rates):
        return [f"Plain decoding is the better choice: drafting (MTP) pays only {start}."]
    if best.speedup < _MUCH:
        return [f"Drafting (MTP) helps little: it pays {start}, and gives {gain}."]
    return [
        f"Drafting (MTP) pays {start}, and gives {gain}. The automatic depth finds this by itself."
    ]
