"""Pulling: from a name to a pair that is ready, through everything that goes wrong on the way."""

from __future__ import annotations

import errno
import fcntl
import json
import shutil
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from convert import ConvertError, convert_pair
from mtpcli.errors import InputError, ModelError, UsageError
from mtpcli.hub import store
from mtpcli.hub.names import Reference
from mtpcli.hub.plan import Wish
from mtpcli.hub.pull import Pull
from mtpcli.hub.remote import Hub
from mtpcli.hub.store import Pulled
from tests import snapshots
from tests.hub_models import DRAFTER, TARGET, add_family, gguf_pair, split_in_two
from tests.hub_stand_in import Fault, StandIn, forget_tokens, hub_stand_in

GGUF = "someone/gemma-4-E2B-it-GGUF"
NAME = "gemma-4-E2B-it"


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[StandIn]:
    monkeypatch.setenv("MTPCLI_MODELS", str(tmp_path / "models"))
    forget_tokens(monkeypatch, tmp_path)
    with hub_stand_in() as found:
        add_family(found, tmp_path / "published")
        yield found


class Puller:
    def __init__(self, stand_in: StandIn) -> None:
        self.said: list[str] = []
        self.shown: list[tuple[str, int, int]] = []
        self.stop_at = -1
        hub = Hub(self.said.append, lambda _: None, stand_in.url)
        self._pull = Pull(hub, self.said.append, self._progress)

    def __call__(self, name: str, **wish: Any) -> Pulled:
        return self._pull.run(name, Wish(**wish))

    def _progress(self, what: str, done: int, total: int) -> None:
        self.shown.append((what, done, total))
        if what == "download" and 0 <= self.stop_at <= done:
            raise KeyboardInterrupt


@pytest.fixture
def pull(stand_in: StandIn) -> Puller:
    return Puller(stand_in)


