"""The speedups of a benchmark as a picture: bars by workload and mode, in SVG."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from mtpcli.errors import InputError
from mtpcli.files import replacing
from mtpcli.sanitize import visible

if TYPE_CHECKING:
    from mtpcli.bench import Result

_LEFT, _WIDTH, _BAR, _GAP, _TOP = 130, 560, 16, 14, 50
_COLOURS = ("#9aa0a6", "#1a73e8", "#a8c7fa", "#7cacf8", "#4c8df6", "#d2e3fc", "#aecbfa")


def write_plot(path: Path, heading: str, found: list[list[Result]]) -> None:
    """Draw each workload's modes as bars of their speedup over the first mode.

    The file appears complete or not at all.

    Raises:
        InputError: it cannot be written.
    """
    try:
        with replacing(path) as file:
            file.write(_svg(heading, found).encode())
    except OSError as error:
        raise InputError(f"cannot write {path}: {error.strerror}") from None


def _svg(heading: str, found: list[list[Result]]) -> str:
    longest = max(result.speedup(results[0]) for results in found for result in results)
    scale = (_WIDTH - 60) / max(longest, 1.0)
    body, top = [_text(_LEFT, 24, heading, "font-weight='bold'")], _TOP
    for results in found:
        body.append(_text(_LEFT - 70, top - 2, results[0].workload, "font-weight='bold'"))
        for number, result in enumerate(results):
            speedup = result.speedup(results[0])
            y = top + 4 + number * _BAR
            colour = _COLOURS[number % len(_COLOURS)]
            body.append(
                f"<rect x='{_LEFT}' y='{y}' width='{speedup * scale:.1f}' height='{_BAR - 3}'"
                f" fill='{colour}'/>"
            )
            body.append(_text(_LEFT - 8, y + 11, result.mode, "text-anchor='end'"))
            body.append(_text(_LEFT + speedup * scale + 6, y + 11, f"{speedup:.2f}x"))
        top += len(results) * _BAR + _GAP + 16
    one = _LEFT + scale
    body.append(
        f"<line x1='{one:.1f}' y1='{_TOP - 8}' x2='{one:.1f}' y2='{top - 20}' stroke='#5f6368'"
        " stroke-dasharray='3 3'/>"
    )
    return (
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_LEFT + _WIDTH}' height='{top}'"
        " font-family='sans-serif' font-size='12'>\n"
        f"<rect width='100%' height='100%' fill='white'/>\n{chr(10).join(body)}\n</svg>\n"
    )


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' {more}>{escape(visible(text))}</text>"
