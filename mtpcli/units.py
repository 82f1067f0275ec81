"""Numbers as people write them."""

from __future__ import annotations

_BYTES = ("B", "kB", "MB", "GB", "TB")


def bytes_text(size: float) -> str:
    """`3.2 GB`: decimal units, as disks and downloads are sold."""
    for unit in _BYTES:
        if size < 1000 or unit == _BYTES[-1]:
            break
        size /= 1000
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def count_text(number: int) -> str:
    """`4.6 billion`; nothing for none."""
    for factor, name in ((1e9, "billion"), (1e6, "million")):
        if number >= factor:
            return f"{number / factor:.1f} {name}"
    return str(number) if number else ""
