"""Draft, verify, commit, roll back: one round at a time, for any number of sequences."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from collections.abc import Sequence as Many
from dataclasses import replace
from time import perf_counter
from typing import Any

import numpy as np

from mtpcli.config import MAX_DRAFT_DEPTH, SamplingConfig
from mtpcli.decode import sampling, verify
from mtpcli.decode.depth import DepthPolicy, FixedDepth
from mtpcli.decode.drafters.base import Draft, Drafter, DraftRequest
from mtpcli.decode.exact import fit
from mtpcli.decode.health import DrafterHealth
from mtpcli.decode.metrics import Timings
from mtpcli.decode.sequence import TARGET, Request, Sequence
from mtpcli.decode.sharpness import Sharpness
from mtpcli.decode.slots import Slots, common
from mtpcli.decode.target import FloatArray, Target
from mtpcli.errors import InputError, MtpError

_DRAFT_NOISE = 0x632BE59BD9B4E019  # any number: it tells the noise of drafts from the target's


class Engine:
    """Generates for up to `target.n_seq` sequences at once; a single one is a set of one.

    It owns the target's context and the drafter. Closing it twice is harmless.

    Attributes:
        policy: how far to draft; it may be exchanged between rounds.
        n_ctx: tokens that a sequence may have.
        timings: seconds by phase since the engine was made.
        health: of the drafter; its notices are for the user.
        sharpness: of drafts of sampled text; all sequences teach it.
    """

    def __init__(
        self,
        target: Target,
        drafter: Drafter | None,
        policy: DepthPolicy,
        is_end: Callable[[int], bool],
        *,
        rejection: bool = False,
        exact_rows: Many[int] = (),
    ) -> None:
        """Put an engine together.

        Args:
            is_end: whether the model ends its turn with a token.
            rejection: verify sampled text by rejection instead of by coupling.
            exact_rows: decode only so many rows at once, for a target of one sequence; empty is
                as many as there are.
        """
        self._rejection = rejection
        self._exact_rows = exact_rows
        self._deepest = max(exact_rows) - 1 if exact_rows else MAX_DRAFT_DEPTH
        # A round of one row may need more, and those need cells.
        self.n_ctx = target.n_ctx - (min(exact_rows) - 1 if exact_rows else 0)
        self._target = target
        self._drafter = drafter
        self.policy = policy
        self._is_end = is_end
        self._slots = Slots(target)
        self.sharpness = Sharpness()
        self.timings = Timings()
        self.health = DrafterHealth()

    def share(self, beginning: list[int]) -> None:
        """Decode what many prompts begin with only once: see `Slots.share`."""
        self._slots.share(beginning)

    def give_up_drafter(self, error: BaseException) -> None:
        """Go on without the drafter, which failed: the same text, only slower."""
        self.health.failed(error)
        if self._drafter:
            self._drafter.close()
        self._drafter, self.policy = None, FixedDepth(0)

    def close(self) -> None:
        """Free the drafter, then the context that it reads."""
        if self._drafter:
            self._drafter.close()
        self._target.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_exc: Any) -> None:
        self.close()

    def rounds(self, requests: Iterable[Request]) -> Generator[list[Sequence], None, None]:
        """Generate for all requests, each starting as soon as a slot is free.

        Yields:
            After every round the sequences that got tokens in it; those with a `finish_reason` do
            not come again.

        Raises:
            InputError: a prompt is empty or does not fit the context.
        """
        waiting = iter(requests)
        held: list[Sequence] = []
        try:
            while True:
                fresh: list[Sequence] = []
                while self._slots.free and (request := next(waiting, None)) is not None:
                    fresh.append(self.start(request))
                    held.append(fresh[-1])
                if fresh:
                    yield fresh
                elif held:
                    self.step(held)
                    yield list(held)
                else:
                    return
                for sequence in held:
                    if sequence.finish_reason:
                        self.release(sequence)
                held = [sequence for sequence in held if not sequence.finish_reason]
        finally:
            for sequence in held:
                self.release(sequence)

    def generate(self, requests: Iterable[Request]) -> list[Sequence]:
        """Generate for all requests, to their ends, in their order."""
        ordered = list(requests)
        done: dict[int, Sequence] = {}
        for sequences in self.rounds(ordered):
            done.update({id(sequence.request): sequence for sequence in sequences})
        return [done[id(request)] for request in ordered]

    def start(self, request: Request) -> Sequence:
        """Decode a prompt into a free slot and choose the first token."""
        prompt, n_ctx = request.prompt, self.n_ctx
        if not prompt:
            raise InputError("the prompt is empty")
        if len(prompt) > n_ctx:
            raise InputError(
                f"the prompt has {len(prompt)} tokens and the context {n_ctx}: "
                "shorten it, or raise --ctx"
            )
        started = perf_counter()
        slot, reused = self._slots.take(request)
        sequence = Sequence(request, slot, n_ctx, self._target.n_embd)
        try:
            if request.constraint:
                sequence.constraint = request.constraint()
            # If the prefill is interrupted, these cells are still good.
            sequence.reused = sequence.n_past = reused
            self._target.forget(slot, reused)
            if not reused:
                self._slots.begin(sequence)
            self._target.prefill(slot, sequence.n_past, prompt[sequence.n_past :])
            sequence.n_past = len(prompt)
            sequence.hidden[:] = self._target.hidden(-1)
            token = _choose(sequence, self._target.logits(0), sequence.n_past)
        except BaseException:
            self.release(sequence)
            raise
        sequence.commit(token, is_end=self._is_end(token))
        self.policy.observe_prompt()
        self.timings.prompt += perf_counter() - started
        return sequence

    def release(self, sequence: Sequence) -> None:
        """Give a sequence's slot back; twice is harmless."""
        if not sequence.released:
            cells = sequence.cells
            if self._exact_rows:
                # Whether the last token has a cell depends on the draft, and on that, how many
                # rows the next prompt begins with.
                cells = cells[: len(sequence.request.prompt) + max(0, len(sequence.tokens) - 1)]
            self._slots.give_back(sequence.slot, cells)
            sequence.released = True
            if sequence.constraint:
                sequence.constraint.close()

    @property
    def free_slots(self) -> int:
        """How many more sequences can start now."""
        return self._slots.free

    def held(self, prompt: list[int]) -> int:
        """How many of the first tokens of a prompt have their cells in a free slot."""
        return self._slots.held(prompt)

    def save(self) -> tuple[list[int], bytes]:
        """The tokens whose cells the first free slot holds, and the cells: see `Slots.save`."""
        return self._slots.save()

    def restore(self, tokens: list[int], state: bytes) -> bool:
        """Put a saved state into the first free slot, if it is taken: see `Slots.restore`."""
        return self._slots.restore(tokens, state)

    def step(self, sequences: list[Sequence]) -> None:
        """One round for sequences under way: each gets at least one token."""
        started = perf_counter()
        drafts = self._draft(sequences)
        # After the drafter has read the cells where they are, and before the target's decode.
        self._slots.gather(sequences)
        padding = self._fit(drafts) if self._exact_rows else 0
        drafted = perf_counter()
        first_rows = self._verify(sequences, drafts, padding)
        verified = perf_counter()
        for sequence, draft, first in zip(sequences, drafts, first_rows, strict=True):
            self._commit(sequence, draft, first, padding)
        ended = perf_counter()
        self.timings.verify += verified - drafted
        self.timings.decode += ended - started
        self.policy.observe_rest(ended - verified)

    def _draft(self, sequences: list[Sequence]) -> list[Draft]:
        drafts = [Draft() for _ in sequences]
        requests, owners = [], []
        limit = self.policy.plan(len(sequences)) if self._drafter else 0
        for index, sequence in _by_slot(sequences):
            sequence.proposals = []
            if not sequence.drafting:
                continue
            # Of several each has as many rows, or llama.cpp would compute more than one graph: what
            # is drafted beyond a limit is thrown away.
            room = sequence.room if len(sequences) == 1 else sequence.cells_left
            room = min(room, self._target.draft_room(sequence.n_past))
            found = sequence.lookup.draft(min(self._deepest, room))
            if found.tokens:
                sequence.proposals.append(found)
            if found.tokens and (taken := self.policy.take(found.source, found.confidences)):
                drafts[index] = found.cut(taken)
            elif depth := min(limit, room):
                owners.append(index)
                requests.append(
                    DraftRequest(
                        seq=sequence.slot,
                        position=sequence.n_past,
                        token=sequence.tokens[-1],
                        hidden=sequence.hidden,
                        depth=depth,
                        sampling=self._draft_sampling(sequence),
                        constraint=sequence.constraint,
                        recent=sequence.recent(),
                        sharpness=None if self._rejection else self.sharpness,
                    )
                )
        if self._drafter and requests:
            decoding, started = self._drafter.decode_seconds, perf_counter()
            try:
                made = self._drafter.draft(requests, self.policy.go_on)
            except (MtpError, MemoryError) as error:
                self.give_up_drafter(error)
                return drafts
            seconds = perf_counter() - started
            steps = max(len(draft.tokens) for draft in made)
            self.policy.observe_draft(len(requests), steps, seconds)
            self.timings.draft += self._drafter.decode_seconds - decoding
            for owner, draft in zip(owners, made, strict=True):
                sequence = sequences[owner]
                sequence.proposals.append(draft)
                if self._rejects(sequence):
                    # To drop a token for what it is would change what is likely.
                    drafts[owner] = draft
                else:
                    drafts[owner] = draft.cut(self.policy.keep(draft.confidences))
        return drafts

    def _fit(self, drafts: list[Draft]) -> int:
        """Cut the one draft to a number of rows that is exact; how many rows are missing."""
        (draft,) = drafts
        rows = len(draft.tokens) + 1
        wanted = fit(self._exact_rows, rows)
        drafts[0] = draft.cut(min(rows, wanted) - 1)
        return max(0, wanted - rows)

    def _rejects(self, sequence: Sequence) -> bool:
        return self._rejection and sequence.request.sampling.temperature > 0

    def _draft_sampling(self, sequence: Sequence) -> SamplingConfig:
        """The target's own, for coupled drafts; with other noise for those that are rejected."""
        config = sequence.request.sampling
        return replace(config, seed=config.seed ^ _DRAFT_NOISE) if self._rejection else config

    def _verify(self, sequences: list[Sequence], drafts: list[Draft], padding: int) -> list[int]:
        """Decode every sequence's last token and draft; the first row of each."""
        batch, first_rows = self._target.batch, [0] * len(sequences)
        tokens: list[int] = []
        positions: list[int] = []
        slots: list[int] = []
        for at, sequence in _by_slot(sequences):
            first_rows[at] = len(tokens)
            tokens.append(sequence.tokens[-1])
            tokens += drafts[at].tokens
            # Any token will do behind the last one: no row that counts sees it.
            tokens += tokens[-1:] * padding
            count = len(tokens) - len(slots)
            positions += range(sequence.n_past, sequence.n_past + count)
            slots += [sequence.slot] * count
        rows = len(tokens)
        batch.token[:rows], batch.pos[:rows], batch.seq[:rows] = tokens, positions, slots
        batch.output[:rows] = 1
        started = perf_counter()
        self._target.decode(rows, rows)
        self.policy.observe_verify(rows, perf_counter() - started)
        return first_rows

    def _commit(self, sequence: Sequence, draft: Draft, first: int, padding: int) -> None:
        """Keep what the target agrees with, and forget the cells of the rest."""
        if self._rejects(sequence):
            tokens = self._reject(sequence, draft, first)
        else:
            tokens = self._accept(sequence, draft, first)
        accepted = len(tokens) - 1
        sequence.n_past += len(tokens)
        sequence.hidden[:] = self._target.hidden(first + accepted)
        if padding or accepted < len(draft.tokens):
            # Before the next draft: the drafter reads these cells.
            self._target.forget(sequence.slot, sequence.n_past)
        before = len(sequence.tokens)
        for index, token in enumerate(tokens):
            origin = draft.source if index < accepted else TARGET
            sequence.commit(token, is_end=self._is_end(token), origin=origin)
            if sequence.finish_reason:
                break
        kept = len(sequence.tokens) - before
        # What is drafted beyond the end is worth as little as what is wrong.
        sequence.stats.add(len(draft.tokens), min(accepted, kept), kept, draft.source)
        for proposal in sequence.proposals:
            # Also of what nobody verified it is known now what it would have been worth.
            right = common(proposal.tokens, tokens[:kept])
            confidences = proposal.confidences[: len(tokens)]
            self.policy.observe_draft_result(proposal.source, confidences, right)
            for token, rivals in zip(tokens, proposal.rivals, strict=False):
                if rivals:
                    self.sharpness.observe(rivals, token)
            if self._drafter and proposal.source == self._drafter.name:
                self.health.observe(right)

    def _accept(self, sequence: Sequence, draft: Draft, first: int) -> list[int]:
        """The target's own tokens along the draft."""
        position = sequence.n_past + 1

        def target_choice(index: int) -> int:
            logits = self._target.logits(first + index)
            return _choose(sequence, logits, position + index, draft.tokens[:index])

        return verify.accept(draft.tokens, target_choice)

    def _reject(self, sequence: Sequence, draft: Draft, first: int) -> list[int]:
        """Tokens as likely as the target's own, along a draft that was sampled by itself."""
        config, position = sequence.request.sampling, sequence.n_past + 1

        def wanted(index: int) -> verify.Probabilities:
            if index and sequence.constraint:
                sequence.constraint.accept(draft.tokens[index - 1])
            recent = sequence.recent(draft.tokens[:index])
            logits = self._target.logits(first + index)
            return _probabilities(
                sampling.candidates(logits, config, None, sequence.constraint, recent)
            )

        def proposed(index: int) -> verify.Probabilities | None:
            kept = draft.kept[index] if draft.kept else None
            return _probabilities(kept) if kept else None

        def pick(index: int, weights: verify.Probabilities) -> int:
            some = weights.values > 0
            left = sampling.Distribution(weights.ids[some], np.log(weights.values[some]))
            token = sampling.pick(left, config.seed, position + index)
            if sequence.constraint:
                sequence.constraint.accept(token)
            return token

        def uniform(index: int) -> float:
            return sampling.uniform(config.seed, position + index)

        return verify.reject(draft.tokens, proposed, wanted, uniform, pick)


def _by_slot(sequences: list[Sequence]) -> list[tuple[int, Sequence]]:
    """Each with its place in the list, in the order in which llama.cpp decodes them together."""
    return sorted(enumerate(sequences), key=lambda pair: pair[1].slot)


def _probabilities(kept: sampling.Distribution) -> verify.Probabilities:
    return verify.Probabilities(kept.ids, kept.probabilities())


def _choose(
    sequence: Sequence, logits: FloatArray, position: int, before: list[int] | None = None
) -> int:
    """The target's own token after some others; the sequence's constraint moves on behind it."""
    constraint, recent = sequence.constraint, sequence.recent(before or [])
    config = sequence.request.sampling
    token = sampling.choose(logits, config, position, None, constraint, recent)
    if constraint:
        constraint.accept(token)
    return token
