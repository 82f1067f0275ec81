"""`mtpcli pull`, `list`, `remove`, and names in place of files, as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from mtpcli.__main__ import run as main
from mtpcli.cli.app import app
from mtpcli.cli.config_file import defaults
from mtpcli.errors import ModelError
from mtpcli.session import PairPaths, choose_pair
from tests.conftest import ROOT, Result
from tests.hub_models import TARGET, add_family
from tests.hub_stand_in import TOKEN, Fault, StandIn, forget_tokens, hub_stand_in
from tests.terminal import ENTER, Terminal

DEMO = ROOT / "mtpcli" / "demo"


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    with hub_stand_in() as found:
        yield found


Run = Callable[..., Result]


@pytest.fixture
def run(
    stand_in: StandIn,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Run:
    """Run a command in this process against the stand-in, in a folder of its own."""
    monkeypatch.setenv("HF_ENDPOINT", stand_in.url)
    forget_tokens(monkeypatch, tmp_path)
    monkeypatch.setenv("MTPCLI_MODELS", str(tmp_path / "data"))
    monkeypatch.setenv("MTPCLI_CONFIG", str(tmp_path / "config.toml"))
    (tmp_path / "config.toml").touch()

    def command(*arguments: str | Path) -> Result:
        monkeypatch.setattr(sys, "argv", ["mtpcli", *map(str, arguments)])
        capsys.readouterr()
        code = main()
        stdout, stderr = capsys.readouterr()
        return Result(stdout, stderr, code)

    return command


def test_from_a_name_to_an_answer(run_cli: Run, stand_in: StandIn, tmp_path: Path) -> None:
    """The embedded pair as Google's E2B, through three faults."""
    stand_in.add(TARGET, DEMO / "target")
    stand_in.add(f"{TARGET}-assistant", DEMO / "drafter")
    stand_in.faults = [
        Fault("model.safetensors", "cut", after=1_000_000),
        Fault("model.safetensors", "status", 429, {"Retry-After": "1"}),
        Fault("tokenizer.json", "status", 502),
    ]
    env = {"HF_ENDPOINT": stand_in.url, "HF_HOME": str(tmp_path / "hf")}
    pulled = run_cli("pull", "e2b", env=env)
    assert (pulled.exit_code, pulled.stdout) == (0, f"{TARGET}:Q8_0\n")
    assert stand_in.faults == []
    for part in ("429: again in 1 s", "502: again", "broke", "files, "):
        assert part in pulled.stderr
    requests = len(stand_in.requests)
    done = run_cli(
        *("generate", "-m", "e2b", "Hello, I am Oscar.", "--json"),
        *("--temperature", "0", "--threads", "1"),
        env=env,
    )
    answer = json.loads(done.stdout)
    assert answer["text"] == "Nice to meet you, Oscar! How can I help you?"
    assert answer["speculation"]["drafter"] == "mtp"
    assert Path(answer["model"]).is_relative_to(tmp_path / "data" / "mtpcli" / "models")
    assert len(stand_in.requests) == requests, "only pull uses the network"


def test_pull_list_inspect_remove(run: Run, stand_in: StandIn, tmp_path: Path) -> None:
    add_family(stand_in, tmp_path)
    assert run("pull", "e2b").stdout == f"{TARGET}:Q8_0\n"
    listed = run("list")
    assert (listed.exit_code, listed.stderr) == (0, "")
    assert listed.stdout == f"{TARGET}:Q8_0    362.8 kB  with mtp-gemma-4-E2B-it-Q8_0.gguf\n"
    (model,) = json.loads(run("list", "--json").stdout)["models"]
    folder = Path(model["folder"])
    target, drafter = folder / model["target"], folder / model["drafter"]
    inspected = json.loads(run("inspect", "e2b", "--json").stdout)
    assert inspected["files"][0]["path"] == str(target) and inspected["pair"]["fits"]

    for name in ("e2b", "E2B:q8_0", TARGET, f"{TARGET}:Q8_0"):
        assert choose_pair(Path(name), None, draft=True) == PairPaths(target, drafter)
        assert choose_pair(target, Path(name), draft=True) == PairPaths(target, drafter)
    assert choose_pair(Path("e2b"), None, draft=False) == PairPaths(target, None)

    refused = run("remove", "e2b")
    assert (refused.exit_code, refused.stdout) == (2, "") and "--yes" in refused.stderr
    removed = run("remove", "e2b", "--yes")
    assert (removed.exit_code, removed.stdout) == (0, "")
    assert removed.stderr == f"mtpcli: deleted {TARGET}:Q8_0: 362.8 kB freed\n"
    assert not any(path.is_file() for path in (tmp_path / "data").rglob("*"))


