"""Whether text is the same with and without the drafter: on this machine, with these files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from mtpcli.config import MAX_DRAFT_DEPTH, SamplingConfig
from mtpcli.decode.depth import DepthPolicy, FixedDepth
from mtpcli.session import Session

# A drafted text goes through all of them, so that every number of rows is verified.
_DEPTHS = (3, 1, 7, 2, 15, 4, 5, 6, 11)


class EveryDepth(FixedDepth):
    """One depth after another, the same ones in every run, whatever pays."""

    def __init__(self) -> None:
        super().__init__(MAX_DRAFT_DEPTH)
        self._round: Iterator[int] = iter(())

    def plan(self, sequences: int) -> int:
        """The next depth."""
        depth = next(self._round, None)
        if depth is None:
            self._round = iter(_DEPTHS)
            depth = next(self._round)
        return depth


@dataclass
class Texts:
    """The prompts' texts under one sampling.

    Attributes:
        seed: of the noise; None is greedy.
        texts, tokens, drafted, accepted: how many there were.
        first_differences: by the number of the prompt from 0, the index of the first token that
            is not the same with and without drafts.
    """

    seed: int | None
    texts: int = 0
    tokens: int = 0
    drafted: int = 0
    accepted: int = 0
    first_differences: dict[int, int] = field(default_factory=dict)

    @property
    def equal(self) -> int:
        """How many texts are the same."""
        return self.texts - len(self.first_differences)


def compare_texts(
    session: Session,
    prompts: Sequence[str],
    seeds: Sequence[int | None],
    *,
    max_tokens: int,
    progress: Callable[[str], None] = lambda text: None,
) -> list[Texts]:
    """Answer every prompt without drafts and with drafts of many depths, and compare tokens.

    Args:
        seeds: of the model's own sampling; None is greedy.
    """
    compared = []
    drafting = EveryDepth()
    with _policy_kept(session):
        for seed in seeds:
            found = Texts(seed)
            sampling = (
                replace(session.sampling, temperature=0.0)
                if seed is None
                else replace(session.sampling, seed=seed)
            )
            name = "greedy" if seed is None else f"seed {seed}"
            for number, prompt in enumerate(prompts):
                progress(f"{name}, prompt {number + 1} of {len(prompts)}")
                plain = _answer(session, FixedDepth(0), prompt, sampling, max_tokens, Texts(seed))
                drafted = _answer(session, drafting, prompt, sampling, max_tokens, found)
                found.texts += 1
                if plain != drafted:
                    found.first_differences[number] = first_difference(plain, drafted)
            compared.append(found)
    return compared


def first_difference(left: Sequence[int], right: Sequence[int]) -> int:
    """Index of the first place where two different lists are not the same."""
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(left), len(right)))


@contextmanager
def _policy_kept(session: Session) -> Iterator[None]:
    own = session.engine.policy
    try:
        yield
    finally:
        session.engine.policy = own


def _answer(
    session: Session,
    policy: DepthPolicy,
    prompt: str,
    sampling: SamplingConfig,
    max_tokens: int,
    count: Texts,
) -> list[int]:
    session.engine.policy = policy
    tokens = session.chat_tokens([{"role": "user", "content": prompt}])
    request, _ = session.request(tokens, sampling, max_tokens=max_tokens)
    (sequence,) = session.engine.generate([request])
    count.tokens += len(sequence.tokens)
    count.drafted += sequence.stats.drafted
    count.accepted += sequence.stats.accepted
    return sequence.tokens


def held_out_prompts(count: int) -> list[str]:
    """The first of the embedded pair's held-out prompts, of each kind in turn."""
    from mtpcli.demo.pack import SNAPSHOTS

    kinds = json.loads((Path(SNAPSHOTS) / "heldout.json").read_text(encoding="utf-8"))
    columns = zip(*kinds.values(), strict=False)
    return [item["prompt"] for row in columns for item in row][:count]
