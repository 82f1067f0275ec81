"""Which drafted tokens stand: a pure function of the draft and of what the target would choose."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def accept(draft: Sequence[int], choose: Callable[[int], int]) -> list[int]:
    """The target's own tokens along a draft, up to and including the first that differs.

    The result is what plain decoding would have given, whatever was drafted: row i of a verify is
    conditioned on draft[:i], which by then equals the target's own tokens.

    Args:
        draft: k drafted tokens.
        choose: the target's token after the first i drafted ones, for i in 0..k. It is called in
            order, and not beyond the first difference.

    Returns:
        1 to k + 1 tokens: all but the last were drafted and accepted.
    """
    tokens: list[int] = []
    for drafted in draft:
        tokens.append(choose(len(tokens)))
        if tokens[-1] != drafted:
            return tokens
    tokens.append(choose(len(tokens)))
    return tokens
