"""The draft/verify loop on a fake target that is exact about positions, rows and roll-back."""

from __future__ import annotations

import pytest

from mtpcli.config import SamplingConfig
from mtpcli.decode.depth import FixedDepth
from mtpcli.decode.engine import Engine
from mtpcli.decode.sequence import Request, Sequence
from mtpcli.errors import InputError
from tests.fakes import END, VOCAB, FakeDrafter, FakeTarget, ListStream, Watcher, Whim

GREEDY = SamplingConfig(temperature=0)
PROMPT = [3, 1, 4, 1, 5]


def generate(
    depth: int = 0,
    *,
    sampling: SamplingConfig = GREEDY,
    max_tokens: int | None = 40,
    n_ctx: int = 256,
    wrong: tuple[int, ...] = (),
    stop_after: int | None = None,
    end: int = END,
) -> tuple[Sequence, FakeTarget]:
    target = FakeTarget(n_ctx)
    drafter = FakeDrafter(target, wrong) if depth else None
    request = Request(PROMPT, sampling, ListStream(stop_after), max_tokens)
    with Engine(target, drafter, FixedDepth(depth), lambda token: token == end) as engine:
        (sequence,) = engine.generate([request])
    return sequence, target


@pytest.mark.parametrize("depth", [1, 2, 3, 7, 15])
@pytest.mark.parametrize("seed", [None, 0, 1, 2, 3])
def test_text_does_not_depend_on_the_draft(depth: int, seed: int | None) -> None:
    sampling = GREEDY if seed is None else SamplingConfig(seed=seed)
    plain, _ = generate(sampling=sampling)
    for wrong in ((), (6,), (7, 9, 10, 16), tuple(range(6, 60))):
        drafted, _ = generate(depth, sampling=sampling, wrong=wrong)
        assert drafted.tokens == plain.tokens
        assert drafted.finish_reason == plain.finish_reason


def test_a_perfect_drafter_is_always_accepted() -> None:
    sequence, target = generate(3, end=VOCAB)
    # One token comes with the prompt, 39 are left: nine rounds of 4, then 3 rows for the last 3.
    assert target.decodes == [4] * 9 + [3]
    assert sequence.stats.acceptance_by_position == [1.0, 1.0, 1.0]
    assert sequence.stats.tokens_per_round == 3.9
    assert sequence.stats.plain_rounds == 0


def test_a_wrong_token_costs_the_rest_of_its_draft() -> None:
    # The first token stands at 5, so the first draft is 6, 7, 8.
    sequence, _ = generate(3, wrong=(7,), max_tokens=7, end=VOCAB)
    # Round 1 keeps 6 and the target's own 7; round 2 keeps 8, 9, 10 and has no room for more.
    assert sequence.stats.drafted_at == [2, 2, 2]
    assert sequence.stats.accepted_at == [2, 1, 1]
    assert sequence.stats.rounds == 2


def test_every_token_knows_where_it_came_from() -> None:
    # The first token stands at 5; 6 is accepted, 7 is the target's correction, 8 to 10 accepted.
    sequence, _ = generate(3, wrong=(7,), max_tokens=7, end=VOCAB)
    assert sequence.origins == ["target", "fake", "target", "fake", "fake", "fake", "target"]
    plain, _ = generate(max_tokens=7, end=VOCAB)
    assert plain.origins == ["target"] * 7


def test_drafting_can_pause() -> None:
    target = FakeTarget()
    with Engine(target, FakeDrafter(target), FixedDepth(3), lambda token: False) as engine:
        rounds = engine.rounds([Request(PROMPT, GREEDY, ListStream(), 12)])
        (sequence,) = next(rounds)
        for drafting in (False, True, False):
            sequence.drafting = drafting
            next(rounds)
    assert target.decodes == [1, 4, 1]
    assert sequence.tokens == generate(max_tokens=7)[0].tokens


def test_an_end_in_the_middle_of_an_accepted_run() -> None:
    free, _ = generate(end=VOCAB)
    end = free.tokens[6]
    sequence, target = generate(7, end=end)
    assert sequence.tokens == free.tokens[: free.tokens.index(end) + 1]
    assert sequence.finish_reason == "stop"
    # Cells beyond the end may be left, as they are at any other position.
    assert target.cells[0][: len(PROMPT)] == PROMPT


