"""Text from strangers, made safe to print: models and metadata may carry terminal escapes."""

from __future__ import annotations

# Control pictures stand in for C0 controls (ESC becomes ␛), so that what was there can be read.
_PICTURES: dict[int, str] = {code: chr(0x2400 + code) for code in range(0x20)}
del _PICTURES[ord("\n")], _PICTURES[ord("\t")]
_PICTURES[0x7F] = "\u2421"
# C1 controls have no pictures, and some terminals obey them: U+009B is another ESC [.
_PICTURES.update({code: f"<{code:02X}>" for code in range(0x80, 0xA0)})
# Overrides and isolates reorder what follows them, on lines that are not theirs too.
_PICTURES.update(
    {code: f"<U+{code:04X}>" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}
)
# A lone surrogate cannot be written as UTF-8.
_PICTURES.update(dict.fromkeys(range(0xD800, 0xE000), "\ufffd"))


def visible(text: str) -> str:
    """`text` with control characters shown instead of obeyed; newline and tab stay.

    Works on pieces of a stream as well as on the whole: each character is mapped on its own.
    """
    return text.translate(_PICTURES)


def one_line(text: str, limit: int = 200) -> str:
    """`text` as one visible line of at most `limit` characters, an ellipsis marking the cut."""
    line = visible(" ".join(text.split()))
    return line if len(line) <= limit else line[: limit - 1] + "…"
