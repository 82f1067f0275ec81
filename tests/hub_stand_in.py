"""A stand-in for the Hugging Face Hub on loopback, with its redirects, headers and bad days.

Built after the Hub's documented behaviour: `/api/models/...` lists files with sizes and hashes;
`/resolve/` answers 302 to a storage host for large files, with the hash in `X-Linked-Etag`, and 307
to `/api/resolve-cache/` for small ones; errors are told apart by `X-Error-Code`. The storage is a
server on another port, so that what crosses hosts can be seen.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, quote, unquote, urlsplit

import pytest

TOKEN = "hf_standInTokenOfNobody"
SIGNATURE = "signatureOfAStorageAddress"
LARGE = 10_000
# Large by their kind, whatever their size: as in the .gitattributes of repositories there.
_LARGE_KINDS = (".safetensors", ".gguf")


@dataclass
class Repository:
    """Files by name, and who may have them.

    Attributes:
        access: `open`, `gated` (a token is wanted), `refused` (a token is not enough) or `private`.
    """

    files: dict[str, bytes]
    access: str = "open"
    commit: str = ""

    def __post_init__(self) -> None:
        names = "".join(f"{name}{hashlib.sha1(data).hexdigest()}" for name, data in self.all())
        self.commit = self.commit or hashlib.sha1(names.encode()).hexdigest()

    def all(self) -> list[tuple[str, bytes]]:
        return sorted(self.files.items())


@dataclass
class Fault:
    """What goes wrong once, with the next request for a file (`*` is any).

    Attributes:
        kind: `status`, `cut` (the connection breaks), `bytes` (wrong ones), `whole` (ranges are
            not obeyed), `shifted` (another range), `extra` (more bytes than listed).
        then: what goes wrong after that.
    """

    name: str
    kind: str
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    after: int = 0
    then: Fault | None = None


@dataclass
class Request:
    host: str
    method: str
    path: str
    headers: dict[str, str]


class StandIn:
    """The Hub and its storage.

    Attributes:
        repositories: by name.
        faults: what is still to go wrong, in order.
        requests: all that were made.
        moved: old names of repositories to new ones.
    """

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.moved: dict[str, str] = {}
        self._lock = threading.Lock()
        self.hub = self._serve("hub")
        self.storage = self._serve("storage")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.hub.server_port}"

    def add(self, name: str, source: Path | dict[str, bytes], access: str = "open") -> None:
        if isinstance(source, Path):
            files = [path for path in source.rglob("*") if path.is_file()]
            source = {str(path.relative_to(source)): path.read_bytes() for path in files}
        self.repositories[name] = Repository(dict(source), access)

    def asked_for(self, name: str) -> list[Request]:
        """Requests for bytes of a file."""
        return [r for r in self.requests if r.method == "GET" and r.path.endswith(quote(name))]

    def take_fault(self, name: str, kinds: tuple[str, ...]) -> Fault | None:
        with self._lock:
            for fault in self.faults:
                if fault.name in ("*", name) and fault.kind in kinds:
                    self.faults.remove(fault)
                    self.faults += [fault.then] if fault.then else []
                    return fault
        return None

    def _serve(self, host: str) -> ThreadingHTTPServer:
        stand_in = self

        class Handler(_Handler):
            standing_in = stand_in
            name = host

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return server

    def close(self) -> None:
        for server in (self.hub, self.storage):
            server.shutdown()
            server.server_close()


@contextmanager
def hub_stand_in() -> Iterator[StandIn]:
    stand_in = StandIn()
    try:
        yield stand_in
    finally:
        stand_in.close()


def forget_tokens(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No token of whoever runs the tests is sent anywhere."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(folder / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def git_blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def is_large(name: str, data: bytes) -> bool:
    return name.endswith(_LARGE_KINDS) or len(data) > LARGE


class _Handler(BaseHTTPRequestHandler):
    standing_in: StandIn
    name: str
    protocol_version = "HTTP/1.1"

    def log_message(self, *_arguments: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        address = urlsplit(self.path)
        path = unquote(address.path)
        headers = {key.lower(): value for key, value in self.headers.items()}
        self.standing_in.requests.append(Request(self.name, self.command, address.path, headers))
        query = parse_qs(address.query)
        if self.name == "storage":
            repository, _, file = path.strip("/").partition("/-/")
            if query.get("X-Signature") != [SIGNATURE]:
                return self._send(403, b"AccessDenied")
            return self._file(repository, file, {})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
            return self._info(match[1], match[2], "blobs" in query)
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            return self._resolve(match[1], match[2], match[3])
        if match := re.fullmatch(r"/api/resolve-cache/models/([^/]+/[^/]+)/([^/]+)/(.+)", path):
            return self._file(match[1], match[3], {"X-Repo-Commit": match[2]})
        return self._send(404, b"Not Found")

    def _info(self, name: str, revision: str | None, blobs: bool) -> None:
        if fault := self.standing_in.take_fault("/api", ("status",)):
            return self._send(fault.status, b"busy", fault.headers)
        if name in self.standing_in.moved:
            return self._send(307, b"", {"Location": f"/api/models/{self.standing_in.moved[name]}"})
        repository = self._known(name, files=False)
        if repository is None:
            return None
        if revision not in (None, "main", repository.commit):
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        siblings: list[dict[str, Any]] = []
        for file, data in repository.all():
            entry: dict[str, Any] = {"rfilename": file}
            if blobs:
                entry |= {"size": len(data), "blobId": git_blob(data)}
                if is_large(file, data):
                    sha256 = hashlib.sha256(data).hexdigest()
                    entry["lfs"] = {"sha256": sha256, "size": len(data), "pointerSize": 134}
            siblings.append(entry)
        info: dict[str, Any] = {
            "id": name,
            "modelId": name,
            "sha": repository.commit,
            "siblings": siblings,
        }
        info |= {"private": False, "gated": repository.access in ("gated", "refused") and "manual"}
        return self._send(200, json.dumps(info).encode(), {"Content-Type": "application/json"})

    def _known(self, name: str, *, files: bool) -> Repository | None:
        """The repository, if whoever asks may see it (or have its files); else it is answered."""
        authorization = self.headers.get("Authorization")
        if authorization not in (None, f"Bearer {TOKEN}"):
            message = "Invalid credentials in Authorization header"
            self._send(401, b"{}", {"X-Error-Message": message})
            return None
        repository = self.standing_in.repositories.get(name)
        if repository is None or (repository.access == "private" and not authorization):
            status = 404 if authorization else 401
            self._send(status, b"{}", {"X-Error-Code": "RepoNotFound"})
            return None
        if files and repository.access in ("gated", "refused"):
            if authorization and repository.access == "gated":
                return repository
            self._send(403 if authorization else 401, b"{}", {"X-Error-Code": "GatedRepo"})
            return None
        return repository

    def _resolve(self, name: str, revision: str, file: str) -> None:
        if fault := self.standing_in.take_fault(file, ("status",)):
            return self._send(fault.status, b"busy", fault.headers)
        repository = self._known(name, files=True)
        if repository is None:
            return None
        if revision not in ("main", repository.commit):
            return self._send(404, b"{}", {"X-Error-Code": "RevisionNotFound"})
        if file not in repository.files:
            return self._send(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        data = repository.files[file]
        headers = {"X-Repo-Commit": repository.commit}
        if not is_large(file, data):
            place = f"/api/resolve-cache/models/{name}/{repository.commit}/{quote(file)}"
            return self._send(307, b"", headers | {"Location": place})
        storage = f"http://127.0.0.1:{self.standing_in.storage.server_port}"
        headers["Location"] = f"{storage}/{name}/-/{quote(file)}?X-Signature={SIGNATURE}"
        headers["X-Linked-Etag"] = f'"{hashlib.sha256(data).hexdigest()}"'
        headers["X-Linked-Size"] = str(len(data))
        return self._send(302, b"", headers)

    def _file(self, name: str, file: str, headers: dict[str, str]) -> None:
        kinds = ("cut", "bytes", "whole", "shifted", "extra")
        fault = self.standing_in.take_fault(file, kinds) if self.command == "GET" else None
        data = self.standing_in.repositories[name].files[file]
        large = is_large(file, data)
        etag = hashlib.md5(data).hexdigest() if large else git_blob(data)
        headers |= {"ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if fault and fault.kind == "bytes":
            data = bytes(byte ^ 1 for byte in data[:64]) + data[64:]
        if fault and fault.kind == "extra":
            data += b"more"
        status, begin = 200, 0
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if wanted and not (fault and fault.kind == "whole"):
            begin = int(wanted[1])
            if begin >= len(data):
                return self._send(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            if fault and fault.kind == "shifted":
                begin = 0
            status = 206
            headers["Content-Range"] = f"bytes {begin}-{len(data) - 1}/{len(data)}"
        body = data[begin:]
        if fault and fault.kind == "cut":
            self._head(status, headers | {"Content-Length": str(len(body))})
            self.wfile.write(body[: fault.after])
            self.wfile.flush()
            self.close_connection = True
            return None
        return self._send(status, body, headers)

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self._head(status, {"Content-Length": str(len(body)), **(headers or {})})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.end_headers()
