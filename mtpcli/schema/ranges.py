"""Numbers between two bounds, as GBNF over their decimal digits."""

from __future__ import annotations

# Numbers without a bound have no more digits than a reader keeps: 2^53 has 16.
_DIGITS = 15
# What follows the point of a bounded number. It ends in another digit than 0, so that the number
# is never the whole one before the point.
_FRACTION = '"." [0-9]{0,5} [1-9]'


def integers(low: int | None, high: int | None) -> str:
    """All whole numbers from `low` to `high`; None is no bound. `low` is not above `high`."""
    if low is None and high is None:
        return f'"-"? ({naturals(0, None)})'
    choices: list[str] = []
    if low is None or low < 0:
        smallest = 1 if high is None or high >= 0 else -high
        choices.append(f'"-" ({naturals(smallest, None if low is None else -low)})')
    if high is None or high >= 0:
        choices.append(naturals(max(0, low or 0), high))
    return " | ".join(choices)


def numbers(
    low: int | None, high: int | None, *, open_low: bool = False, open_high: bool = False
) -> str | None:
    """Numbers from `low` to `high`, with up to six decimals; an open bound is left out.

    None if there is none that can be written so.
    """
    first = None if low is None else low + open_low
    last = None if high is None else high - open_high
    choices: list[str] = []
    if first is None or last is None or first <= last:
        choices.append(integers(first, last))
    # Before the point, what leaves room for the decimals on both sides.
    if high is None or high > 0:
        begin, end = max(0, low or 0), None if high is None else high - 1
        if end is None or begin <= end:
            choices.append(f"({naturals(begin, end)}) {_FRACTION}")
    if low is None or low < 0:
        begin, end = max(0, -high if high is not None else 0), None if low is None else -low - 1
        if end is None or begin <= end:
            choices.append(f'"-" ({naturals(begin, end)}) {_FRACTION}')
    return " | ".join(choices) or None


def naturals(low: int, high: int | None) -> str:
    """Whole numbers from `low` (0 or more) to `high`, without leading zeros."""
    if high is None and low <= 1:
        positive = f"[1-9] [0-9]{{0,{_DIGITS - 1}}}"
        return positive if low else f'"0" | {positive}'
    if high is None:
        high = max(10**_DIGITS, 10 * low) - 1
    choices: list[str] = []
    for length in range(len(str(low)), len(str(high)) + 1):
        begin = max(low, 10 ** (length - 1) if length > 1 else 0)
        end = min(high, 10**length - 1)
        choices.append(_same_length(str(begin), str(end)))
    return " | ".join(choices)


def _same_length(low: str, high: str) -> str:
    """Digits from `low` to `high`, which have the same length."""
    if low == high:
        return f'"{low}"'
    rest = len(low) - 1
    if low[1:] == "0" * rest and high[1:] == "9" * rest:
        return _digit(low[0], high[0]) + _any_digits(rest)
    if low[0] == high[0]:
        return f'"{low[0]}" ({_same_length(low[1:], high[1:])})'
    choices: list[str] = []
    begin, end = int(low[0]), int(high[0])
    if low[1:] != "0" * rest:
        choices.append(f'"{begin}" ({_same_length(low[1:], "9" * rest)})')
        begin += 1
    tail = ""
    if high[1:] != "9" * rest:
        tail = f'"{end}" ({_same_length("0" * rest, high[1:])})'
        end -= 1
    if begin <= end:
        choices.append(_digit(str(begin), str(end)) + _any_digits(rest))
    return " | ".join([*choices, tail] if tail else choices)


def _digit(low: str, high: str) -> str:
    return f'"{low}"' if low == high else f"[{low}-{high}]"


def _any_digits(count: int) -> str:
    return f" [0-9]{{{count}}}" if count else ""
