"""Snapshots to GGUF files in any type: the converter's own, or one of llama.cpp's presets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mtpcli.errors import UsageError
from mtpcli.llama.quantize import PRESETS, quantize

Progress = Callable[[int, int], None]


def known_type(option: str, name: str) -> str:
    """The type that a name means.

    Args:
        option: where it was given.

    Raises:
        UsageError: there is none; with a list.
    """
    from convert import OUTTYPES

    known = (*OUTTYPES, *PRESETS)
    if name.lower() not in known:
        raise UsageError(f"{option} {name}: is not one of {', '.join(known)}")
    return name.lower()


def convert_pair(
    target: Path,
    drafter: Path | None,
    out_dir: Path,
    outtype: str,
    drafter_outtype: str,
    *,
    force: bool = False,
    progress: Progress | None = None,
) -> list[Path]:
    """`convert.convert_pair` that also knows `PRESETS`.

    A preset is made of a file in the checkpoint's own type, which is written first, beside the
    output, and taken away. `progress` then runs through several laps, one per file.

    Raises:
        ConvertError, ModelError: as the converter and the quantiser have it.
    """
    import convert
    from convert.card import file_stem
    from convert.writer import check_free, put_in_place, workspace

    if not {outtype, drafter_outtype} & PRESETS.keys():
        return convert.convert_pair(
            target, drafter, out_dir, outtype, drafter_outtype, force=force, progress=progress
        )
    wanted = [outtype, drafter_outtype] if drafter else [outtype]
    plain = ["auto" if kind in PRESETS else kind for kind in (outtype, drafter_outtype)]
    names = [
        f"{prefix}{file_stem(target)}-{kind.upper()}.gguf" if kind in PRESETS else None
        for prefix, kind in zip(("", "mtp-"), wanted, strict=False)
    ]
    for name in filter(None, names):
        check_free(out_dir / name, force)
    with workspace(out_dir) as folder:
        sources = convert.convert_pair(target, drafter, folder, *plain, progress=progress)
        outputs = [
            out_dir / (name or source.name) for name, source in zip(names, sources, strict=True)
        ]
        for source, output, kind in zip(sources, outputs, wanted, strict=True):
            check_free(output, force)
            if kind in PRESETS:
                result = source.with_suffix(".quantised")
                quantize(source, result, kind, progress)
                result.replace(source)
        put_in_place(list(zip(sources, outputs, strict=True)), force)
    return outputs
