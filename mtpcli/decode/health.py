"""Whether a drafter works: that it failed, or that it is never right, is said once."""

from __future__ import annotations

# A drafter that fits is right at the first position in half of its drafts or more, and in a third
# at the very least: one in 4000 of such, or one in 130, would be doubted by chance. It cannot be
# many more drafts, for where they do not pay hardly any are made.
_DRAFTS, _NEAR_ZERO = 12, 0.04

_FAILED = "the drafter failed and is not used any more; the text is the same, only slower: "


class DrafterHealth:
    """What went wrong with a drafter.

    Attributes:
        failure: why it is not used any more; None while it is.
        doubt: why it seems not to fit; None while it may.
        notices: what its user should know, in the order it was found; each once.
    """

    def __init__(self) -> None:
        self.failure: str | None = None
        self.notices: list[str] = []
        self.doubt: str | None = None
        self._drafts = self._right = 0
        self._told = 0

    def news(self) -> list[str]:
        """The notices since the last call."""
        told, self._told = self._told, len(self.notices)
        return self.notices[told:]

    def failed(self, error: BaseException) -> None:
        """It failed, and is not used any more."""
        self.failure = str(error) or type(error).__name__
        if isinstance(error, MemoryError):
            self.failure = "out of memory"
        self.notices.append(f"{_FAILED}{self.failure}")

    def hear(self, other: DrafterHealth, whose: str) -> None:
        """Pass on what was found out about another drafter, where nothing like it is known yet."""
        if other.failure and not self.failure:
            self.failure = other.failure
            self.notices.append(f"{whose}: {_FAILED}{self.failure}")
        if other.doubt and not self.doubt:
            self.doubt = other.doubt
            self.notices.append(f"{whose}: {self.doubt}")

    def observe(self, accepted: int) -> None:
        """One of its drafts was verified, and so many of its tokens were right."""
        self._drafts += 1
        self._right += accepted > 0
        if self.doubt or self._drafts < _DRAFTS or self._right > _NEAR_ZERO * self._drafts:
            return
        self.doubt = (
            f"of {self._drafts} drafts {self._right} were right, so the drafter only costs time. "
            "Likely reasons: it was trained for another target or another fine-tune of it, one of "
            "the two files was quantised badly, the KV cache is quantised, or the temperature is "
            "far above 1"
        )
        self.notices.append(self.doubt)
