"""Prompts for a benchmark, its counts, and its picture."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mtpcli import bench
from mtpcli.bench import Prompt, Result, Workload, depth_counts, in_turn, load_prompts
from mtpcli.cli.bench_plot import write_plot
from mtpcli.config import SamplingConfig
from mtpcli.decode.depth import DepthPolicy, FixedDepth
from mtpcli.decode.metrics import SpeculationStats
from mtpcli.errors import InputError


def test_prompts_by_name(tmp_path: Path) -> None:
    path = tmp_path / "prompts.json"
    path.write_text('{"a": ["x", {"prompt": "y", "answer": "z"}], "b": ["w"]}')
    found = load_prompts(path)
    assert [(workload.name, list(workload.prompts)) for workload in found] == [
        ("a", ["x", "y"]),
        ("b", ["w"]),
    ]


def test_a_prompt_per_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("one\n\n  two \n")
    (workload,) = load_prompts(path)
    assert (workload.name, list(workload.prompts)) == ("mine", ["one", "two"])


@pytest.mark.parametrize(
    ("name", "data", "says"),
    [
        ("a.txt", b"\n \n", "no prompts"),
        ("a.txt", b"\xff\xfe", "UTF-8"),
        ("a.json", b"{", "not JSON"),
        ("a.json", b"[]", "must be"),
        ("a.json", b"{}", "no prompts"),
        ("a.json", b'{"a": []}', "no prompts"),
        ("a.json", b'{"a": "text"}', "must be"),
        ("a.json", b'{"a": [1]}', "must be"),
        ("a.json", b'{"a": [" "]}', "must be"),
    ],
)
def test_prompts_that_cannot_be_used(tmp_path: Path, name: str, data: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=says):
        load_prompts(tmp_path / name)
    with pytest.raises(InputError, match="cannot read"):
        load_prompts(tmp_path / "missing.json")
    with pytest.raises(InputError, match="/dev/zero is too large for a list of prompts"):
        load_prompts(Path("/dev/zero"))


def test_rounds_by_depth() -> None:
    stats = SpeculationStats()
    for depth in (0, 3, 3, 1, 0):
        stats.add(drafted=depth, accepted=0, kept=1)
    assert depth_counts(stats) == {0: 2, 1: 1, 3: 2}
    assert depth_counts(SpeculationStats()) == {}


def test_a_speedup_is_the_median_of_neighbouring_runs() -> None:
    plain = Result("a", "plain", [10.0, 20.0, 40.0])
    auto = Result("a", "auto", [20.0, 30.0, 120.0])
    assert auto.speedup(plain) == 2.0
    assert plain.speedup(plain) == 1.0


def test_each_comes_behind_more_than_one_other() -> None:
    names = ["plain", "auto", "1", "3"]
    turns = [in_turn(names, turn) for turn in range(4)]
    assert [turn[0] for turn in turns] == names
    assert all(sorted(turn) == sorted(names) for turn in turns)
    for name in names:
        before = {turn[turn.index(name) - 1] for turn in turns if turn[0] != name}
        assert len(before) > 1


def test_in_each_run_every_mode_comes_first_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    session: Any = SimpleNamespace(engine=SimpleNamespace(policy=None))
    asked: list[DepthPolicy] = []

    def generate(*_: object) -> tuple[list[int], float]:
        asked.append(session.engine.policy)
        return [1, 2], 1.0

    monkeypatch.setattr(bench, "_generate", generate)
    prompts: list[Prompt] = ["a", "b", "c"]
    bench.run(
        session,
        [Workload("own", prompts)],
        ["plain", "1", "3"],
        SamplingConfig(),
        runs=1,
        max_tokens=2,
    )
    firsts = asked[::3]
    assert firsts[:3] == [FixedDepth(0), FixedDepth(1), FixedDepth(3)]
    assert set(firsts[3:]) == set(firsts[:3])


def test_the_picture_is_svg_and_text_in_it_is_text(tmp_path: Path) -> None:
    found = [[Result("<b>&", "plain", [10.0]), Result("<b>&", "auto", [15.0])]]
    (tmp_path / "p.svg.part").write_text("mine")
    write_plot(tmp_path / "p.svg", "a \x1b[31m name", found)
    texts = [
        element.text
        for element in ET.parse(tmp_path / "p.svg").iter("{http://www.w3.org/2000/svg}text")
    ]
    assert "1.50x" in texts and "<b>&" in texts
    assert "a ␛[31m name" in texts
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.svg", "p.svg.part"]
    assert (tmp_path / "p.svg.part").read_text() == "mine"
