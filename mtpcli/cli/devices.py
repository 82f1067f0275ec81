"""`mtpcli devices`: what the installed binding can compute on, and how to install more."""

from __future__ import annotations

import shlex
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from mtpcli.llama.devices import Device

# Backends by llama.cpp's names: ours, the CMake option, and what a machine needs beside it.
_BACKENDS = {
    "Vulkan": ("Vulkan", "GGML_VULKAN", "GPUs of all makers: Vulkan headers, glslc, a driver"),
    "MTL": ("Metal", "GGML_METAL", "Apple's GPUs: Xcode's command line tools"),
    "CUDA": ("CUDA", "GGML_CUDA", "Nvidia's GPUs: the CUDA toolkit"),
    "RPC": ("RPC", "GGML_RPC", "other machines"),
}


def list_devices(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """List what can take a model's layers here, and how to install what is missing.

    The names are those of --device. Without that option all GPUs are used that are listed, as far
    as the model fits.

    Examples:

        mtpcli devices
        mtpcli devices --json | jq -r '.devices[].name'
    """
    from mtpcli.cli.output import print_json
    from mtpcli.llama.devices import choose_devices, devices, features
    from mtpcli.llama.lib import default_threads, versions

    found, known = devices(), features()
    default = [device.name for device in choose_devices(())] or ["CPU"]
    report = {
        "versions": versions(),
        "devices": [_row(device, device.name in default) for device in found],
        "cpu": {"threads": default_threads(), "features": known.get("CPU", [])},
        "backends": {
            name: {"installed": key in known, "install": None if key in known else _line(option)}
            for key, (name, option, _) in _BACKENDS.items()
            if key != "MTL" or sys.platform == "darwin"
        },
    }
    if as_json:
        print_json(report)
    else:
        _show(report)


def _row(device: Device, default: bool) -> dict[str, Any]:
    from mtpcli.machine import machine_memory

    free, total = device.free, device.total
    if device.kind == "cpu" and (memory := machine_memory()):
        free, total = memory.available, memory.total  # llama.cpp takes all of it for free
    return {
        "name": device.name,
        "description": device.description,
        "kind": device.kind,
        "backend": device.backend,
        "free_bytes": free,
        "total_bytes": total,
        "default": default,
    }


def _line(option: str) -> str:
    """What installs the binding with one more backend."""
    return (
        f"CMAKE_ARGS=-D{option}=on {shlex.quote(sys.executable)} -m pip install "
        "--force-reinstall --no-deps --no-cache-dir "
        "--no-binary llama-cpp-python 'llama-cpp-python>=0.3.36,<0.3.37'"
    )


def _show(report: dict[str, Any]) -> None:
    from mtpcli.sanitize import one_line

    for device in report["devices"]:
        memory = f"{device['free_bytes'] / 1e9:.1f} of {device['total_bytes'] / 1e9:.1f} GB free"
        parts = [
            device["description"],
            device["kind"],
            memory if device["total_bytes"] else "memory unknown",
            *(["used by default"] if device["default"] else []),
        ]
        typer.echo(f"{one_line(device['name']):<10} {one_line(' · '.join(parts))}")
    cpu = report["cpu"]
    typer.echo(f"\nCPU: {cpu['threads']} threads, {one_line(' '.join(cpu['features']))}")
    for name, backend in report["backends"].items():
        needs = next(needs for known, _, needs in _BACKENDS.values() if known == name)
        if backend["installed"]:
            typer.echo(f"{name}: in this binding")
        else:
            typer.echo(f"{name}: not in this binding ({needs}). To build it in:")
            typer.echo(f"  {backend['install']}")
