"""What prompts begin with is decoded once, and no row notices, on fakes."""

from __future__ import annotations

from typing import Any

import pytest

from mtpcli.batch.rows import Template
from mtpcli.batch.shapes import OpenAiShape, PlainShape, Shape
from mtpcli.batch.worker import Defaults, Preparer, worth_keeping
from mtpcli.config import SamplingConfig
from mtpcli.decode.depth import FixedDepth
from mtpcli.decode.engine import Engine
from mtpcli.decode.sequence import Request
from mtpcli.decode.shared import LEAST, keepable, takeable
from tests.batch_fakes import FakeBackend
from tests.fakes import END, FakeDrafter, FakeTarget, ListStream

BEGINNING = [1 + 7 * at % 40 for at in range(150)]
PROMPTS = [
    [*BEGINNING, 3, 1, 4],
    [*BEGINNING, *range(1, 40)],
    [*BEGINNING[:99], 5],
    BEGINNING,
    [*BEGINNING, 2],
    [9],
    [*BEGINNING, *BEGINNING],
]


@pytest.mark.parametrize("capacity", [512, 528, 1024])
@pytest.mark.parametrize("ring", [256, 768, 1280, 1 << 20])
def test_what_is_decoded_apart_is_decoded_as_the_whole_would_be(capacity: int, ring: int) -> None:
    for count in range(0, 3000, 7):
        kept = keepable(count, capacity, lambda at: ring - 1 - at % ring)
        assert kept == 0 or LEAST <= kept <= count
        assert kept > count - 160 or (kept == 0 and count < LEAST + 160)
        if not kept:
            continue
        assert kept % capacity == 0 or kept % capacity >= 64
        for length in (*range(kept + 1, kept + 90), kept + 500, kept + 2500):
            start, end = takeable(kept, length, capacity)
            assert kept - 64 <= start <= kept and start % 16 == 0
            assert start // capacity == (end - (start < end)) // capacity
            # From there on decodes begin where those of the whole do, and end there.
            assert end % capacity == 0 or end == length
            assert end - start >= 64 or start == end
            assert start == kept or start // ring == (kept - 1) // ring


def generate(
    keeper: bool, share: bool, n_seq: int = 3, drafts: bool = True
) -> tuple[list[list[int]], list[int], FakeTarget]:
    """Tokens and reused cells of each prompt."""
    target = FakeTarget(400, n_seq, keeper=keeper)
    drafter = FakeDrafter(target, wrong=range(160, 400, 3)) if drafts else None
    with Engine(target, drafter, FixedDepth(3), lambda token: token == END) as engine:
        if share:
            engine.share(BEGINNING)
        requests = [
            Request(prompt, SamplingConfig(seed=at), ListStream(None), 6 + 5 * (at % 3))
            for at, prompt in enumerate(PROMPTS)
        ]
        done = engine.generate(requests)
    return [one.tokens for one in done], [one.reused for one in done], target


@pytest.mark.parametrize("drafts", [True, False])
@pytest.mark.parametrize("n_seq", [1, 3, 8])
def test_texts_are_those_of_whole_prompts(n_seq: int, drafts: bool) -> None:
    whole, none, _ = generate(False, False, n_seq, drafts)
    assert none == [0] * len(PROMPTS)
    tokens, reused, target = generate(True, True, n_seq, drafts)
    assert tokens == whole
    # The first one pays, those that do not begin so take nothing.
    assert reused == [0, 112, 0, 80, 80, 0, 144]
    assert target.cells[n_seq] == BEGINNING[:144]
    tokens, reused, _ = generate(False, True, n_seq, drafts)
    assert (tokens, reused) == (whole, none)


def test_what_was_interrupted_is_decoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    target = FakeTarget(400, 1, keeper=True)
    engine = Engine(target, None, FixedDepth(0), lambda token: token == END)
    engine.share(BEGINNING)
    prefill = target.prefill

    def interrupted(seq: int, start: int, tokens: list[int]) -> None:
        prefill(seq, start, tokens[:50])
        raise KeyboardInterrupt

    def request() -> Request:
        return Request(PROMPTS[0], SamplingConfig(temperature=0), ListStream(None), 9)

    monkeypatch.setattr(target, "prefill", interrupted)
    with pytest.raises(KeyboardInterrupt):
        engine.generate([request()])
    monkeypatch.setattr(target, "prefill", prefill)
    texts = [engine.generate([request()])[0].tokens for _ in range(2)]
    whole = Engine(FakeTarget(400), None, FixedDepth(0), lambda token: token == END)
    assert texts == [whole.generate([request()])[0].tokens] * 2


def beginning(shape: Shape | None = None, **settings: Any) -> list[int]:
    preparer = Preparer(
        FakeBackend(), shape or PlainShape(), Defaults(SamplingConfig(), **settings)
    )
    return preparer.beginning()


def test_what_prompts_begin_with_follows_from_the_settings() -> None:
    letters = FakeBackend().raw_tokens
    assert beginning() == [2]
    assert beginning(system="Be brief. ") == [2, *letters("Be brief. ")]
    head = PlainShape(Template("List {{the}} {things} of {name}"))
    assert beginning(head, system="Brief.") == [2, *letters("Brief.List {the} ")]
    assert beginning(head, raw=True) == letters("List {the} ")
    assert beginning(raw=True) == []
    assert beginning(OpenAiShape("x"), system="Brief.") == [2, *letters("Brief.")]
    # A template that has no such messages says so of each row.
    assert beginning(system="refuse") == []


def test_a_sequence_more_is_for_long_beginnings() -> None:
    def worth(shape: Shape, system: str | None = None) -> bool:
        return worth_keeping(Defaults(SamplingConfig(), system), shape)

    assert worth(PlainShape(), "Be brief. " * 20)
    assert worth(PlainShape(Template("Translate this, " * 20 + "{text}")))
    assert not worth(PlainShape(), "Be brief.")
    assert not worth(PlainShape(Template("{text}" + "Translate that. " * 20)))