def test_a_stop_in_the_middle_of_an_accepted_run() -> None:
    free, _ = generate(end=VOCAB)
    sequence, _ = generate(7, stop_after=free.tokens[5], end=VOCAB)
    assert sequence.tokens == free.tokens[: free.tokens.index(free.tokens[5]) + 1]
    assert sequence.finish_reason == "stop"


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 9])
def test_the_token_limit_is_exact(limit: int) -> None:
    free, _ = generate(end=VOCAB)
    sequence, _ = generate(7, max_tokens=limit, end=VOCAB)
    assert sequence.tokens == free.tokens[:limit]
    assert sequence.finish_reason == "length"


@pytest.mark.parametrize("depth", [0, 3, 15])
def test_the_context_is_used_to_its_last_cell(depth: int) -> None:
    sequence, _ = generate(depth, max_tokens=None, n_ctx=20, end=VOCAB)
    # 20 cells hold the prompt's 5 tokens and 15 more; one token needs no cell of its own.
    assert len(sequence.tokens) == 16
    assert sequence.finish_reason == "context"


def test_a_prompt_that_fills_the_context_gives_one_token() -> None:
    sequence, _ = generate(3, n_ctx=len(PROMPT))
    assert len(sequence.tokens) == 1
    assert sequence.finish_reason == "context"


@pytest.mark.parametrize(("prompt", "reason"), [([], "empty"), ([1] * 21, "21 tokens")])
def test_a_prompt_that_cannot_be_used(prompt: list[int], reason: str) -> None:
    with Engine(FakeTarget(20), None, FixedDepth(0), lambda token: False) as engine:
        with pytest.raises(InputError, match=reason):
            list(engine.rounds([Request(prompt, GREEDY, ListStream())]))
        # The slot is free again.
        rounds = engine.rounds([Request(PROMPT, GREEDY, ListStream(), 3)])
        assert len(list(rounds)[-1][0].tokens) == 3


@pytest.mark.parametrize("depth", [0, 3])
@pytest.mark.parametrize("n_seq", [1, 2, 3])
def test_sequences_do_not_depend_on_their_neighbours(n_seq: int, depth: int) -> None:
    prompts = [[i + 1, 2 * i, 7] + [5] * i for i in range(7)]
    limits = [1, 9, 4, 17, 2, 30, 5]

    def run(target: FakeTarget, requests: list[Request]) -> list[list[int]]:
        drafter = FakeDrafter(target, wrong=(6, 11, 12, 19))
        with Engine(target, drafter, FixedDepth(depth), lambda token: token == END) as engine:
            sequences = engine.generate(requests)
        return [sequence.tokens for sequence in sequences]

    def make() -> list[Request]:
        return [
            Request(prompt, SamplingConfig(seed=limit), ListStream(), limit)
            for prompt, limit in zip(prompts, limits, strict=True)
        ]

    together = run(FakeTarget(n_seq=n_seq), make())
    alone = [run(FakeTarget(), [request])[0] for request in make()]
    assert together == alone


@pytest.mark.parametrize("depth", [0, 3])
def test_sequences_are_decoded_as_one_block(depth: int) -> None:
    class Watching(FakeTarget):
        def decode(self, rows: int, outputs: int) -> None:
            seqs = self.batch.seq[:rows].tolist()
            numbers = sorted(set(seqs))
            assert numbers == list(range(numbers[0], numbers[-1] + 1)), "not one run of numbers"
            assert seqs == sorted(seqs)
            assert len({seqs.count(number) for number in numbers}) == 1, "unequal numbers of rows"
            super().decode(rows, outputs)

    target = Watching(n_seq=4)
    limits = [3, 31, 5, 12, 7, 40]
    requests = [Request([n, *PROMPT], GREEDY, ListStream(), n) for n in limits]
    with Engine(target, FakeDrafter(target), FixedDepth(depth), lambda token: False) as engine:
        sequences = engine.generate(requests)
        assert engine.free_slots == 4
    assert [len(sequence.tokens) for sequence in sequences] == limits


def test_leaving_early_frees_the_slots() -> None:
    target = FakeTarget(n_seq=2)
    with Engine(target, FakeDrafter(target), FixedDepth(3), lambda token: False) as engine:
        for _ in range(3):
            requests = [Request(PROMPT, GREEDY, ListStream()) for _ in range(3)]
            rounds = engine.rounds(requests)
            next(rounds)
            next(rounds)
            rounds.close()
        assert len(next(engine.rounds(requests))) == 2


