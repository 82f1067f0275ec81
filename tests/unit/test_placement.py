"""Layers on devices: what fits, where the drafter goes, and what happens when a device fails."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest

from mtpcli import costs
from mtpcli.config import CPU, DraftConfig, KvType, RuntimeConfig, SamplingConfig
from mtpcli.costs import costs_file
from mtpcli.errors import ModelError, UsageError
from mtpcli.llama import devices
from mtpcli.llama import lib as llama
from mtpcli.llama.devices import Device, choose_devices
from mtpcli.llama.gguf import read_metadata
from mtpcli.machine import MachineMemory
from mtpcli.placement import check_memory, drafter_layers, layers_that_fit, place
from mtpcli.session import PairPaths, Session
from tests.conftest import Pair

RUNTIME = RuntimeConfig(n_ctx=256, threads=1)
MAIN = Device("CPU", "A processor", "cpu", "CPU", 1 << 34, 1 << 34)
GPU = Device("Vulkan0", "A GPU", "gpu", "Vulkan", 1 << 33, 1 << 33, "0000:01")
SAME = Device("CUDA0", "A GPU", "gpu", "CUDA", 1 << 33, 1 << 33, "0000:01")
SMALL = Device("Vulkan1", "In the processor", "integrated gpu", "Vulkan", 1 << 33, 1 << 33)
FAR = Device("RPC0", "there:50052", "gpu", "RPC", 1 << 33, 1 << 33)


def test_what_fits_grows_with_the_memory(demo_pair: Pair) -> None:
    target, drafter = read_metadata(demo_pair.target), read_metadata(demo_pair.drafter)
    everything = int(target.metadata["gemma4.block_count"]) + 1  # type: ignore[arg-type]
    counts = [
        layers_that_fit(target, drafter, RUNTIME, [(256 << 20) + (megabytes << 20)])
        for megabytes in range(0, 200, 2)
    ]
    assert counts == sorted(counts)
    assert counts[0] == 0
    assert counts[-1] == everything
    # A device that does not tell is believed.
    assert layers_that_fit(target, drafter, RUNTIME, [0]) == everything
    # A longer context and a drafter take room.
    tight = [(256 << 20) + (2 * counts.index(everything) << 20)]
    assert layers_that_fit(target, drafter, replace(RUNTIME, n_seq=64), tight) < everything
    assert layers_that_fit(target, None, RUNTIME, tight) == everything


def test_a_keeper_takes_the_place_of_nothing_else(demo_pair: Pair) -> None:
    target, drafter = read_metadata(demo_pair.target), read_metadata(demo_pair.drafter)
    wanted = RuntimeConfig(n_ctx=4096, n_seq=2, keeper=True)
    lean = replace(wanted, keeper=False)
    everything = layers_that_fit(target, drafter, wanted, [0])
    kept = set()
    for megabytes in range(0, 400, 2):
        free = [(256 << 20) + (megabytes << 20)]
        for layers in (None, 2):
            placed = place(target, drafter, replace(wanted, gpu_layers=layers), free)
            without = place(target, drafter, replace(lean, gpu_layers=layers), free)
            assert replace(placed, keeper=False) == without
            kept.add((layers, placed.keeper, placed.gpu_layers == everything))
    assert {(None, True, True), (None, False, True), (2, True, False)} <= kept
    # In main memory it is the first to go, before the context is refused.
    found: list[RuntimeConfig | None] = []
    for megabytes in range(300):
        try:
            found.append(check_memory(target, wanted, MachineMemory(10**9, megabytes << 20)))
        except ModelError:
            found.append(None)
    assert [each for at, each in enumerate(found) if each not in found[:at]] == [None, lean, wanted]


def test_the_drafter_goes_where_its_cells_are(demo_pair: Pair) -> None:
    target = read_metadata(demo_pair.target)
    everything = int(target.metadata["gemma4.block_count"]) + 1  # type: ignore[arg-type]
    counts = [drafter_layers(target, layers) for layers in range(everything + 1)]
    assert counts == sorted(counts)
    assert counts[0] == counts[1] == 0  # of the target it is the output at most
    assert counts[-1]


@pytest.mark.parametrize(
    ("there", "names", "chosen"),
    [
        ([GPU, MAIN], (), ["Vulkan0"]),
        ([GPU, SAME, SMALL, FAR, MAIN], (), ["RPC0", "Vulkan0"]),
        ([SMALL, MAIN], (), ["Vulkan1"]),
        ([SMALL, FAR, MAIN], (), ["RPC0", "Vulkan1"]),
        ([GPU, SMALL, MAIN], ("vulkan1",), ["Vulkan1"]),
        ([GPU, MAIN], ("CPU",), []),
        ([MAIN], (), []),
    ],
)
def test_devices_are_chosen(
    monkeypatch: pytest.MonkeyPatch, there: list[Device], names: tuple[str, ...], chosen: list[str]
) -> None:
    monkeypatch.setattr(devices, "devices", lambda: there)
    assert [device.name for device in choose_devices(names)] == chosen


def test_an_unknown_device_is_answered_with_the_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "devices", lambda: [GPU, MAIN])
    with pytest.raises(UsageError, match=r"'cuda0'; there is: cpu, Vulkan0"):
        choose_devices(["CUDA0"])
    with pytest.raises(UsageError, match="stands alone"):
        choose_devices(["cpu", "Vulkan0"])


def tokens(pair: Pair, runtime: RuntimeConfig) -> list[int]:
    with Session(PairPaths(pair.target, pair.drafter), DraftConfig(3), runtime) as session:
        assert session.runtime.devices == CPU
        prompt = session.chat_tokens([{"role": "user", "content": "Write a story about a fox."}])
        request, _ = session.request(prompt, SamplingConfig(seed=7), max_tokens=32)
        sequence = session.engine.generate([request])[0]
        assert sequence.stats.accepted
        return sequence.tokens


class Broken:
    """The binding, with one function that fails as long as a device is in use."""

    def __init__(self, name: str, failed: Any) -> None:
        self._lib, self._name, self._failed = llama.load(), name, failed
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return self._fail if name == self._name and not self.calls else getattr(self._lib, name)

    def _fail(self, *_arguments: object) -> Any:
        self.calls += 1
        return self._failed


@pytest.mark.parametrize(
    ("function", "result"),
    [
        ("llama_model_load_from_file", None),
        ("llama_init_from_model", None),
        ("llama_decode", -3),
    ],
)
def test_a_device_that_fails_gives_the_same_text_on_the_cpu(
    demo_pair: Pair,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    function: str,
    result: Any,
) -> None:
    expected = tokens(demo_pair, replace(RUNTIME, devices=CPU))
    # A device without a handle: llama.cpp itself then computes on the CPU.
    monkeypatch.setattr(devices, "devices", lambda: [GPU, MAIN])
    broken = Broken(function, result)
    monkeypatch.setattr(llama, "load", lambda: broken)
    assert tokens(demo_pair, RUNTIME) == expected
    assert broken.calls == 1
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert told[0].startswith("mtpcli: Vulkan0 failed, and the CPU does it all: llama.cpp ")


def test_a_file_that_fails_on_the_cpu_too_is_an_error(
    demo_pair: Pair, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(devices, "devices", lambda: [GPU, MAIN])

    class Dead(Broken):
        def __getattr__(self, name: str) -> Any:
            return self._fail if name == self._name else getattr(self._lib, name)

    dead = Dead("llama_model_load_from_file", None)
    monkeypatch.setattr(llama, "load", lambda: dead)
    with pytest.raises(ModelError, match="cannot load"):
        tokens(demo_pair, RUNTIME)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("kv_type", get_args(KvType))
def test_drafts_do_not_change_the_text_with_other_cells(demo_pair: Pair, kv_type: Any) -> None:
    runtime = replace(RUNTIME, kv_type=kv_type)
    drafted = tokens(demo_pair, runtime)
    with Session(PairPaths(demo_pair.target, None), DraftConfig(0), runtime) as session:
        prompt = session.chat_tokens([{"role": "user", "content": "Write a story about a fox."}])
        request, _ = session.request(prompt, SamplingConfig(seed=7), max_tokens=32)
        assert session.engine.generate([request])[0].tokens == drafted


def test_another_build_of_llama_cpp_is_measured_for_itself(
    demo_pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(costs, "user_cache_path", lambda *_args, **_options: tmp_path)
    for built_with, files in ((["AVX2"], 2), (["AVX2"], 2), (["AVX2", "OPENMP"], 4)):
        monkeypatch.setattr(devices, "features", lambda names=built_with: {"CPU": names})
        with Session(PairPaths(demo_pair.target, demo_pair.drafter), DraftConfig(), RUNTIME) as one:
            one.compare_rows()
        assert len(list((tmp_path / "costs").iterdir())) == files


def test_what_rounds_cost_depends_on_how_it_runs(demo_pair: Pair) -> None:
    ways: list[Callable[[RuntimeConfig], RuntimeConfig]] = [
        lambda runtime: runtime,
        lambda runtime: replace(runtime, devices=("Vulkan0",)),
        lambda runtime: replace(runtime, gpu_layers=3),
        lambda runtime: replace(runtime, kv_type="q8_0"),
        lambda runtime: replace(runtime, flash_attn="off"),
        lambda runtime: replace(runtime, cpu_moe=True),
    ]
    assert len({costs_file([demo_pair.target], way(RUNTIME)) for way in ways}) == len(ways)
