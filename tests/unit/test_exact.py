"""Row counts that give the same bits: found out on a target that rounds, and kept to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from mtpcli.config import SamplingConfig
from mtpcli.costs import load_rows, save_rows
from mtpcli.decode.depth import FixedDepth
from mtpcli.decode.engine import Engine
from mtpcli.decode.exact import RowReport, compare_rows, fit, has_float_matrices
from mtpcli.decode.sequence import Request
from mtpcli.llama.gguf import TensorInfo
from mtpcli.proof import EveryDepth, first_difference
from tests.fakes import VOCAB, FakeDrafter, FakeTarget, ListStream, Steady

PROMPT = [3, 1, 4, 1, 5]
SEEDED = SamplingConfig(seed=3)


class RoundingTarget(FakeTarget):
    """Logits depend on how many rows are decoded at once, as sums in another order do.

    Attributes:
        kernel: tells row counts apart: those with the same number give the same bits.
    """

    kernel: Callable[[int], int] = staticmethod(lambda rows: 0)

    def logits(self, output: int) -> npt.NDArray[np.float32]:
        logits = super().logits(output)
        number = self.kernel(self.decodes[-1] if self.decodes else 0)
        logits[1 + number :: 7] += np.float32(0.5 * number)
        return logits


def report(kernel: Callable[[int], int], n_ctx: int = 256) -> RowReport:
    target = RoundingTarget(n_ctx)
    target.ring = 512
    target.kernel = kernel
    found = compare_rows(target)
    assert target.cells == [[]]
    return found


def test_all_row_counts_are_the_same() -> None:
    found = report(lambda rows: 0)
    assert found.classes == (tuple(range(1, 17)),)
    assert found.exact_rows() == tuple(range(1, 17))
    assert set(found.difference.values()) == {0.0}
    assert found.identical(16)


def test_small_row_counts_are_like_single_rows() -> None:
    found = report(lambda rows: int(rows > 3))
    assert found.classes == ((1, 2, 3), tuple(range(4, 17)))
    assert found.exact_rows() == (1, 2, 3)
    assert found.difference[3] == 0.0
    assert found.difference[4] == pytest.approx(0.5)
    assert found.identical(3) and not found.identical(4)


def test_single_rows_are_like_no_others() -> None:
    assert report(lambda rows: int(rows > 1)).exact_rows() == tuple(range(2, 17))


def test_no_row_count_is_like_another() -> None:
    found = report(lambda rows: rows)
    assert found.classes == tuple((rows,) for rows in range(1, 17))
    assert found.exact_rows() == (1,)


def test_classes_without_one_or_two_rows_are_of_no_use() -> None:
    # Filling a round up to eight rows would cost more than drafts bring.
    assert report(lambda rows: rows if rows < 8 else 8).exact_rows() == (1,)


def test_single_rows_apart() -> None:
    found = report(lambda rows: int(rows > 3)).with_single_apart()
    assert found.classes == ((1,), (2, 3), tuple(range(4, 17)))
    assert found.exact_rows() == (2, 3)
    assert report(lambda rows: rows).with_single_apart().exact_rows() == (1,)


def test_float_matrices() -> None:
    norm, matrix = TensorInfo("n", (64,), "f32", 256, 0), TensorInfo("m", (64, 2), "q8_0", 136, 0)
    assert not has_float_matrices([norm, matrix])
    assert has_float_matrices([norm, matrix, replace(matrix, type="bf16")])


def test_places_fit_a_small_context() -> None:
    assert report(lambda rows: 0, n_ctx=64).places == (4, 17, 28)


def test_fit() -> None:
    assert [fit((1, 2, 3, 8), rows) for rows in (1, 3, 7, 8, 16)] == [1, 3, 3, 8, 8]
    assert [fit((2, 4), rows) for rows in (1, 2, 3, 5)] == [2, 2, 2, 4]


def generate(
    depth: int | None, exact: tuple[int, ...], kernel: Callable[[int], int], n_ctx: int = 256
) -> tuple[list[int], list[int], str | None]:
    target = RoundingTarget(n_ctx)
    target.kernel = kernel
    drafter = FakeDrafter(target, wrong=(9, 14, 15, 30)) if depth != 0 else None
    policy = EveryDepth() if depth is None else FixedDepth(depth)
    request = Request(PROMPT, SEEDED, ListStream(), 60)
    with Engine(target, drafter, policy, lambda token: False, exact_rows=exact) as engine:
        (sequence,) = engine.generate([request])
    return sequence.tokens, target.decodes, sequence.finish_reason


@pytest.mark.parametrize("depth", [1, 3, 7, 15, None])
@pytest.mark.parametrize(
    ("exact", "kernel"),
    [((1, 2, 3), lambda rows: int(rows > 3)), (tuple(range(2, 17)), lambda rows: int(rows > 1))],
)
def test_text_does_not_depend_on_the_draft_where_rounding_does(
    depth: int | None, exact: tuple[int, ...], kernel: Callable[[int], int]
) -> None:
    plain, plain_rows, _ = generate(0, exact, kernel)
    assert set(plain_rows) == {min(exact)}
    drafted, rows, _ = generate(depth, exact, kernel)
    assert drafted == plain
    assert set(rows) <= set(exact)
    assert len(rows) < len(plain_rows)


class CountingTarget(FakeTarget):
    """Its text goes round in a circle of nine tokens, so that looking it up finds long drafts."""

    def logits(self, output: int) -> npt.NDArray[np.float32]:
        logits = np.zeros(VOCAB, np.float32)
        logits[self._contexts[output][-1] % 9 + 1] = 9
        return logits


def test_what_is_looked_up_keeps_to_them_too() -> None:
    target = CountingTarget()
    request = Request(PROMPT, SamplingConfig(temperature=0), ListStream(), 80)
    drafter, policy = FakeDrafter(target), Steady(verify={1: 1.0, 16: 1.0}, draft=0.1, max_depth=2)
    with Engine(target, drafter, policy, lambda token: False, exact_rows=(1, 2, 3)) as engine:
        (sequence,) = engine.generate([request])
    assert sequence.tokens == [(PROMPT[-1] + at) % 9 + 1 for at in range(80)]
    assert max(target.decodes) == 3
    assert "lookup" in sequence.origins


def test_without_it_the_text_differs() -> None:
    kernel = lambda rows: int(rows > 3)  # noqa: E731
    assert generate(7, (), kernel)[0] != generate(0, (), kernel)[0]


@pytest.mark.parametrize("depth", [0, 3])
def test_rows_that_fill_up_have_room_at_the_end_of_the_context(depth: int) -> None:
    tokens, _, reason = generate(depth, (2, 3, 4), lambda rows: int(rows > 1), n_ctx=32)
    assert reason == "context"
    assert len(tokens) == 32 - 1 - len(PROMPT) + 1


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4, 5])
def test_the_next_turn_begins_with_the_same_cells(depth: int) -> None:
    target = RoundingTarget()
    drafter = FakeDrafter(target) if depth else None
    with Engine(
        target, drafter, FixedDepth(depth), lambda token: False, exact_rows=(1, 2, 3, 4, 5, 6)
    ) as engine:
        (sequence,) = engine.generate([Request(PROMPT, SEEDED, ListStream(stop_after=None), 12)])
        assert engine.held([*PROMPT, *sequence.tokens, 1]) == len(PROMPT) + 11


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4, 5])
def test_so_it_does_where_a_draft_goes_beyond_the_end(depth: int) -> None:
    plain, _, _ = generate(0, (), lambda rows: 0)
    target = RoundingTarget()
    drafter = FakeDrafter(target) if depth else None
    with Engine(
        target, drafter, FixedDepth(depth), lambda token: False, exact_rows=(1, 2, 3, 4, 5, 6)
    ) as engine:
        request = Request(PROMPT, SEEDED, ListStream(stop_after=plain[6]), 60)
        (sequence,) = engine.generate([request])
        assert sequence.finish_reason == "stop"
        tokens = sequence.tokens
        assert engine.held([*PROMPT, *tokens, 1]) == len(PROMPT) + len(tokens) - 1


def test_every_depth_takes_turns() -> None:
    policy = EveryDepth()
    depths = [policy.plan(1) for _ in range(18)]
    assert depths[:9] == depths[9:]
    assert {1, 3, 7, 15} < set(depths)


def test_first_difference() -> None:
    assert first_difference([1, 2, 3], [1, 5, 3]) == 1
    assert first_difference([1, 2], [1, 2, 3]) == 2


def test_a_comparison_comes_back(tmp_path: Path) -> None:
    found = report(lambda rows: int(rows > 3))
    save_rows(tmp_path / "rows.json", found)
    assert load_rows(tmp_path / "rows.json") == found


@pytest.mark.parametrize(
    "damaged",
    ["", "[]", "{}", '{"places": [], "difference": {}, "classes": []}', '{"classes": [[2]]}'],
)
def test_a_comparison_that_is_damaged_is_none(tmp_path: Path, damaged: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(damaged)
    assert load_rows(path) is None
    assert load_rows(tmp_path / "none.json") is None