def test_names_in_the_environment_and_the_config_file(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "config.toml"
    config.write_text(f'model = "{TARGET}"\ndrafter = "some/model.gguf"\n')
    commands: Any = typer.main.get_command(app)
    found = defaults(commands.commands)["generate"]
    # A name is a name; what cannot be one is relative to the file, as is what exists.
    assert found["model"] == TARGET
    assert found["drafter"] == str(tmp_path / "some" / "model.gguf")
    (tmp_path / TARGET).mkdir(parents=True)
    assert defaults(commands.commands)["generate"]["model"] == str(tmp_path / TARGET)
    monkeypatch.setenv("MTPCLI_MODEL", "e4b")
    with pytest.raises(ModelError, match="`mtpcli pull e4b` fetches it"):
        choose_pair(None, None, draft=True)


def test_names_that_are_not_there(run: Run, stand_in: StandIn) -> None:
    result = run("inspect", "e4b")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "`mtpcli pull e4b` fetches it" in result.stderr
    assert run("remove", "e4b", "-y").exit_code == 2
    nothing = run("list")
    assert (nothing.exit_code, nothing.stdout) == (0, "") and "mtpcli pull e2b" in nothing.stderr
    assert stand_in.requests == []
    missing = run("pull", "someone/nothing", "--no-drafter")
    assert missing.exit_code == 4
    assert missing.stderr.startswith("error: there is no someone/nothing")
    for wrong in (("../x",), ("e2b", "--quant", "q9")):
        assert run("pull", *wrong).exit_code == 2


def test_a_type_that_is_none_is_told_with_those_that_there_are(
    run: Run, stand_in: StandIn, tmp_path: Path
) -> None:
    add_family(stand_in, tmp_path)
    result = run("pull", "e2b:Q9")
    assert (result.exit_code, result.stdout) == (2, "")
    says = f"error: {TARGET}:TYPE Q9: is not one of auto, f32, f16, bf16, q8_0"
    assert result.stderr.startswith(says) and result.stderr.count("\n") == 1
    assert "q4_k_m" in result.stderr


def test_gated_models(
    run: Run, stand_in: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_family(stand_in, tmp_path, "gated")
    result = run("pull", "e2b")
    assert (result.exit_code, result.stdout) == (4, "")
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"error: {TARGET} is gated: accept its licence at {stand_in.url}/")
    assert "hf auth login" in last and "HF_TOKEN" in last
    assert "unfinished" not in run("list").stderr, "nothing came"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    opened = run("pull", "e2b", "--json")
    assert opened.exit_code == 0 and json.loads(opened.stdout)["name"] == TARGET
    assert TOKEN not in opened.stderr + opened.stdout


def test_what_has_begun_is_listed_and_can_be_dropped(
    run: Run, stand_in: StandIn, tmp_path: Path
) -> None:
    add_family(stand_in, tmp_path)
    stand_in.faults = [Fault("tokenizer.json", "status", 418)]
    failed = run("pull", "e2b")
    assert failed.exit_code == 4 and failed.stderr.splitlines()[-1].endswith("answers 418")
    listed = run("list")
    assert listed.stdout == "" and f"unfinished: {TARGET}:Q8_0" in listed.stderr
    assert f"`mtpcli pull {TARGET}:Q8_0` goes on" in listed.stderr
    assert run("remove", "e2b", "--yes").exit_code == 0
    assert "unfinished" not in run("list").stderr


def test_removing_asks_on_a_terminal(run: Run, stand_in: StandIn, tmp_path: Path) -> None:
    add_family(stand_in, tmp_path)
    run("pull", "e2b")
    command = [sys.executable, "-m", "mtpcli", "remove", "e2b"]
    for key, says in (("n", "nothing deleted"), ("y", "kB freed")):
        assert run("list").stdout
        with Terminal(command, os.environ) as terminal:
            terminal.expect(r"Delete google/gemma-4-E2B-it:Q8_0, 362\.8 kB\? \[y/N\] ")
            terminal.press(key + ENTER)
            terminal.expect(says)
            assert terminal.close() == 0
    assert not run("list").stdout


@pytest.mark.slow
def test_a_killed_pull_goes_on(run_cli: Run, stand_in: StandIn, tmp_path: Path) -> None:
    stand_in.add(TARGET, DEMO / "target")
    stand_in.add(f"{TARGET}-assistant", DEMO / "drafter")
    name, after = "model.safetensors", 5_000_000
    folder = tmp_path / "killed"
    env = {"HF_ENDPOINT": stand_in.url, "HF_HOME": str(tmp_path / "hf")}
    command = [sys.executable, "-m", "mtpcli", "pull", "e2b"]
    wait = Fault(name, "status", 429, {"Retry-After": "60"})
    drafter_comes = Fault(name, "cut", after=2**30)
    # Twice it is killed while it waits in the middle of the target's weights.
    for faults in (
        [drafter_comes, Fault(name, "cut", after=after, then=wait)],
        [Fault(name, "cut", after=after, then=wait)],
    ):
        stand_in.faults = faults
        killed = {**os.environ, **env, "MTPCLI_MODELS": str(folder)}
        with subprocess.Popen(command, env=killed, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr
            for line in process.stderr:
                if "again in 60 s" in line:
                    process.kill()
        assert process.returncode == -signal.SIGKILL
    before = len(stand_in.requests)
    done = run_cli("pull", "e2b", env={**env, "MTPCLI_MODELS": str(folder)})
    assert (done.exit_code, done.stdout) == (0, f"{TARGET}:Q8_0\n")
    assert not [r for r in stand_in.requests[before:] if "tokenizer" in r.path]
    ranges = [r.headers.get("range") for r in stand_in.requests[before:] if r.host == "storage"]
    assert len(ranges) == 1 and ranges[0] and int(ranges[0][6:-1]) > after
    run_cli("pull", "e2b", env={**env, "MTPCLI_MODELS": str(tmp_path / "whole")})
    results = [
        {path.name: path.read_bytes() for path in place.rglob("*.gguf")}
        for place in (folder, tmp_path / "whole")
    ]
    assert results[0] == results[1] and len(results[0]) == 2
