"""Addresses of RPC servers, and what is found there; no server of llama.cpp's is needed."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from mtpcli.errors import UsageError
from mtpcli.llama import rpc
from tests.conftest import PATIENCE

# What a server says: the length of the rest, its version, what else it can do.
REPLY = struct.Struct("<Q3B25x")


def test_addresses() -> None:
    found = rpc.parse_endpoints("10.0.0.2:5000, gpu-box ,10.0.0.2:5000,")
    assert found == ("10.0.0.2:5000", "gpu-box:50052")


@pytest.mark.parametrize("text", [":5000", "host:", "host:0", "host:65536", "http://host", "::1"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(UsageError, match="is not HOST:PORT"):
        rpc.parse_endpoints(text)


@pytest.mark.parametrize(
    ("host", "reachable"),
    [
        ("127.0.0.1", False),
        ("localhost", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.1.1", False),
        ("100.64.0.7", False),  # shared by a provider, or a VPN's
        ("8.8.8.8", True),
        ("172.32.0.1", True),
    ],
)
def test_what_is_public(host: str, reachable: bool) -> None:
    assert rpc.public(host) is reachable


def test_a_name_that_nobody_knows_is_not_public(monkeypatch: pytest.MonkeyPatch) -> None:
    # Some networks know every name.
    def unknown(*_arguments: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(rpc.socket, "getaddrinfo", unknown)
    assert rpc.public("no.such.host") is False


@pytest.fixture
def server() -> Iterator[Callable[[bytes | None], str]]:
    """Start something that answers a greeting with these bytes, or never; its address."""
    open_sockets: list[socket.socket] = []

    def start(reply: bytes | None) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        open_sockets.append(listener)

        def answer() -> None:
            connection, _ = listener.accept()
            open_sockets.append(connection)
            connection.recv(1024)
            if reply is not None:
                connection.sendall(reply)
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield start
    for one in open_sockets:
        one.close()


def test_a_server_of_this_version(server: Any) -> None:
    rpc.greet(server(REPLY.pack(28, 7, 0, 3)), PATIENCE)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (REPLY.pack(28, 6, 0, 0), r"speaks version 6\.0\.0 and this llama\.cpp 7\.0"),
        (REPLY.pack(28, 7, 1, 0), r"speaks version 7\.1\.0"),
        (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", "is not an RPC server"),
        (b"", "is not an RPC server"),
    ],
)
def test_other_servers(server: Any, reply: bytes, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        rpc.greet(server(reply), PATIENCE)


def test_a_server_that_serves_somebody_else(server: Any) -> None:
    with pytest.raises(UsageError, match="busy with another client"):
        rpc.greet(server(None), seconds=0.1)


def test_nobody_there() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))  # nobody else gets the port, and nobody listens there
        port = silent.getsockname()[1]
        with pytest.raises(
            UsageError, match=rf"no RPC server at 127\.0\.0\.1:{port} \(Connection re"
        ):
            rpc.greet(f"127.0.0.1:{port}")


def test_a_binding_without_rpc_says_how_to_get_one_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Library:
        @staticmethod
        def ggml_backend_reg_by_name(name: bytes) -> None:
            assert name == b"RPC"

    monkeypatch.setattr(rpc, "_library", Library)
    rpc._backend.cache_clear()
    with pytest.raises(UsageError, match=r'CMAKE_ARGS="-DGGML_RPC=on" pip install .*==0\.3\.'):
        rpc.add_servers(["127.0.0.1:1"])
