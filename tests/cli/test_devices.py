"""`mtpcli devices`, and the options of where things run, as a user types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import Result


def test_devices_are_listed(run_cli: Callable[..., Result]) -> None:
    done = run_cli("devices")
    assert (done.exit_code, done.stderr) == (0, "")
    assert any(line.startswith("CPU ") and "GB free" in line for line in done.stdout.splitlines())
    report = json.loads(run_cli("devices", "--json").stdout)
    cpu = next(device for device in report["devices"] if device["name"] == "CPU")
    assert 0 < cpu["free_bytes"] <= cpu["total_bytes"]
    assert {"Vulkan", "CUDA", "RPC"} <= report["backends"].keys()
    for name, backend in report["backends"].items():
        assert backend["installed"] or f"-DGGML_{name.upper()}=on" in backend["install"]
        assert (name in done.stdout) and (
            not backend["install"] or backend["install"] in done.stdout
        )


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("--device", "Warp9", "'warp9'; there is: cpu"),
        ("--device", ",", "names no device"),
        ("--device", "", "names no device"),
        ("--rpc", " ,", "names no server"),
        ("--kv-type", "q9", "q8_0"),
        ("--gpu-layers", "many", "neither auto nor a number"),
        ("--flash-attn", "maybe", "auto"),
    ],
)
def test_a_wrong_value_is_answered_with_the_right_ones(
    run_here: Callable[..., Result], option: str, value: str, says: str
) -> None:
    done = run_here("generate", "Hi", option, value)
    assert (done.exit_code, done.stdout) == (2, "")
    error = done.stderr.splitlines()[-1]
    assert error.startswith("error: ")
    assert option in error and says in error


def test_every_command_that_runs_a_model_takes_them(
    run_cli: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "in.jsonl").write_text('{"prompt": "Hi"}\n')
    given = [
        "--kv-type",
        "q8_0",
        "--flash-attn",
        "on",
        "--no-mmap",
        "--cpu-moe",
        "--device",
        "cpu",
        "--gpu-layers",
        "9",
    ]
    few = ["--threads", "1", "-n", "3", *given]
    for arguments in (
        ["generate", "Hi", *few],
        ["chat", *few],
        ["batch", "in.jsonl", *few],
        ["bench", "--runs", "1", "--per-workload", "1", "--depths", "1", *few],
    ):
        done = run_cli(*arguments, stdin="Hi\n" if arguments[0] == "chat" else b"")
        assert done.exit_code == 0, done.stderr
        assert done.stdout.strip()
