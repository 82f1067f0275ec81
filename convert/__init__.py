"""Gemma 4 checkpoints from Hugging Face, and their MTP drafters, as GGUF files: without torch.

Both files are what llama.cpp loads, with tensors that are byte for byte those of its own
converter. A drafter's ordered head, which that one drops, travels along as metadata.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from convert.card import file_stem
from convert.errors import ConvertError
from convert.plan import Plan, plan_file
from convert.quantize import OUTTYPES as _OUTTYPES
from convert.rewrite import plan_rewrite
from convert.writer import Keys, OutTensor, staged_all, write

__all__ = ["OUTTYPES", "ConvertError", "convert_model", "convert_pair", "rewrite_drafter"]

OUTTYPES = ("auto", *_OUTTYPES)
"""Names of the output types; `auto` keeps the checkpoint's own."""

Progress = Callable[[int, int], None]


def convert_model(
    snapshot: Path,
    output: Path,
    outtype: str = "auto",
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Convert a target's or a drafter's snapshot to the GGUF file `output`.

    The file appears complete or not at all; with `force` it replaces one that exists.

    Args:
        outtype: one of `OUTTYPES`.
        progress: called with bytes written and bytes in all, as the tensors are written.

    Returns:
        `output`.

    Raises:
        ConvertError: the snapshot cannot be converted, or the output cannot be written.
    """
    plan = plan_file(snapshot, outtype)
    _write_all([(plan.keys, plan.tensors, output)], force, progress)
    return output


def convert_pair(
    target: Path,
    drafter: Path | None,
    out_dir: Path,
    outtype: str = "auto",
    drafter_outtype: str = "q8_0",
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """Convert a target and, if given, its drafter into `out_dir`.

    Files are named as people name them: `gemma-4-E2B-it-Q4_0.gguf` and
    `mtp-gemma-4-E2B-it-Q8_0.gguf`. Both appear or neither.

    Returns:
        The paths written: the target's, then the drafter's.

    Raises:
        ConvertError: as for `convert_model`; or the two do not belong together.
    """
    first = plan_file(target, outtype)
    if first.config.is_drafter:
        raise ConvertError(f"{target}: is a drafter; name its target, and this one as --drafter")
    stem = file_stem(target)
    jobs = [(first.keys, first.tensors, out_dir / f"{stem}-{first.outtype.upper()}.gguf")]
    if drafter is not None:
        second = plan_file(drafter, drafter_outtype)
        _check_fit(first, second)
        output = out_dir / f"mtp-{stem}-{second.outtype.upper()}.gguf"
        jobs.append((second.keys, second.tensors, output))
    _write_all(jobs, force, progress)
    return [output for _, _, output in jobs]


def rewrite_drafter(
    old: Path, out_dir: Path, *, force: bool = False, progress: Progress | None = None
) -> Path:
    """Rewrite a drafter file of the old architecture `gemma4_assistant` to what llama.cpp loads.

    Tensors keep their types; an ordered head becomes metadata, as in files of our own.

    Returns:
        The path written: the old name in `out_dir`, starting with `mtp-`.

    Raises:
        ConvertError: not such a file, or the output cannot be written.
    """
    keys, tensors = plan_rewrite(old)
    output = out_dir / f"mtp-{old.stem.removeprefix('mtp-')}.gguf"
    _write_all([(keys, tensors, output)], force, progress)
    return output


def _check_fit(target: Plan, drafter: Plan) -> None:
    """Refuse two files that cannot run together, and say why."""
    ours, its = target.config, drafter.config
    if not its.is_drafter:
        raise ConvertError(f"{its.path}: is not a drafter but a {its.architecture}")
    if target.fingerprint == drafter.fingerprint:
        return
    reasons = (
        ("target's hidden size", its.backbone_hidden, ours.hidden),
        ("sliding key-value heads and dimension", its.cell(True), ours.cell(True)),
        ("full key-value heads and dimension", its.cell(False), ours.cell(False)),
        ("vocabulary size", its.vocab, ours.vocab),
    )
    for what, wanted, found in reasons:
        if wanted != found:
            raise ConvertError(f"{its.path}: drafter made for {what} {wanted}, target has {found}")
    raise ConvertError(f"{its.path.parent}: the drafter's tokens are not those of the target")


def _write_all(
    jobs: list[tuple[Keys, list[OutTensor], Path]], force: bool, progress: Progress | None
) -> None:
    """Write all files, or none of them."""
    total = sum(tensor.nbytes for _, tensors, _ in jobs for tensor in tensors)
    done = 0

    def advance(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        if progress is not None:
            progress(done, total)

    with staged_all([output for _, _, output in jobs], force) as parts:
        for (keys, tensors, _), part in zip(jobs, parts, strict=True):
            write(part, keys, tensors, advance)