def test_release_twice_does_not_free_a_neighbours_slot() -> None:
    target = FakeTarget()
    with Engine(target, None, FixedDepth(0), lambda token: False) as engine:
        first = engine.start(Request(PROMPT, GREEDY, ListStream()))
        engine.release(first)
        second = engine.start(Request(PROMPT, GREEDY, ListStream()))
        engine.release(first)
        assert second.slot == first.slot
        for call in (
            lambda: engine.start(Request(PROMPT, GREEDY, ListStream())),
            engine.save,
            lambda: engine.restore([1], b""),
        ):
            with pytest.raises(ValueError, match="no slot is free"):
                call()


def test_close_closes_drafter_and_target() -> None:
    target = FakeTarget()
    drafter = FakeDrafter(target)
    with Engine(target, drafter, FixedDepth(3), lambda token: False):
        pass
    assert (drafter.closed, target.closed) == (1, 1)


def test_the_stream_is_finished_once() -> None:
    sequence, _ = generate(7)
    stream = sequence.request.stream
    assert isinstance(stream, ListStream)
    assert stream.finished == 1
    assert stream.tokens == [token for token in sequence.tokens if token != END]


def test_a_conversation_decodes_only_what_is_new() -> None:
    target = FakeTarget()
    with Engine(target, FakeDrafter(target), FixedDepth(3), lambda token: False) as engine:

        def turn(prompt: list[int], *, reuse: bool = True) -> Sequence:
            request = Request(prompt, GREEDY, ListStream(), 9, reuse)
            return engine.generate([request])[0]

        first = turn(PROMPT)
        assert first.reused == 0
        longer = [*PROMPT, *first.tokens, 7, 8]
        second = turn(longer)
        # All but the last token of the answer had a cell, and that one and two more are new.
        assert second.reused == len(PROMPT) + 8
        assert second.tokens == turn(longer, reuse=False).tokens
        # Taken back: the question again, in other words.
        edited = turn([*PROMPT[:3], 9, 9])
        assert edited.reused == 3
        assert edited.tokens == turn([*PROMPT[:3], 9, 9], reuse=False).tokens
        # The same prompt again: its last token is decoded for its logits.
        assert turn([*PROMPT[:3], 9, 9]).reused == 4
        target.resume_from = 100
        assert turn([*PROMPT[:3], 9, 9]).reused == 0


def test_the_slot_with_the_longest_beginning_is_reused() -> None:
    target = FakeTarget(n_seq=3)
    with Engine(target, None, FixedDepth(0), lambda token: False) as engine:
        prompts = [[1, 2, 3], [1, 2, 4, 5], [9]]
        engine.generate([Request(prompt, GREEDY, ListStream(), 2) for prompt in prompts])
        (sequence,) = engine.generate([Request([1, 2, 4, 6], GREEDY, ListStream(), 2, reuse=True)])
        assert sequence.reused == 3


def test_saved_cells_are_as_good_as_decoded_ones() -> None:
    with Engine(FakeTarget(), None, FixedDepth(0), lambda token: False) as engine:
        (first,) = engine.generate([Request(PROMPT, GREEDY, ListStream(), 5)])
        tokens, state = engine.save()
        assert tokens == [*PROMPT, *first.tokens[:4]]
    with Engine(FakeTarget(), None, FixedDepth(0), lambda token: False) as engine:
        assert not engine.restore(tokens[1:], state)
        assert engine.restore(tokens, state)
        longer = Request([*PROMPT, *first.tokens], GREEDY, ListStream(), 5, reuse=True)
        (second,) = engine.generate([longer])
        assert second.reused == len(tokens)


