"""Memory and handles over an hour, as a picture in SVG."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

_LEFT, _WIDTH, _HEIGHT, _TOP, _GAP = 70, 620, 120, 50, 46


def write_plot(
    path: Path, heading: str, minutes: Sequence[float], curves: dict[str, Sequence[float]]
) -> None:
    """Draw each curve in a frame of its own, from zero, so that flat looks flat."""
    body, top = [_text(_LEFT, 24, heading, "font-weight='bold'")], _TOP
    end = max(*minutes, 1e-9)
    for name, values in curves.items():
        highest = max(*values, 1e-9)
        scale = _HEIGHT / (1.15 * highest)
        points = " ".join(
            f"{_LEFT + _WIDTH * at / end:.1f},{top + _HEIGHT - value * scale:.1f}"
            for at, value in zip(minutes, values, strict=True)
        )
        body += [
            f"<rect x='{_LEFT}' y='{top}' width='{_WIDTH}' height='{_HEIGHT}' fill='none'"
            " stroke='#dadce0'/>",
            f"<polyline points='{points}' fill='none' stroke='#1a73e8' stroke-width='1.5'/>",
            _text(_LEFT, top - 6, name),
            _text(_LEFT - 6, top + _HEIGHT, "0", "text-anchor='end'"),
            _text(
                _LEFT - 6,
                top + _HEIGHT - highest * scale + 4,
                f"{highest:.0f}",
                "text-anchor='end'",
            ),
            _text(_LEFT + _WIDTH, top - 6, f"{values[-1]:.0f} at the end", "text-anchor='end'"),
        ]
        top += _HEIGHT + _GAP
    below = top - _GAP + 16
    body += [
        _text(_LEFT, below, "0"),
        _text(_LEFT + _WIDTH, below, f"{end:.0f} minutes", "text-anchor='end'"),
    ]
    path.write_text(
        f"<svg xmlns='http://www.w3.org/2000/svg' width='{_LEFT + _WIDTH + 30}'"
        f" height='{below + 16}' font-family='sans-serif' font-size='12'>\n"
        f"<rect width='100%' height='100%' fill='white'/>\n{chr(10).join(body)}\n</svg>\n",
        encoding="utf-8",
    )


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' {more}>{text}</text>"
