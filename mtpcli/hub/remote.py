"""The Hugging Face Hub: which files a repository has, and getting one of them, whole and checked.

huggingface_hub lists, and brings the session with its proxies, certificates and token. Files are
fetched here, because its own download keeps nothing of a broken transfer for the next run and
believes whatever arrives. Plain HTTP serves what Xet, the Hub's own protocol, stores.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mtpcli.errors import InputError, MtpError, UsageError
from mtpcli.hub.names import parse
from mtpcli.sanitize import one_line

ATTEMPTS = 6
PATIENCE = 300
TIMEOUT = 30
_CHUNK = 1 << 20
_WORTH_TRYING_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_HASHES = {"sha256": re.compile(r"[0-9a-f]{64}"), "git": re.compile(r"[0-9a-f]{40}")}

Advance = Callable[[int], None]
T = TypeVar("T")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository.

    Attributes:
        name: with its folders.
        size: bytes.
        checksum: `sha256:HEX` of a large file, `git:HEX` (its blob's name) of a small one.
    """

    name: str
    size: int
    checksum: str


@dataclass(frozen=True)
class Listing:
    """What a repository has at one commit."""

    repository: str
    revision: str
    files: tuple[RemoteFile, ...]


class Hub:
    """Talks to the Hub, or to whatever `HF_ENDPOINT` names.

    Args:
        say: told in words why something takes longer.
        wait: sleeps.
        endpoint: its address; `HF_ENDPOINT` otherwise, as in huggingface_hub.

    Raises:
        UsageError: that is no address.
    """

    def __init__(
        self,
        say: Callable[[str], None],
        wait: Callable[[float], None] = time.sleep,
        endpoint: str | None = None,
    ) -> None:
        self._say = say
        self._wait = wait
        self._address = (endpoint or os.environ.get("HF_ENDPOINT") or "").rstrip("/") or None
        if self._address and not _is_address(self._address):
            raise UsageError(
                f"HF_ENDPOINT: {self.endpoint} is no address such as https://huggingface.co"
            )

    def listing(self, repository: str, revision: str | None = None) -> Listing:
        """The repository's files.

        Raises:
            NotThere: there is no such repository, or it is hidden from strangers.
            InputError: no way in, or no network.
        """

        def ask() -> Any:
            api = self._library.HfApi(self._address)
            return api.model_info(
                repository, revision=revision, files_metadata=True, timeout=TIMEOUT
            )

        try:
            info = self._patiently(repository, ask)
        except self._library.errors.HFValidationError:
            raise UsageError(f"{repository!r} is no name of a repository") from None
        except (ValueError, TypeError, KeyError, AttributeError):
            raise InputError(f"{_host(self.endpoint)} does not answer as a Hub does") from None
        files = []
        for entry in info.siblings or []:
            lfs = entry.lfs
            size = lfs.size if lfs else entry.size
            checksum = f"sha256:{lfs.sha256}" if lfs else f"git:{entry.blob_id}"
            kind, _, digits = checksum.partition(":")
            sound = isinstance(size, int) and size >= 0 and _HASHES[kind].fullmatch(digits)
            if isinstance(entry.rfilename, str) and sound:
                files.append(RemoteFile(entry.rfilename, size, checksum))
        named = parse(str(info.id))
        if named is None or named.tag or "/" not in str(info.id):
            raise InputError(f"{_host(self.endpoint)} does not answer as a Hub does")
        if not re.fullmatch(r"[0-9a-f]{40}", str(info.sha)):
            raise InputError(f"{self.endpoint} does not say which commit of {repository} it shows")
        if info.siblings and not files and str(info.id) != repository:
            # It was renamed, and the way to its new name lost the question for sizes and hashes.
            return self.listing(str(info.id), revision)
        return Listing(str(info.id), str(info.sha), tuple(files))

    def fetch(self, listing: Listing, file: RemoteFile, blob: Path, advance: Advance) -> None:
        """Get a file: it stands under `blob` when it is whole and has the right checksum.

        Goes on where an earlier transfer ended, in this run or another.

        Args:
            advance: told of bytes as they come, those of an earlier run first.

        Raises:
            InputError: it cannot be had, or what came is not what the repository lists.
        """
        if blob.exists():
            advance(file.size)
            return
        where = f"{file.name} of {listing.repository}"
        with _Part(blob.with_name(f"{blob.name}.part"), file, advance) as part:
            if part.size < file.size:
                self._patiently(
                    listing.repository,
                    lambda: self._transfer(listing, file, part),
                    lambda: part.size,
                )
            if part.digest() != file.checksum:
                part.restart()
                raise InputError(
                    f"{one_line(where)} did not arrive as it is listed (its checksum differs): "
                    "deleted, pull again"
                )
            part.finish(blob)

    @property
    def endpoint(self) -> str:
        """Where the Hub is, without a password that may be in the address."""
        address = self._address or str(self._library.constants.ENDPOINT)
        return re.sub(r"//[^/@]*@", "//", address)

    @cached_property
    def _library(self) -> Any:
        # Read when the library is imported: otherwise it tells, and asks, about the user's tools.
        os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
        import huggingface_hub

        return huggingface_hub

    def _transfer(self, listing: Listing, file: RemoteFile, part: _Part) -> None:
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        from mtpcli import __version__

        url = self._library.hf_hub_url(
            listing.repository, file.name, revision=listing.revision, endpoint=self._address
        )
        headers = build_hf_headers(library_name="mtpcli", library_version=__version__)
        # Compressed, a place to go on from would be one in the compressed bytes.
        headers["Accept-Encoding"] = "identity"
        begin = part.size
        if begin:
            headers["Range"] = f"bytes={begin}-"
        # Redirects are followed anew every time: the addresses behind them are signed and expire.
        # The session keeps the token from other hosts than the first.
        with get_session().stream("GET", url, headers=headers, timeout=TIMEOUT) as response:
            if response.status_code == 416:
                part.restart()
                raise _Again("the server has less than we have")
            hf_raise_for_status(response)
            if begin and not _continues(response, begin):
                part.restart()
            for chunk in response.iter_bytes():
                part.write(chunk)
        if part.size < file.size:
            raise _Again("the connection ended early")

    def _patiently(
        self, repository: str, do: Callable[[], T], progress: Callable[[], int] = lambda: 0
    ) -> T:
        """`do()`, again after what passes: broken connections, busy servers."""
        from huggingface_hub.errors import HfHubHTTPError, HTTPError

        failures, furthest = 0, progress()
        while True:
            asked: float | None = None
            try:
                return do()
            except HfHubHTTPError as error:
                if error.response.status_code not in _WORTH_TRYING_AGAIN:
                    raise self._refusal(repository, error) from None
                reason = f"{_host(self.endpoint)} answers {error.response.status_code}"
                asked = _retry_after(error.response.headers)
            except _Again as error:
                reason = str(error)
            except (HTTPError, ConnectionError) as error:
                if type(error).__name__ == "OfflineModeIsEnabled":
                    raise InputError("HF_HUB_OFFLINE is set: unset it to pull") from None
                reason = _trouble(error, _host(self.endpoint))
            # Not merely more than before: a server that has too little makes us begin anew.
            failures = 1 if progress() > furthest else failures + 1
            furthest = max(furthest, progress())
            pause = asked if asked is not None else 0.5 * 2 ** (failures - 1)
            if failures >= ATTEMPTS or pause > PATIENCE:
                later = f", which asks for {pause:.0f} s of rest" if asked else ""
                raise InputError(
                    f"cannot get {repository}: {reason}{later}; what came is kept: pull again later"
                ) from None
            self._say(f"{reason}: again in {pause:g} s")
            self._wait(pause)

    def _refusal(self, repository: str, error: Any) -> MtpError:
        """A final answer of the Hub, in words. Its own carry addresses with signatures."""
        from huggingface_hub import errors

        page, status = f"{self.endpoint}/{repository}", error.response.status_code
        login = "log in with `hf auth login` or set HF_TOKEN"
        if isinstance(error, errors.GatedRepoError):
            return InputError(
                f"{repository} is gated: accept its licence at {page}, then {login} "
                "as the account that accepted it"
            )
        if isinstance(error, errors.RevisionNotFoundError):
            return UsageError(f"{repository} has no such revision: see {page}/commits/main")
        if isinstance(error, errors.RepositoryNotFoundError):
            return NotThere(
                f"there is no {repository} at {_host(self.endpoint)}, or it is hidden from "
                f"strangers: check the name; if it is private, {login}"
            )
        if status == 401:
            return InputError(f"the token is not accepted: {login} with a new one")
        if status == 403:
            return InputError(
                f"no access to {repository}: accept its licence at {page} if it has one, and use "
                "a token that may read it (HF_TOKEN, `hf auth login`)"
            )
        return InputError(f"cannot get {repository}: {_host(self.endpoint)} answers {status}")


