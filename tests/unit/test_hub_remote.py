"""One file at a time from a hub that has bad days: whole, checked, and nothing said of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mtpcli.errors import InputError, MtpError, UsageError
from mtpcli.hub.remote import ATTEMPTS, Hub, Listing, NotThere, RemoteFile
from tests.hub_stand_in import SIGNATURE, TOKEN, Fault, StandIn, forget_tokens, hub_stand_in

NAME = "someone/gemma"
BIG, SMALL = "weights/model.gguf", "config.json"
DATA = bytes(range(256)) * 4000
FILES = {BIG: DATA, SMALL: b'{"a": 1}'}


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    forget_tokens(monkeypatch, tmp_path)
    with hub_stand_in() as found:
        found.add(NAME, FILES)
        yield found


class Client:
    """A hub's client that does not sleep, and remembers what it said and how long it would have."""

    def __init__(self, stand_in: StandIn, folder: Path) -> None:
        self.said: list[str] = []
        self.waited: list[float] = []
        self.bytes = 0
        self.folder = folder
        self.hub = Hub(self.said.append, self.waited.append, stand_in.url)

    def fetch(self, name: str, file: str, listing: Listing | None = None) -> bytes:
        listing = listing or self.hub.listing(name)
        (wanted,) = (one for one in listing.files if one.name == file)
        self.hub.fetch(listing, wanted, self.folder / "blob", self.advance)
        return (self.folder / "blob").read_bytes()

    def advance(self, count: int) -> None:
        self.bytes += count


@pytest.fixture
def client(stand_in: StandIn, tmp_path: Path) -> Client:
    return Client(stand_in, tmp_path)


def test_a_listing_has_sizes_and_checksums(client: Client, stand_in: StandIn) -> None:
    stand_in.moved["old/name"] = NAME
    listing = client.hub.listing("old/name")
    assert (listing.repository, listing.revision) == (NAME, stand_in.repositories[NAME].commit)
    assert [(file.name, file.size, file.checksum[:4]) for file in listing.files] == [
        (SMALL, 8, "git:"),
        (BIG, len(DATA), "sha2"),
    ]


@pytest.mark.parametrize("file", [BIG, SMALL])
def test_a_file_comes_whole(client: Client, file: str) -> None:
    assert client.fetch(NAME, file) == FILES[file]
    assert client.bytes == len(FILES[file])
    assert not list(client.folder.glob("*.part"))


@pytest.mark.parametrize("file", [BIG, SMALL])
def test_what_passes_is_waited_for(client: Client, stand_in: StandIn, file: str) -> None:
    stand_in.faults = [
        Fault("/api", "status", 502),
        Fault(file, "status", 503),
        Fault(file, "cut", after=5),
        Fault(file, "status", 429, {"Retry-After": "7"}),
        Fault(file, "status", 429, {"RateLimit": '"resolvers";r=0;t=11'}),
        Fault(file, "cut", after=1),
    ]
    assert client.fetch(NAME, file) == FILES[file]
    assert stand_in.faults == []
    assert client.bytes == len(FILES[file])
    # Bytes that came start the count of failures again.
    assert client.waited == [0.5, 0.5, 7, 11, 0.5, 0.5]
    ranges = [r.headers.get("range") for r in stand_in.asked_for(file) if "-" in r.path]
    assert "bytes=5-" in ranges and "bytes=6-" in ranges


@pytest.mark.parametrize("kind", ["whole", "shifted", "cut"])
def test_a_later_run_goes_on(client: Client, stand_in: StandIn, kind: str) -> None:
    part = client.folder / "blob.part"
    part.write_bytes(DATA[:300_000])
    stand_in.faults = [Fault(BIG, kind, after=70_000)]
    assert client.fetch(NAME, BIG) == DATA
    assert client.bytes == len(DATA)
    first = next(r for r in stand_in.requests if r.host == "storage")
    assert first.headers["range"] == "bytes=300000-"


@pytest.mark.parametrize("there", [DATA + b"more", DATA])
def test_a_part_that_is_full_is_not_asked_for(client: Client, there: bytes) -> None:
    (client.folder / "blob.part").write_bytes(there)
    assert client.fetch(NAME, BIG) == DATA


def test_the_server_may_have_less(client: Client, stand_in: StandIn) -> None:
    listing = client.hub.listing(NAME)
    (client.folder / "blob.part").write_bytes(DATA[:1000])
    stand_in.repositories[NAME].files[BIG] = DATA[:500]
    with pytest.raises(InputError, match="pull again later"):
        client.fetch(NAME, BIG, listing)
    assert len(client.waited) == ATTEMPTS - 1


@pytest.mark.parametrize("file", [BIG, SMALL])
def test_wrong_bytes_are_refused_and_deleted(client: Client, stand_in: StandIn, file: str) -> None:
    stand_in.faults = [Fault(file, "bytes")]
    with pytest.raises(InputError, match="checksum differs"):
        client.fetch(NAME, file)
    assert not list(client.folder.glob("blob*"))
    assert client.fetch(NAME, file) == FILES[file]


