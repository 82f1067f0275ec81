"""Options of where and how llama.cpp runs, for every command that loads a model."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from mtpcli.cli import options
from mtpcli.config import FlashAttention, KvType, RuntimeConfig
from mtpcli.errors import UsageError

_PANEL = "Device"
RUNTIME = RuntimeConfig()


def _layers(text: str) -> int | None:
    if text == "auto":
        return None
    if not text.isdecimal() or int(text) >= 2**31:
        raise typer.BadParameter(f"{text!r} is neither auto nor a number of layers")
    return int(text)


def _names(text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise UsageError("--device names no device: `mtpcli devices` lists them, cpu is for none")
    return names


def _servers(text: str | None) -> tuple[str, ...]:
    """Addresses of RPC servers, with a warning of those that strangers may reach."""
    if text is None:
        return ()
    from mtpcli.cli.output import note
    from mtpcli.llama import rpc

    endpoints = rpc.parse_endpoints(text)
    for endpoint in endpoints:
        if rpc.public(endpoint.partition(":")[0]):
            note(
                f"warning: {endpoint} is a public address, and RPC has neither passwords nor "
                f"encryption: {rpc.SAFE}"
            )
    return endpoints


def _runtime(
    threads: options.Threads = 0,
    device: Annotated[
        str | None,
        typer.Option(
            metavar="NAME,...",
            help="Devices, as `mtpcli devices` lists them, or cpu. Default: the GPUs there are.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    rpc: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT,...",
            help="Spread the model over these machines, too, where `mtpcli rpc-server` runs. "
            "There are no passwords: loopback, VPN or SSH tunnel only.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    gpu_layers: Annotated[
        int | None,
        typer.Option(
            parser=_layers,
            metavar="auto|N",
            help="Layers that go to them. Default: auto, as many as fit, the drafter included.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    cpu_moe: Annotated[
        bool,
        typer.Option(
            "--cpu-moe", help="Experts stay in main memory, whatever fits.", rich_help_panel=_PANEL
        ),
    ] = False,
    kv_type: Annotated[
        KvType, typer.Option(help="Type of the KV cache's cells.", rich_help_panel=_PANEL)
    ] = RUNTIME.kv_type,
    flash_attn: Annotated[
        FlashAttention, typer.Option(help="Fused attention.", rich_help_panel=_PANEL)
    ] = RUNTIME.flash_attn,
    mmap: Annotated[
        bool,
        typer.Option(
            "--mmap/--no-mmap", help="Map the file, or read it whole.", rich_help_panel=_PANEL
        ),
    ] = RUNTIME.mmap,
) -> RuntimeConfig:
    """What the options below say; the commands add what is theirs."""
    if flash_attn == "off" and kv_type not in ("f32", "f16", "bf16"):
        raise UsageError(f"--kv-type {kv_type} needs --flash-attn auto or on")
    return RuntimeConfig(
        threads=threads,
        devices=_names(device),
        gpu_layers=gpu_layers,
        cpu_moe=cpu_moe,
        kv_type=kv_type,
        flash_attn=flash_attn,
        mmap=mmap,
        rpc=_servers(rpc),
    )


def with_runtime(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command these options; it gets what they say as its argument `runtime`."""
    own = inspect.signature(command, eval_str=True)
    shared = inspect.signature(_runtime, eval_str=True).parameters

    @functools.wraps(command)
    def run(**given: Any) -> None:
        runtime = _runtime(**{name: given.pop(name) for name in shared})
        command(**given, runtime=runtime)

    parameters = [
        parameter for name, parameter in own.parameters.items() if name != "runtime"
    ] + list(shared.values())
    # Typer reads options from both.
    run.__signature__ = own.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return run
