"""Drafts without a model: where the last tokens stood before, what followed may follow again.

Source: prompt lookup decoding (Saxena, 2023). It costs a dictionary entry per token and pays where
text repeats: code that is edited, texts that are quoted, tables.
"""

from __future__ import annotations

from collections.abc import Iterable

from mtpcli.decode.drafters.base import Draft

NAME = "lookup"
_GRAM = 3  # tokens that must have stood together before
_LONGEST_MATCH = 32  # beyond, a longer match says no more


class LookupIndex:
    """The tokens of one sequence, and where each run of three ended last."""

    def __init__(self, tokens: Iterable[int] = ()) -> None:
        self._tokens: list[int] = []
        self._ends: dict[tuple[int, ...], int] = {}
        self._found: int | None = None
        for token in tokens:
            self.add(token)

    def add(self, token: int) -> None:
        """Take the sequence's next token."""
        self._tokens.append(token)
        end = len(self._tokens)
        if end >= _GRAM:
            gram = tuple(self._tokens[-_GRAM:])
            self._found = self._ends.get(gram)
            self._ends[gram] = end

    def draft(self, limit: int) -> Draft:
        """What followed the last time, at most `limit` tokens; nothing if there was no such time.

        The confidence of a token grows with the number of tokens before it that agree.
        """
        if self._found is None:
            return Draft()
        start = self._found
        tokens = self._tokens[start : start + limit]
        match = self._match(start)
        return Draft(tokens, [1 - 1 / (1 + match + n) for n in range(len(tokens))], NAME)

    def _match(self, end: int) -> int:
        """How many tokens before `end` agree with the last ones."""
        tokens, size = self._tokens, 0
        limit = min(end, _LONGEST_MATCH)
        while size < limit and tokens[end - 1 - size] == tokens[-1 - size]:
            size += 1
        return size