def test_an_interrupted_prompt_leaves_the_cells_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    target = FakeTarget()
    with Engine(target, None, FixedDepth(0), lambda token: False) as engine:
        engine.generate([Request(PROMPT, GREEDY, ListStream(), 2)])
        longer = Request([*PROMPT, 9, 9, 9], GREEDY, ListStream(), 2, reuse=True)
        assert engine.held(longer.prompt) == len(PROMPT)

        def interrupted(seq: int, start: int, tokens: list[int]) -> None:
            FakeTarget.prefill(target, seq, start, tokens[:1])
            raise KeyboardInterrupt

        monkeypatch.setattr(target, "prefill", interrupted)
        with pytest.raises(KeyboardInterrupt):
            engine.start(longer)
        monkeypatch.undo()
        assert engine.held(longer.prompt) == len(PROMPT)
        assert engine.generate([longer])[0].reused == len(PROMPT)


def test_a_draft_that_nobody_verifies_is_compared_with_the_text() -> None:
    target, watcher = FakeTarget(), Watcher()
    # It is wrong about the third and the fifth token; the prompt gave the first.
    drafter = FakeDrafter(target, wrong=[len(PROMPT) + 2, len(PROMPT) + 4])
    with Engine(target, drafter, watcher, lambda token: False) as engine:
        request = Request(PROMPT, SamplingConfig(0), ListStream(), 7)
        (sequence,) = engine.generate([request])
    assert target.decodes == [1] * 6
    # Nothing is drafted for the last token, which would be the end.
    assert watcher.seen == [(1, 1), (1, 0), (1, 1), (1, 0), (1, 1)]
    assert sequence.stats.drafted == 0


@pytest.mark.parametrize("seed", range(8))
def test_no_policy_changes_the_text(seed: int) -> None:
    requests = [
        Request([i, 1, 2], SamplingConfig(seed=seed), ListStream(), 20 + i) for i in range(5)
    ]
    with Engine(FakeTarget(), None, FixedDepth(0), lambda token: token == END) as engine:
        expected = [sequence.tokens for sequence in engine.generate(requests)]
    target, whim = FakeTarget(n_seq=3), Whim(seed)
    drafter = FakeDrafter(target, wrong=range(5, 30, 4))
    requests = [
        Request([i, 1, 2], SamplingConfig(seed=seed), ListStream(), 20 + i) for i in range(5)
    ]
    with Engine(target, drafter, whim, lambda token: token == END) as engine:
        sequences = engine.generate(requests)
    assert [sequence.tokens for sequence in sequences] == expected
    # Beside what was verified it is told of what was proposed, and seen to be right or wrong.
    assert whim.drafted > whim.accepted >= sum(sequence.stats.accepted for sequence in sequences)
    assert whim.prompts == len(requests)


@pytest.mark.parametrize("depth", [1, 3, 6])
def test_penalties_are_part_of_the_text(depth: int) -> None:
    config = SamplingConfig(seed=3, repetition=1.3, presence=0.4, frequency=0.2, recent=9)
    plain, _ = generate(sampling=config)
    assert plain.tokens != generate(sampling=SamplingConfig(seed=3))[0].tokens
    drafted, _ = generate(depth, sampling=config, wrong=(8, 13))
    assert drafted.tokens == plain.tokens
    # The drafter penalises as the target does: only the two wrong ones are refused.
    assert drafted.stats.accepted >= 0.5 * drafted.stats.drafted


def test_rejection_at_temperature_0_is_greedy() -> None:
    target = FakeTarget()
    drafter = FakeDrafter(target, wrong=(7, 12))
    with Engine(
        target, drafter, FixedDepth(3), lambda token: token == END, rejection=True
    ) as engine:
        (sequence,) = engine.generate([Request(PROMPT, GREEDY, ListStream(), 40)])
    assert sequence.tokens == generate()[0].tokens


def test_no_draft_crosses_the_end_of_the_ring_of_cells() -> None:
    class Watching(FakeTarget):
        def decode(self, rows: int, outputs: int) -> None:
            laps = self.batch.pos[:rows] // self.ring
            assert len(set(laps.tolist())) == 1, "a draft that is refused would stir the cells"
            super().decode(rows, outputs)

    texts = []
    for target in (FakeTarget(), Watching()):
        target.ring = 6 if isinstance(target, Watching) else target.ring
        drafter = FakeDrafter(target, wrong=(9, 13, 14))
        with Engine(target, drafter, FixedDepth(4), lambda token: False) as engine:
            (sequence,) = engine.generate([Request(PROMPT, GREEDY, ListStream(), 40)])
        assert sequence.stats.accepted > 10
        texts.append(sequence.tokens)
    assert texts[0] == texts[1]
