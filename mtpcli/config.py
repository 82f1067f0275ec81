"""Settings of a run, as frozen dataclasses: no I/O, no defaults hidden elsewhere."""

from __future__ import annotations

from dataclasses import dataclass

MAX_DRAFT_DEPTH = 15


@dataclass(frozen=True)
class SamplingConfig:
    """How a token is chosen from logits.

    Attributes:
        temperature: 0 is greedy; otherwise logits are divided by it.
        top_k: keep the k most likely tokens; 0 keeps all that top_p leaves.
        top_p: keep the smallest set of tokens whose probability reaches it, in (0, 1].
        min_p: keep tokens at least this times as likely as the best, in [0, 1].
        repetition: divide (or multiply, below 0) the logits of recent tokens by it; 1 is off.
        presence, frequency: subtract from the logits of recent tokens, once and per occurrence.
        recent: how many of the last tokens the three penalties look at, prompt included.
        seed: noise is a function of (seed, absolute position, token id), so that a seed gives
            one text whatever was drafted.
    """

    temperature: float = 1.0
    top_k: int = 64
    top_p: float = 0.95
    seed: int = 0
    min_p: float = 0.0
    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0
    recent: int = 64

    @property
    def penalises(self) -> bool:
        """Whether recent tokens matter."""
        return self.repetition != 1.0 or self.presence != 0.0 or self.frequency != 0.0


@dataclass(frozen=True)
class DraftConfig:
    """How to draft; the text does not depend on it, unless by rejection.

    Attributes:
        depth: how many tokens the drafter proposes per round (0..15); 0 is plain decoding, None
            is what pays best, round by round.
        ordered_head: use the drafter's ordered head where its file has one; None is where it is
            faster than scoring the whole vocabulary.
        rejection: verify sampled text by rejection instead of by coupling: more drafts are
            accepted, and the text is as likely as without a drafter, but not the same.
    """

    depth: int | None = None
    ordered_head: bool | None = None
    rejection: bool = False


@dataclass(frozen=True)
class RuntimeConfig:
    """Where and how llama.cpp runs.

    Attributes:
        n_ctx: tokens of context per sequence; 0 takes the model's own, at most 8192.
        n_seq: sequences that share the context.
        threads: CPU threads; 0 takes the physical cores.
        swa_full: sliding-window layers keep every cell, not only the window's: a conversation can
            go back to any place, at the price of gigabytes for the large models.
    """

    n_ctx: int = 0
    n_seq: int = 1
    threads: int = 0
    swa_full: bool = False