class NotThere(InputError):
    """There is no such repository, or it does not show itself."""


class _Again(Exception):
    """A transfer that ended early, and may go on."""


class _Part:
    """A file on its way: its bytes so far, hashed."""

    def __init__(self, path: Path, file: RemoteFile, advance: Advance) -> None:
        self._path = path
        self._file = file
        self._advance = advance
        self._stream = path.open("ab+")
        self._hash = self._new_hash()
        self.size = 0
        self._stream.seek(0)
        while chunk := self._stream.read(_CHUNK):
            self._count(chunk)
        if self.size > file.size:
            self.restart()

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_error: Any) -> None:
        self._stream.close()
        if not self.size:
            self._path.unlink(missing_ok=True)

    def write(self, chunk: bytes) -> None:
        if self.size + len(chunk) > self._file.size:
            self.restart()
            raise InputError(f"{one_line(self._file.name)} is longer than it is listed: refused")
        try:
            self._stream.write(chunk)
        except OSError as error:
            raise InputError(f"cannot write {self._path}: {error.strerror}") from None
        self._count(chunk)

    def restart(self) -> None:
        """Forget what came; a file of no bytes does not stay."""
        self._stream.truncate(0)
        self._advance(-self.size)
        self._hash, self.size = self._new_hash(), 0

    def digest(self) -> str:
        return f"{self._file.checksum.partition(':')[0]}:{self._hash.hexdigest()}"

    def finish(self, blob: Path) -> None:
        """Give it its name; a power cut must not leave the name without the bytes."""
        self._stream.flush()
        os.fsync(self._stream.fileno())
        self._path.replace(blob)

    def _count(self, chunk: bytes) -> None:
        self._hash.update(chunk)
        self.size += len(chunk)
        self._advance(len(chunk))

    def _new_hash(self) -> Any:
        if self._file.checksum.startswith("sha256:"):
            return hashlib.sha256()
        # Git names a blob by the hash of its kind, its size and its bytes.
        return hashlib.sha1(b"blob %d\0" % self._file.size, usedforsecurity=False)


def _continues(response: Any, begin: int) -> bool:
    """Whether an answer to a request for a range begins where we stopped."""
    answered = response.headers.get("Content-Range", "")
    if response.status_code == 206 and not answered.startswith(f"bytes {begin}-"):
        raise _Again("the server sends another range than asked for")
    return response.status_code == 206


def _trouble(error: Exception, host: str) -> str:
    """A broken connection in words; not its own, which may hold an address with a signature."""
    name = type(error).__name__
    if "Timeout" in name:
        return f"{host} does not answer in time"
    if name in ("ConnectError", "ConnectionError"):
        return f"cannot connect to {host}"
    return f"the connection to {host} broke ({name})"


def _retry_after(headers: Any) -> float | None:
    """Seconds that a busy server asks for: `Retry-After`, else the draft's `RateLimit: ...t=9`."""
    if (text := headers.get("Retry-After", "").strip()).isdecimal():
        return float(text)
    match = re.search(r"\bt=([0-9]+)", headers.get("RateLimit", ""))
    return float(match[1]) if match else None


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, half an IPv6 address
        return False


def _host(endpoint: str) -> str:
    return endpoint.partition("//")[2] or endpoint
