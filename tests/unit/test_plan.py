"""Planning: sizes against llama.cpp's own, costs solved from times, and what is said about them."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from convert.hf_config import ModelConfig
from mtpcli.decode.depth import token_rates
from mtpcli.decode.round_costs import Costs, Curve
from mtpcli.errors import ModelError, UsageError
from mtpcli.llama.gguf import read_metadata
from mtpcli.machine import MachineMemory
from mtpcli.plan import samples
from mtpcli.plan.blueprint import Blueprint, find_subject, make_blueprint, source_bytes
from mtpcli.plan.memory import Memory, kv_bytes, memory_of
from mtpcli.plan.report import Disk, Report, Speed
from mtpcli.plan.speed import pays_from, plain_speed, rate_at
from mtpcli.synthetic import made_up_pair
from mtpcli.synthetic.shapes import SHAPES, Shape
from tests.conftest import Pair
from tests.unit.test_synthetic import TINY, TINY_EXPERTS

MIB = 1 << 20


def tied(config: ModelConfig) -> ModelConfig:
    return replace(config, tied=True)


@pytest.fixture(scope="module")
def tiny() -> Blueprint:
    return make_blueprint(tied(TINY.target()), "q4_0")


@pytest.mark.parametrize(
    ("name", "quant", "gigabytes"),
    [("E2B", "bf16", 9.26), ("12b", "bf16", 23.8), ("26B-A4B", "bf16", 50.5), ("31b", "bf16", 61.4),
     ("e2b", "Q4_0", 2.81), ("e2b", "Q4_K_M", 3.40)],
)  # fmt: skip
def test_sizes_of_the_family(name: str, quant: str, gigabytes: float) -> None:
    subject = find_subject(name, quant)
    assert subject.target.n_bytes / 1e9 == pytest.approx(gigabytes, rel=0.005)
    assert subject.drafter and subject.drafter.n_bytes < 1e9
    assert source_bytes(subject) >= subject.n_bytes - 1e6
    assert (subject.name, subject.quant) == (SHAPES[name.lower()].name, quant.upper())


def test_a_preset_is_of_mixed_types() -> None:
    types = find_subject("e2b", "q4_k_m").target.types
    assert types["blk.0.attn_q.weight"].name == "Q4_K"
    assert types["blk.0.ffn_down.weight"].name == "Q6_K"
    assert types["token_embd.weight"].name == "Q6_K"
    assert types["blk.0.attn_norm.weight"].name == "F32"


@pytest.mark.parametrize(
    "name",
    ["google/gemma-4-26B-A4B-it", "someone/Gemma-4-26b-a4b-it-qat-GGUF:Q8_0", "26B-A4B:q8_0"],
)
def test_names_of_repositories(name: str) -> None:
    subject = find_subject(name, None)
    assert subject.name == "26B-A4B"
    assert subject.quant == ("Q8_0" if ":" in name else "Q4_0")


@pytest.mark.parametrize("name", ["e3b", "google/gemma-3-12b-it", "meta/llama-31b", "", "12"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(UsageError, match="is not one of E2B, E4B, 12B, 26B-A4B, 31B"):
        find_subject(name, None)


def test_types_that_are_none(demo_pair: Pair) -> None:
    with pytest.raises(UsageError, match="--quant q9: is not one of f32"):
        find_subject("e2b", "q9")
    with pytest.raises(UsageError, match="has types of its own"):
        find_subject(str(demo_pair.target), "q8_0")


def test_a_file_is_what_its_header_says(demo_pair: Pair) -> None:
    subject = find_subject(str(demo_pair.target), None)
    file = read_metadata(demo_pair.target)
    assert subject.target.n_bytes == sum(tensor.n_bytes for tensor in file.tensors)
    assert subject.quant == "Q8_0" and subject.drafter
    assert subject.drafter.config.centroids > 0
    assert subject.target.config.shared_kv_layers == 20 and subject.target.config.double_wide
    with pytest.raises(ModelError, match="is a drafter"):
        find_subject(str(demo_pair.drafter), None)


def test_a_checkpoint_that_is_here() -> None:
    folder = Path(__file__).parent.parent.parent / "mtpcli" / "demo" / "target"
    subject = find_subject(str(folder), "q8_0")
    assert subject.target.n_bytes / 1e6 == pytest.approx(17.17, rel=0.01)
    assert subject.drafter is None


CONTEXTS = [(256, False), (1000, False), (1024, True)]


@pytest.mark.parametrize("shape", [TINY, TINY_EXPERTS], ids=lambda shape: shape.name)
def test_a_cache_is_as_large_as_llama_cpp_makes_it(
    tmp_path: Path, in_subprocess: Callable[[str], None], shape: Shape
) -> None:
    pair = made_up_pair(shape, [0.5], cache=tmp_path)
    log = tmp_path / "log"
    in_subprocess(f"""
        import ctypes
        from pathlib import Path
        import llama_cpp.llama_cpp as lib
        from mtpcli.config import RuntimeConfig
        from mtpcli.llama import lib as llama
        from mtpcli.llama.context import TargetContext
        from mtpcli.llama.model import Model
        llama.load()
        said = []
        callback = lib.llama_log_callback(lambda level, text, data: said.append(text.decode()))
        lib.llama_log_set(callback, ctypes.c_void_p(0))
        with Model(Path({str(pair.target)!r})) as model:
            for n_ctx, swa_full in {CONTEXTS}:
                TargetContext(model, RuntimeConfig(n_ctx, 1, 1, swa_full)).close()
        llama.hold_log()
        Path({str(log)!r}).write_text("".join(said))
    """)
    said = re.findall(r"KV buffer size = +([\d.]+) MiB", log.read_text())
    sizes = np.array(said, float).reshape(-1, 2).sum(axis=1)  # full layers, and sliding ones
    known = [kv_bytes(shape.target(), n_ctx, swa_full=whole) for n_ctx, whole in CONTEXTS]
    np.testing.assert_allclose(sizes, np.array(known) / MIB, atol=0.02)


def test_memory_is_a_sum() -> None:
    subject = find_subject("31b", "q4_0")
    memory = memory_of(subject, 8192)
    assert memory.weights == subject.target.n_bytes
    # 10 full layers of 4 heads, 50 sliding ones of 16 that keep 1536 cells; keys, values, f16.
    assert memory.kv == 10 * 8192 * 4 * 512 * 4 + 50 * 1536 * 16 * 256 * 4
    parts = memory.weights + memory.kv + memory.drafter + memory.compute + memory.program
    assert memory.total == parts
    assert memory_of(subject, 32768).kv > memory.kv


@pytest.mark.parametrize(
    ("available", "total", "verdict"),
    [
        (11, 20, "fits"),
        (10, 20, "fits"),
        (9, 20, "swaps"),
        (9, 10, "swaps"),
        (9, 9, "does not fit"),
    ],
)
def test_verdicts(available: int, total: int, verdict: str) -> None:
    memory = Memory(weights=4, kv=3, drafter=2, compute=1, program=0)
    assert memory.verdict(MachineMemory(total, available)) == verdict


def test_costs_are_found_from_times() -> None:
    design = np.array([[1, 2, 0, 1], [1, 6, 0, 0], [1, 14, 0, 0], [1, 2, 20, 0]], float)
    costs = np.array([0.5, 0.25, 0.125, 7.0])
    np.testing.assert_allclose(samples.solve(design, design @ costs), costs)


def test_costs_are_never_negative() -> None:
    design = np.array([[1, 2, 0], [1, 6, 0], [1, 14, 0]], float)
    found = samples.solve(design, np.array([1.9, 6.1, 14.2]))  # which would make -0.1 of the first
    assert found[0] == 0 and found[2] == 0  # no sample has the third
    assert found[1] == pytest.approx(1, rel=0.03)
    assert (samples.solve(design, np.array([3.0, 2.0, 1.0])) >= 0).all()


@pytest.mark.parametrize("name", SHAPES)
def test_samples_are_small_and_tell_all_parts_apart(name: str) -> None:
    blueprint = make_blueprint(tied(SHAPES[name].target()), "q4_0")
    config = blueprint.config
    chosen = samples.choose_samples(blueprint, 400 * MIB)
    design = np.array([samples.design_row(blueprint, sample) for sample in chosen])
    parts = 4 if config.shared_kv_layers else 3
    assert np.linalg.matrix_rank(design / np.maximum(design.max(axis=0), 1)) == parts
    assert sum(samples.sample_size(blueprint, sample) for sample in chosen) < 6e9
    for sample in chosen:
        own = sample.layers[: len(sample.layers) - sample.shared]
        assert [config.sliding[layer] for layer in own[-2:]] == [True, False]
        assert all(layer < config.first_shared_layer for layer in own)
        assert all(layer >= config.first_shared_layer for layer in sample.layers[len(own) :])
    # Whatever the parts cost, the whole is their sum.
    row = samples.design_row(blueprint, samples.whole(blueprint))
    costs = np.array([1e-3, 3e-11, 2e-11 if parts == 4 else 0, 0.02])
    assert row @ samples.solve(design, design @ costs) == pytest.approx(row @ costs)


def test_a_sample_is_a_file_that_loads(tmp_path: Path, tiny: Blueprint) -> None:
    for number, sample in enumerate(samples.choose_samples(tiny, MIB)):
        path = tmp_path / f"{number}.gguf"
        told: list[int] = []
        samples.write_sample(path, tiny, sample, told.append)
        file = read_metadata(path)
        assert sum(tensor.n_bytes for tensor in file.tensors) == sum(told)
        assert file.arch_value("block_count") == len(sample.layers)
        assert find_subject(str(path), None).target.config.shared_kv_layers == sample.shared


def test_only_the_experts_that_a_token_uses_are_read() -> None:
    blueprint = make_blueprint(tied(TINY_EXPERTS.target()), "q8_0")
    of_experts = 8 * 3 * 256 * 64 * 34 // 32
    assert blueprint.layer_bytes[0] - blueprint.used_bytes[0] == of_experts * 6 // 8
    assert make_blueprint(tied(TINY.target()), "q8_0").used_bytes == (
        make_blueprint(tied(TINY.target()), "q8_0").layer_bytes
    )


FLAT = Costs(Curve(dict.fromkeys((1, 16), 0.1)), Curve({1: 0.001}), rest=0.0)
STEEP = Costs(Curve({rows: 0.1 * rows for rows in (1, 16)}), Curve({1: 0.01}))


def test_rates() -> None:
    assert plain_speed(FLAT) == pytest.approx(10)
    sure = rate_at(FLAT, 1.0)
    assert (sure.depth, sure.tokens_per_second) == (15, pytest.approx(16 / 0.115))
    assert rate_at(FLAT, 0.0).depth == 0 and rate_at(FLAT, 0.0).speedup == 1
    assert rate_at(STEEP, 0.9).depth == 0
    assert pays_from(STEEP) is None
    assert pays_from(FLAT) == 0.05
    half = rate_at(FLAT, 0.5)
    chances = [0.5] * 15
    assert half.tokens_per_second == pytest.approx(max(token_rates(chances, 0.001, [0.1] * 16)))


def report(**changes: object) -> Report:
    """A plan in which all is well."""
    costs = FLAT
    speed = Speed(
        prompt=50.0, plain=10.0, rates=[rate_at(costs, share) for share in (0.5, 0.9)],
        pays_from=0.25, verify_ms={1: 100.0}, draft_ms=1.0, rest_ms=0.1, parts_ms={"head": 20.0},
        layers=4, sample_bytes=10**9, seconds=30.0,
    )  # fmt: skip
    values: dict[str, object] = {
        "name": "E2B", "quant": "Q4_0", "n_ctx": 8192, "threads": 2, "drafter": True, "path": None,
        "layers": 35, "parameters": 5 * 10**9,
        "memory": Memory(3 * 10**9, 10**8, 10**8, 10**8, 0),
        "machine": MachineMemory(16 * 10**9, 8 * 10**9),
        "disk": Disk(3 * 10**9, 9 * 10**9, 20 * 10**9, "/models"),
        "other_quant": None, "speed": speed, "next_command": "mtpcli pull e2b",
    }  # fmt: skip
    return Report(**{**values, **changes})  # type: ignore[arg-type]


def test_advice_when_all_is_well() -> None:
    gain = f"{rate_at(FLAT, 0.9).speedup:.2f}x"
    assert report().verdict == "fits"
    assert report().advice == [
        "It fits: it takes 3.3 GB of memory, 8.0 GB of 16.0 GB are free.",
        "It writes about as fast as one reads: 10.0 tokens/s without a drafter.",
        f"Drafting (MTP) pays from 25% accepted drafts on, and gives {gain}"
        " at 90% acceptance, with 15 tokens a draft. The automatic depth finds this by itself.",
    ]


def test_advice_about_memory() -> None:
    tight, small = MachineMemory(4 * 10**9, 10**9), MachineMemory(2 * 10**9, 10**9)
    swaps = report(machine=tight, other_quant="Q2_K")
    assert swaps.verdict == "swaps"
    assert "It swaps" in swaps.advice[0] and "Q2_K would fit." in swaps.advice[0]
    none = report(machine=small, speed=None)
    assert none.verdict == "does not fit"
    assert "No other type fits either" in none.advice[0]
    assert none.advice[1] == "Its speed was not measured: from the disk it would be useless."
    assert "does not tell" in report(machine=None).advice[0]


def test_advice_about_the_disk() -> None:
    full = report(disk=Disk(3 * 10**9, 9 * 10**9, 11 * 10**9, "/models"))
    assert full.advice[1].startswith("The disk is too small: the checkpoints take 9.0 GB")
    assert report(disk=Disk(3 * 10**9, 0, 0, "/models")).disk.fits


@pytest.mark.parametrize(
    ("plain", "said"),
    [(25.0, "It is fast"), (3.0, "It is slow"), (0.5, "too slow to talk to")],
)
def test_advice_about_speed(plain: float, said: str) -> None:
    speed = report().speed
    assert speed
    assert said in report(speed=replace(speed, plain=plain)).advice[1]


@pytest.mark.parametrize(
    ("pays", "rates", "said"),
    [
        (None, (FLAT, 0.5, 0.9), "never pays here"),
        (0.95, (FLAT, 0.5, 0.9), "Plain decoding is the better choice: .* only from 95%"),
        (0.4, (FLAT, 0.05, 0.1), "Plain decoding is the better choice"),
        (0.05, (FLAT, 0.05, 0.1), "helps little: it pays from 5%"),
    ],
)
def test_advice_about_drafting(
    pays: float | None, rates: tuple[Costs, float, float], said: str
) -> None:
    speed = report().speed
    assert speed
    costs, *shares = rates
    told = replace(speed, pays_from=pays, rates=[rate_at(costs, share) for share in shares])
    assert re.search(said, report(speed=told).advice[-1])
    assert report(speed=replace(speed, rates=[])).advice[-1] == "No drafter is known for it."


def test_advice_about_a_busy_machine() -> None:
    speed = report().speed
    assert speed
    assert "differed by 40%" in report(speed=replace(speed, spread=0.4)).advice[-1]
