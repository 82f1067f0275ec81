"""What a run was asked for, and what of it the records depend on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtpcli import __version__
from mtpcli.config import SAMPLING_RANGES
from mtpcli.errors import ModelError

if TYPE_CHECKING:
    from mtpcli.batch.shapes import Kind
    from mtpcli.config import DraftConfig, RuntimeConfig
    from mtpcli.session import PairPaths

_SAMPLES = 64
_SAMPLE_BYTES = 1 << 16


@dataclass(frozen=True)
class BatchOptions:
    """The options of a batch, as they were given; None is the default.

    Attributes:
        inputs: file, `-`, folder, pattern, or several files of text.
        output: file or folder; None is standard output.
        format: of the input.
        template: makes a prompt of a row's fields.
        as_finished: do not keep the input's order.
        restart: begin anew, whatever is there.
        fail_fast: stop at the first row that fails.
        dry_run: generate nothing.
        quiet: say nothing but errors.
        json_summary: where to write the figures.
        system: system message of conversations that have none.
        thinking: let the model think.
        raw: no chat template.
        max_tokens, stop, temperature, top_k: for rows that do not say otherwise.
        sampling: the other settings of sampling, by the names of `SamplingConfig`'s fields.
        grammar: what answers keep to, in GBNF.
        seed: the rows' seeds are made of it.
        parallel: rows at once, of each worker.
        ray: the cluster that generates; None is this process.
        workers: how many on the cluster; None is one per machine.
    """

    inputs: list[str]
    output: str | None
    format: Kind | None
    template: str | None
    as_finished: bool
    restart: bool
    fail_fast: bool
    dry_run: bool
    quiet: bool
    json_summary: Path | None
    system: str | None
    thinking: bool
    raw: bool
    max_tokens: int | None
    stop: tuple[str, ...]
    grammar: str | None
    temperature: float | None
    top_k: int | None
    sampling: dict[str, float | None]
    seed: int
    parallel: int
    ray: str | None = None
    workers: int | None = None


def settings(
    given: BatchOptions,
    kind: Kind,
    digest: str | None,
    paths: PairPaths,
    draft: DraftConfig,
    runtime: RuntimeConfig,
) -> dict[str, Any]:
    """Everything that the records depend on, in words that a person understands.

    Args:
        digest: of the input.

    Raises:
        ModelError: a model's file cannot be read.
    """
    drafter = paths.drafter if draft.depth != 0 else None
    return {
        "the input": digest,
        "the model": f"{paths.target.name} {file_digest(paths.target)}",
        "the drafter": file_digest(drafter) if drafter else None,
        "mtpcli": __version__,
        "--format": kind,
        "--template": given.template,
        "--system": given.system,
        "--thinking": given.thinking,
        "--raw": given.raw,
        "--max-tokens": given.max_tokens,
        "--stop": list(given.stop),
        "the grammar": given.grammar and hashlib.blake2b(given.grammar.encode()).hexdigest()[:16],
        "--temperature": given.temperature,
        "--top-k": given.top_k,
        **{f"--{SAMPLING_RANGES[name][0]}": value for name, value in given.sampling.items()},
        "--seed": given.seed,
        "--ctx": runtime.n_ctx,
        # With some quantisations a row's last bits depend on how many are decoded together.
        "--parallel": given.parallel,
        "--device": list(runtime.devices),
        "--rpc": len(runtime.rpc),
        "--gpu-layers": runtime.gpu_layers,
        "--cpu-moe": runtime.cpu_moe,
        "--kv-type": runtime.kv_type,
        "--flash-attn": runtime.flash_attn,
        "--draft-depth": draft.depth,
        "--exact": draft.exact,
        "--as-finished": given.as_finished,
    }


def file_digest(path: Path) -> str:
    """A digest of a large file's size and of samples from all over it: milliseconds, not minutes.

    Another fine-tune or quantisation changes nearly every byte, and so every sample.

    Raises:
        ModelError: it cannot be read.
    """
    digest = hashlib.blake2b(digest_size=8)
    try:
        with path.open("rb") as stream:
            size = stream.seek(0, 2)
            digest.update(str(size).encode())
            step = max(1, (size - _SAMPLE_BYTES) // (_SAMPLES - 1))
            for start in range(0, size, max(step, _SAMPLE_BYTES)):
                stream.seek(start)
                digest.update(stream.read(_SAMPLE_BYTES))
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}") from None
    return digest.hexdigest()