def test_more_bytes_than_listed_are_refused(client: Client, stand_in: StandIn) -> None:
    stand_in.faults = [Fault(BIG, "extra")]
    with pytest.raises(InputError, match="longer than it is listed"):
        client.fetch(NAME, BIG)


def test_patience_ends(client: Client, stand_in: StandIn) -> None:
    stand_in.faults = [Fault(BIG, "status", 503) for _ in range(ATTEMPTS)]
    with pytest.raises(InputError, match="answers 503; what came is kept"):
        client.fetch(NAME, BIG)
    assert client.waited == [0.5, 1, 2, 4, 8]
    stand_in.faults = [Fault(BIG, "status", 429, {"Retry-After": "3600"})]
    with pytest.raises(InputError, match="asks for 3600 s of rest"):
        client.fetch(NAME, BIG)


def test_nobody_answers(client: Client, stand_in: StandIn) -> None:
    stand_in.close()
    with pytest.raises(InputError, match="cannot connect to 127"):
        client.hub.listing(NAME)


@pytest.mark.parametrize(
    "address", ["huggingface.co", "ftp://x", "https://", "http://[x", "https://me:secret@hub:x"]
)
def test_an_address_that_is_none(address: str) -> None:
    with pytest.raises(UsageError, match="is no address such as https:") as told:
        Hub(print, endpoint=address)
    assert "secret" not in str(told.value)


@pytest.mark.parametrize(
    ("access", "token", "says"),
    [
        ("gated", None, "is gated: accept its licence at http"),
        ("refused", TOKEN, "is gated: accept its licence at http"),
        ("gated", "hf_wrong", "the token is not accepted: log in with `hf auth login`"),
        ("private", None, "or it is hidden from strangers"),
        ("missing", None, "there is no someone/else at"),
        ("missing", TOKEN, "there is no someone/else at"),
    ],
)
def test_no_way_in(
    client: Client,
    stand_in: StandIn,
    monkeypatch: pytest.MonkeyPatch,
    access: str,
    token: str | None,
    says: str,
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    if access != "missing":
        stand_in.add("someone/else", FILES, access)
    with pytest.raises(MtpError, match=says) as caught:
        client.fetch("someone/else", BIG)
    assert caught.value.exit_code == 4
    assert isinstance(caught.value, NotThere) == (access in ("private", "missing"))
    assert client.waited == []
    assert "hf_" not in str(caught.value) and SIGNATURE not in str(caught.value)


def test_a_token_opens_and_stays_with_the_hub(
    client: Client, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    stand_in.add("someone/else", FILES, "gated")
    stand_in.faults = [Fault(BIG, "cut", after=1000)]
    assert client.fetch("someone/else", BIG) == DATA
    with_token = {(r.host, "authorization" in r.headers) for r in stand_in.requests}
    assert with_token == {("hub", True), ("storage", False)}
    assert not any(TOKEN in said or SIGNATURE in said for said in client.said)


def test_nothing_else_is_asked_or_told(
    client: Client, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AI_AGENT", "someone")
    client.fetch(NAME, SMALL)
    assert {r.method for r in stand_in.requests} == {"GET"}
    assert all(NAME in r.path for r in stand_in.requests)
    assert all("someone" not in r.headers["user-agent"] for r in stand_in.requests)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"<html>Log in to the hotel's network</html>", "does not answer as a Hub does"),
        (b"[]", "does not answer as a Hub does"),
        (b'{"id": "../../x", "sha": "1", "siblings": []}', "does not answer as a Hub does"),
        (b'{"id": "a/b", "sha": "main", "siblings": []}', "does not say which commit"),
    ],
)
def test_something_else_answers(
    client: Client, monkeypatch: pytest.MonkeyPatch, answer: bytes, says: str
) -> None:
    from tests import hub_stand_in

    monkeypatch.setattr(
        hub_stand_in._Handler, "_info", lambda self, *_arguments: self._send(200, answer)
    )
    with pytest.raises(InputError, match=says):
        client.hub.listing(NAME)


def test_files_without_a_checksum_are_not_offered(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests import hub_stand_in

    answer = (
        b'{"id": "a/b", "sha": "%s", "siblings": [{"rfilename": "a"}, {"rfilename": "b",'
        b' "size": -1, "blobId": "%s"}, {"rfilename": "c", "size": 1, "blobId": "%s"}]}'
    ) % (b"0" * 40, b"1" * 40, b"2" * 40)
    monkeypatch.setattr(
        hub_stand_in._Handler, "_info", lambda self, *_arguments: self._send(200, answer)
    )
    assert client.hub.listing(NAME).files == (RemoteFile("c", 1, "git:" + "2" * 40),)


def test_revisions(client: Client) -> None:
    assert client.hub.listing(NAME, "main").repository == NAME
    with pytest.raises(UsageError, match="no such revision"):
        client.hub.listing(NAME, "v9")
