"""Other machines, as llama.cpp's RPC backend sees them: their memory and processors are devices.

The protocol has neither passwords nor encryption, and a server trusts its client with its memory.
"""

from __future__ import annotations

import ctypes
import functools
import ipaddress
import socket
import struct
import time
from collections.abc import Sequence
from typing import Any

from mtpcli.errors import UsageError
from mtpcli.llama import abort
from mtpcli.llama import lib as llama
from mtpcli.llama.devices import choose_devices, devices

PORT = 50052
SAFE = "use loopback with an SSH tunnel (`ssh -L 50052:localhost:50052 HOST`), or a VPN"
# ggml-rpc.h: what the client in the binding speaks, and what it asks of a server.
_MAJOR, _MINOR = 7, 0
_HELLO = struct.pack("<BQ24x", 14, 24)
_REPLY = struct.Struct("<Q3B25x")
_SECONDS = 5.0


def parse_endpoints(text: str) -> tuple[str, ...]:
    """HOST:PORT of every server in a list with commas, each once; the port may be left out.

    Raises:
        UsageError: an address that is none.
    """
    found = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        host, colon, port = part.partition(":")
        if not host or "/" in host or (colon and not (port.isdecimal() and 0 < int(port) < 65536)):
            raise UsageError(
                f"--rpc {part!r} is not HOST:PORT (a name or an IPv4 address, and a number)"
            )
        found.append(f"{host}:{port or PORT}")
    if not found:
        raise UsageError("--rpc names no server: give HOST:PORT, as in localhost:50052")
    return tuple(dict.fromkeys(found))


def public(host: str) -> bool:
    """Whether a name or an address is one that the whole internet may reach."""
    try:
        found = socket.getaddrinfo(host, None, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False  # to connect will say what is wrong with it
    return any(ipaddress.ip_address(entry[4][0]).is_global for entry in found)


def greet(endpoint: str, seconds: float = _SECONDS) -> None:
    """See that a server is there, free, and speaks this version; llama.cpp aborts if not.

    Raises:
        UsageError: it is not.
    """
    host, _, port = endpoint.partition(":")
    reply = b""
    try:
        with socket.create_connection((host, int(port)), seconds) as connection:
            connection.sendall(_HELLO)
            while len(reply) < _REPLY.size and (part := connection.recv(_REPLY.size - len(reply))):
                reply += part
    except TimeoutError:
        raise UsageError(
            f"RPC server {endpoint} does not answer: is it busy with another client?"
        ) from None
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"no RPC server at {endpoint} ({reason}): start `mtpcli rpc-server` there"
        ) from None
    size, major, minor, patch = _REPLY.unpack(reply) if len(reply) == _REPLY.size else (0,) * 4
    if size != _REPLY.size - 8:
        raise UsageError(f"{endpoint} is not an RPC server of llama.cpp, or of a much older one")
    if major != _MAJOR or minor > _MINOR:
        raise UsageError(
            f"RPC server {endpoint} speaks version {major}.{minor}.{patch} and this llama.cpp "
            f"{_MAJOR}.{_MINOR}: install the same version of llama-cpp-python on both"
        )


def add_servers(endpoints: Sequence[str]) -> None:
    """Make the servers' devices known to llama.cpp.

    Raises:
        UsageError: the binding has no RPC, or a server is not there.
    """
    if not endpoints:
        return
    _backend()
    for endpoint in endpoints:
        greet(endpoint)
        _add(endpoint)
    abort.explain_by(functools.partial(_lost, tuple(endpoints)))


def serve(host: str, port: int, threads: int) -> None:
    """Lend the GPUs, or else the CPU with so many threads, until the process is ended.

    Raises:
        UsageError: the binding has no RPC, or the address cannot be used.
    """
    text, size = ctypes.c_char_p, ctypes.c_size_t
    start = _function("start_server", None, text, text, size, size, ctypes.c_void_p)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"cannot listen on {host}:{port}: {reason}") from None
    lent = choose_devices(()) or [device for device in devices() if device.kind == "cpu"]
    handles = (ctypes.c_void_p * len(lent))(*(device.handle for device in lent))
    start(f"{host}:{port}".encode(), None, threads, len(lent), handles)
    raise UsageError(f"llama.cpp cannot serve {host}:{port}")


_library = functools.cache(llama.ggml)


@functools.cache
def _backend() -> int:
    """The RPC backend.

    Raises:
        UsageError: the binding was built without.
    """
    library = _library()
    library.ggml_backend_reg_by_name.restype = ctypes.c_void_p
    backend: int | None = library.ggml_backend_reg_by_name(b"RPC")
    if backend is None:
        version = llama.versions()["llama-cpp-python"]
        raise UsageError(
            "the installed llama-cpp-python was built without RPC. Install it with: "
            'CMAKE_ARGS="-DGGML_RPC=on" pip install --force-reinstall --no-cache-dir --no-deps '
            f"--no-binary llama-cpp-python llama-cpp-python=={version}"
        )
    return backend


def _function(name: str, result: Any, *arguments: Any) -> Any:
    """A function of the RPC backend, which may be in a library of its own."""
    address = _library().ggml_backend_reg_get_proc_address
    address.restype, address.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]
    found = address(_backend(), f"ggml_backend_rpc_{name}".encode())
    return ctypes.CFUNCTYPE(result, *arguments)(found)


@functools.cache
def _add(endpoint: str) -> None:
    server = _function("add_server", ctypes.c_void_p, ctypes.c_char_p)(endpoint.encode())
    if server is None:
        raise UsageError(f"RPC server {endpoint} has no devices")
    register = _library().ggml_backend_register
    register.argtypes = [ctypes.c_void_p]
    register(server)


def _lost(endpoints: tuple[str, ...], message: str) -> str:
    """Which server is gone; the main thread waits for an answer of its that never comes."""
    if "RPC" not in message:
        return f"llama.cpp gave up: {message}"
    time.sleep(0.2)  # until the system has closed what belonged to it
    gone = [endpoint for endpoint in endpoints if not _listens(endpoint)]
    names = ", ".join(gone or endpoints)
    return f"lost the RPC server {names}: start it again, then run the command again"


def _listens(endpoint: str) -> bool:
    host, _, port = endpoint.partition(":")
    try:
        socket.create_connection((host, int(port)), 1.0).close()
    except OSError:
        return False
    return True