def contents(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def expected(tmp_path: Path, outtype: str = "q8_0") -> dict[str, bytes]:
    """What `mtpcli convert` makes of the published checkpoints."""
    published = tmp_path / "published"
    pair = published / NAME, published / f"{NAME}-assistant"
    convert_pair(*pair, tmp_path / outtype, outtype)
    return contents(tmp_path / outtype)


def test_checkpoints_become_a_pair_with_a_card(
    pull: Puller, stand_in: StandIn, tmp_path: Path
) -> None:
    pulled = pull("e2b")
    found = contents(pulled.folder)
    card = json.loads(found.pop(store.CARD))
    assert found == expected(tmp_path)
    assert (card["name"], card["tag"]) == (TARGET, "Q8_0")
    roles = {s["role"]: (s["repository"], s["revision"]) for s in card["sources"]}
    assert roles == {
        "target": (TARGET, stand_in.repositories[TARGET].commit),
        "drafter": (DRAFTER, stand_in.repositories[DRAFTER].commit),
    }
    assert card["sources"][0]["files"]["model.safetensors"].startswith("sha256:")
    assert store.models() == [pulled] and store.unfinished() == []
    assert not list((tmp_path / "models" / store.PARTIAL).iterdir())
    done = [(done, total) for what, done, total in pull.shown if what == "download"]
    assert done[-1][0] == done[-1][1]
    # What target and drafter share came once.
    assert len([r for r in stand_in.requests if r.path.endswith("tokenizer.json")]) == 2


def test_a_pull_with_faults_ends_in_the_same_pair(
    pull: Puller, stand_in: StandIn, tmp_path: Path
) -> None:
    stand_in.faults = [
        Fault("model.safetensors", "cut", after=50_000),
        Fault("model.safetensors", "status", 429, {"Retry-After": "1"}),
        Fault("model.safetensors", "status", 500),
        Fault("tokenizer.json", "status", 503),
        Fault("model.safetensors", "cut", after=10),
        Fault("/api", "status", 504),
    ]
    found = contents(pull(f"{TARGET}:Q4_0").folder)
    assert stand_in.faults == []
    del found[store.CARD]
    assert found == expected(tmp_path, "q4_0")


def test_what_was_interrupted_goes_on(pull: Puller, stand_in: StandIn, tmp_path: Path) -> None:
    pull.stop_at = 100_000
    with pytest.raises(KeyboardInterrupt):
        pull("e2b")
    assert store.models() == []
    ((reference, there),) = store.unfinished()
    assert str(reference) == f"{TARGET}:Q8_0" and there >= 100_000
    with pytest.raises(ModelError, match="`mtpcli pull e2b` fetches it"):
        store.look_up(Path("e2b"))
    pull.stop_at = -1
    before = len(stand_in.requests)
    found = contents(pull("e2b").folder)
    del found[store.CARD]
    assert found == expected(tmp_path)
    again = [r.path for r in stand_in.requests[before:]]
    assert not any("config.json" in path for path in again)
    assert any("range" in r.headers for r in stand_in.requests[before:])
    assert store.unfinished() == []


def test_wrong_bytes_are_refused(pull: Puller, stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.faults = [Fault("model.safetensors", "bytes")]
    with pytest.raises(InputError, match="checksum differs"):
        pull("e2b")
    assert store.models() == []
    blobs = tmp_path / "models" / store.PARTIAL / f"google--{NAME}--Q8_0" / "blobs"
    assert blobs.is_dir() and not list(blobs.glob("sha256-*.part"))
    assert pull("e2b").problem == ""


def test_here_already_new_and_forced(pull: Puller, stand_in: StandIn, tmp_path: Path) -> None:
    first = pull("e2b", no_drafter=True)
    before = len(stand_in.requests)
    assert pull("E2B", no_drafter=True) == first
    assert [r.path for r in stand_in.requests[before:]] == [f"/api/models/{TARGET}"]
    assert pull.said[-1].endswith("is here already")
    # Damaged, it is made anew; and so it is when there is something new, or when it is asked for.
    first.target_path.unlink()
    assert pull("e2b", no_drafter=True).problem == ""
    stand_in.add(TARGET, {**stand_in.repositories[TARGET].files, "README.md": b"# New"})
    assert "README.md" in pull("e2b", no_drafter=True).sources[0].files
    before = len(stand_in.requests)
    pull("e2b", no_drafter=True, force=True)
    assert len(stand_in.requests) > before + 4
    # Another type stands beside it.
    pull("e2b", outtype="q4_0", no_drafter=True)
    assert [str(p.reference) for p in store.models()] == [f"{TARGET}:Q4_0", f"{TARGET}:Q8_0"]


def test_keep(pull: Puller, tmp_path: Path) -> None:
    pulled = pull("e2b", keep=True)
    kept = contents(pulled.folder / NAME)
    assert kept == contents(tmp_path / "published" / NAME)
    assert f"{NAME}-assistant/config.json" in pulled.sizes
    _, left = store.remove(pulled)
    assert left == [] and not pulled.folder.exists()


def gguf_repository(stand_in: StandIn, tmp_path: Path, **more: bytes) -> tuple[bytes, bytes]:
    target, drafter = gguf_pair(tmp_path / "gguf")
    files = {
        f"{NAME}-UD-Q4_K_XL.gguf": target,
        f"{NAME}-BF16.gguf": b"GGUF another",
        f"MTP/{NAME}-MTP-Q8_0.gguf": drafter,
        "mmproj-BF16.gguf": b"GGUF of images",
        **more,
    }
    stand_in.add(GGUF, files)
    return target, drafter


def test_gguf_files_are_taken_as_they_are(pull: Puller, stand_in: StandIn, tmp_path: Path) -> None:
    target, drafter = gguf_repository(stand_in, tmp_path)
    pulled = pull(f"{GGUF}:Q4_K_XL")
    found = contents(pulled.folder)
    del found[store.CARD]
    assert found == {
        f"{NAME}-UD-Q4_K_XL.gguf": target,
        f"MTP/{NAME}-MTP-Q8_0.gguf": drafter,
    }
    assert str(pulled.reference) == f"{GGUF}:UD-Q4_K_XL"
    for name in (GGUF, f"{GGUF}:q4_k_xl", f"{GGUF}:UD-Q4_K_XL"):
        assert store.look_up(Path(name)) == pulled
    assert not any("mmproj" in r.path or "BF16" in r.path for r in stand_in.requests)
    with pytest.raises(UsageError, match=r"say which.*UD-Q4_K_XL \("):
        pull(GGUF)


def test_a_missing_drafter_comes_from_the_original(
    pull: Puller, stand_in: StandIn, tmp_path: Path
) -> None:
    target, drafter = gguf_pair(tmp_path / "gguf")
    stand_in.add("me/google_gemma-4-E2B-it-GGUF", {"google_gemma-4-E2B-it-Q8_0.gguf": target})
    pulled = pull("me/google_gemma-4-E2B-it-GGUF")
    assert pulled.drafter == "mtp-google_gemma-4-E2B-it-Q8_0-Q8_0.gguf"
    assert pulled.drafter_path and pulled.drafter_path.read_bytes()[:4] == drafter[:4]
    stand_in.add("me/unknown", {"model.gguf": target})
    alone = pull("me/unknown")
    assert alone.drafter is None and str(alone.reference) == "me/unknown:model"
    assert "it will decode plainly" in " ".join(pull.said)
    # And from where the user says.
    stand_in.add("me/heads", {"e2b.gguf": drafter})
    pulled = pull("me/unknown", drafter="me/heads", force=True)
    assert pulled.drafter == "e2b.gguf"
    assert pull("me/unknown", drafter="e2b", force=True).drafter == "mtp-model-Q8_0.gguf"


def test_an_old_drafter_is_rewritten(pull: Puller, stand_in: StandIn, tmp_path: Path) -> None:
    from tests.unit.test_convert_rewrite import write_old

    target, drafter = gguf_pair(tmp_path / "gguf")
    (tmp_path / "new.gguf").write_bytes(drafter)
    write_old(tmp_path / "new.gguf", tmp_path / "old.gguf")
    old = (tmp_path / "old.gguf").read_bytes()
    stand_in.add(GGUF, {f"{NAME}-Q8_0.gguf": target, f"{NAME}-assistant.Q8_0.gguf": old})
    pulled = pull(GGUF)
    assert pulled.drafter == f"mtp-{NAME}-assistant.Q8_0.gguf"
    assert len(contents(pulled.folder)) == 3


def test_a_split_target(pull: Puller, stand_in: StandIn, tmp_path: Path) -> None:
    target, drafter = gguf_pair(tmp_path / "gguf")
    (tmp_path / "whole.gguf").write_bytes(target)
    first, second = split_in_two(tmp_path / "whole.gguf", 0)
    stand_in.add(
        GGUF,
        {
            f"Q8_0/{NAME}-Q8_0-00001-of-00002.gguf": first,
            f"Q8_0/{NAME}-Q8_0-00002-of-00002.gguf": second,
            f"mtp-{NAME}.gguf": drafter,
        },
    )
    pulled = pull(GGUF)
    assert pulled.target == f"Q8_0/{NAME}-Q8_0-00001-of-00002.gguf"
    assert len(pulled.sizes) == 3


def test_a_drafter_that_does_not_fit(pull: Puller, stand_in: StandIn, tmp_path: Path) -> None:
    target, _ = gguf_pair(tmp_path / "gguf")
    stand_in.add(GGUF, {f"{NAME}-Q8_0.gguf": target, f"mtp-{NAME}.gguf": target})
    with pytest.raises(ModelError, match="is a Gemma 4 model of its own, not a drafter"):
        pull(GGUF)
    assert store.models() == []
    before = len(stand_in.requests)
    assert pull(GGUF, no_drafter=True).drafter is None
    assert not any(r.host == "storage" for r in stand_in.requests[before:])


def test_a_foreign_model_is_found_out_before_its_weights_come(
    pull: Puller, stand_in: StandIn
) -> None:
    files = dict(stand_in.repositories[TARGET].files)
    files["config.json"] = b'{"architectures": ["LlamaForCausalLM"]}'
    stand_in.add("meta/llama", files)
    with pytest.raises(ConvertError, match="LlamaForCausalLM"):
        pull("meta/llama", no_drafter=True)
    assert stand_in.asked_for("model.safetensors") == []
    with pytest.raises(UsageError, match="TYPE Q9_9: is not one of auto"):
        pull("google/gemma-4-E2B-it:Q9_9")
    with pytest.raises(UsageError, match=f"`mtpcli pull {TARGET}` brings it along"):
        pull(DRAFTER)
    with pytest.raises(UsageError, match="is no name of a model"):
        pull("../../etc/passwd")


@pytest.mark.parametrize(
    "name",
    ["../evil.gguf", "/tmp/evil.gguf", "a\\evil.gguf", "a/../../evil.gguf", "\x1b[2Jevil.gguf"],
)
def test_names_that_leave_the_folder_are_refused(
    pull: Puller, stand_in: StandIn, tmp_path: Path, name: str
) -> None:
    stand_in.add(GGUF, {name: b"GGUF"})
    with pytest.raises(ModelError, match=r"leads out of its folder.*: refused"):
        pull(GGUF, no_drafter=True)
    assert not any(r.host == "storage" for r in stand_in.requests)
    assert not list(tmp_path.rglob("*evil*")) and store.models() == []


def test_room_is_looked_for_first(
    pull: Puller, stand_in: StandIn, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = types.SimpleNamespace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(InputError, match=r"not enough room in .*kB to download and .*1\.0 MB free"):
        pull("e2b")
    assert not any("resolve" in r.path for r in stand_in.requests)


def test_two_pulls_of_one_model(pull: Puller, tmp_path: Path) -> None:
    folder = tmp_path / "models" / store.PARTIAL / f"google--{NAME}--Q8_0"
    folder.mkdir(parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(InputError, match="being pulled by another process"):
            pull("e2b")
    pull("e2b")


def test_what_others_put_there_stays(pull: Puller, stand_in: StandIn, tmp_path: Path) -> None:
    folder = tmp_path / "models" / f"google--{NAME}--Q8_0"
    folder.mkdir(parents=True)
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(ModelError, match="holds files that are not of a pull"):
        pull("e2b")
    assert contents(folder) == {"mine.txt": b"mine"}


def test_a_folder_that_cannot_be_written(
    pull: Puller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MTPCLI_MODELS", str(tmp_path / "file"))
    with pytest.raises(InputError, match=r"cannot write .*file"):
        pull("e2b")
    monkeypatch.setenv("MTPCLI_MODELS", str(tmp_path / "models"))

    def full(self: Path, *_arguments: Any) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(InputError, match="No space left on device"):
        pull("e2b")
    assert store.models() == []


class FakeKaggle(types.ModuleType):
    """Stands in for kagglehub, which has no server to test against."""

    def __init__(self, files: dict[str, Path], status: int | None = None) -> None:
        super().__init__("kagglehub")
        self.files, self.status, self.asked = files, status, list[str]()

    def model_download(self, handle: str, *, output_dir: str) -> str:
        self.asked.append(handle)
        if self.status:
            error = RuntimeError("https://storage/secret?signature=x")
            error.response = types.SimpleNamespace(status_code=self.status)  # type: ignore[attr-defined]
            raise error
        shutil.copytree(self.files[handle], output_dir, dirs_exist_ok=True)
        return output_dir


HANDLE = "google/gemma-4/transformers/gemma-4-e2b-it"


def test_kaggle(pull: Puller, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = tmp_path / "published"
    files = {
        f"{HANDLE}/2": published / NAME,
        f"{HANDLE}-assistant": published / f"{NAME}-assistant",
    }
    kaggle = FakeKaggle(files)
    monkeypatch.setitem(sys.modules, "kagglehub", kaggle)
    pulled = pull(f"kaggle:{HANDLE}/2")
    assert kaggle.asked == [f"{HANDLE}/2", f"{HANDLE}-assistant"]
    assert [pulled.target, pulled.drafter] == [
        "gemma-4-e2b-it-Q8_0.gguf",
        "mtp-gemma-4-e2b-it-Q8_0.gguf",
    ]
    assert store.find(Reference(f"kaggle:{HANDLE}/2")) == pulled
    assert sorted(contents(pulled.folder)) == sorted([*pulled.sizes, store.CARD])


@pytest.mark.parametrize(
    ("status", "says"),
    [(403, "accept its licence at https://www"), (404, "there is no"), (500, "Kaggle answers 500")],
)
def test_kaggle_says_no(
    pull: Puller, monkeypatch: pytest.MonkeyPatch, status: int, says: str
) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", FakeKaggle({}, status))
    with pytest.raises(InputError, match=says) as caught:
        pull(f"kaggle:{HANDLE}")
    assert "signature" not in str(caught.value)


def test_kaggle_is_optional(pull: Puller, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(UsageError, match="pip install"):
        pull(f"kaggle:{HANDLE}")


def test_tiny_models_are_what_they_seem(tmp_path: Path) -> None:
    """The tests above compare with what the converter makes: it must make something."""
    target = snapshots.write_target(tmp_path / "a")
    assert (target / "model.safetensors").stat().st_size > 400_000
