"""`mtpcli rpc-server`: lend this machine to one that runs a larger model."""

from __future__ import annotations

from typing import Annotated

import typer


def rpc_server(
    host: Annotated[
        str, typer.Option("--host", "-H", help="Address to listen on, IPv4.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", "-p", min=1, max=65535, help="Port to listen on.")
    ] = 50052,
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0 is one per core.")] = 0,
) -> None:
    """Lend this machine's memory and processors to `--rpc` on another one.

    Its GPUs are lent, and where there are none its CPU. One client at a time
    is served, until Ctrl-C.

    There are no passwords and no encryption: whoever reaches the port can use
    the machine and read what is computed. Listen on loopback and let the other
    machine come through an SSH tunnel, or on the address of a VPN.

    Examples:

        mtpcli rpc-server
        mtpcli rpc-server --host 10.8.0.2 --port 50053 --threads 8
    """
    import os
    import signal

    from mtpcli.cli.output import note
    from mtpcli.llama import rpc
    from mtpcli.llama.lib import default_threads

    if host == "0.0.0.0" or rpc.public(host):
        note(f"warning: {host} may be reached by strangers, and there is no password: {rpc.SAFE}")
    # What llama.cpp tells of its clients is not an answer.
    os.dup2(2, 1)
    # It waits for clients where Python hears no signal.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    rpc.serve(host, port, threads or default_threads())
