"""`mtpcli generate` as its users see it: stdout, stderr and the exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, ROOT, Pair, Result
from tests.held import Held

Run = Callable[..., Result]

PROMPT = "Write a short story about a brave cat named Leo who finds a key."
JSON_KEYS = [
    "text",
    "tokens",
    "finish_reason",
    "usage",
    "speculation",
    "timings",
    "seed",
    "model",
    "warnings",
]


@pytest.fixture
def generate(run_cli: Run, demo_pair: Pair) -> Run:
    """Run `mtpcli generate` with the embedded pair's files, at a fixed depth unless told else."""

    def run(*arguments: str | Path, **options: object) -> Result:
        fixed = ("-m", demo_pair.target, "--draft-depth", "3", "--threads", "1")
        return run_cli("generate", *fixed, *arguments, **options)

    return run


def test_only_the_answer_is_on_stdout(generate: Run) -> None:
    result = generate(PROMPT, "--seed", "1")
    assert result.exit_code == 0
    assert result.stderr == ""
    assert result.stdout.endswith("\n") and not result.stdout.endswith("\n\n")
    assert len(result.stdout.split()) > 20
    assert "<" not in result.stdout, "a control token reached the screen"


def test_a_seed_gives_one_text_with_and_without_the_drafter(generate: Run) -> None:
    drafted = generate(PROMPT, "--seed", "5")
    assert generate(PROMPT, "--seed", "5", "--no-draft").stdout == drafted.stdout
    assert generate(PROMPT, "--seed", "5", "--draft-depth", "6").stdout == drafted.stdout
    assert generate(PROMPT, "--seed", "5", "--draft-depth", "auto").stdout == drafted.stdout
    assert generate(PROMPT, "--seed", "6").stdout != drafted.stdout


def test_json_has_the_promised_fields(generate: Run, demo_pair: Pair) -> None:
    result = generate(PROMPT, "--json", "--seed", "5", "-n", "30")
    assert result.exit_code == 0
    assert result.stdout.count("\n") == 1
    answer = json.loads(result.stdout)
    assert list(answer) == JSON_KEYS
    assert answer["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == len(answer["tokens"]) == 30
    assert answer["seed"] == 5
    assert answer["model"] == str(demo_pair.target)
    speculation = answer["speculation"]
    assert speculation["drafter"] == "mtp"
    assert speculation["plain_rounds"] < speculation["rounds"] < 30
    assert 0 < speculation["accepted"] < speculation["drafted"]
    assert len(speculation["acceptance_by_position"]) == 3
    assert set(answer["timings"]) == {"load_ms", "prompt_ms", "decode_ms", "tokens_per_second"}


def test_json_without_a_drafter(generate: Run) -> None:
    answer = json.loads(generate(PROMPT, "--json", "--no-draft", "-n", "5").stdout)
    assert answer["speculation"] == {
        "drafter": None,
        "failure": None,
        "rounds": 4,
        "drafted": 0,
        "accepted": 0,
        "acceptance_by_position": [],
        "tokens_per_round": 1.0,
        "plain_rounds": 4,
    }


def test_a_random_seed_is_told_and_repeats_the_text(generate: Run) -> None:
    first = json.loads(generate(PROMPT, "--json", "-n", "20").stdout)
    again = generate(PROMPT, "--json", "-n", "20", "--seed", str(first["seed"]))
    assert json.loads(again.stdout)["text"] == first["text"]


def test_stats_go_to_stderr(generate: Run) -> None:
    result = generate(PROMPT, "--stats", "--seed", "5", "-n", "20")
    assert "mtp: " in result.stderr and "accepted" in result.stderr and "seed 5" in result.stderr
    assert "accepted" not in result.stdout


def test_piped_text_and_files_go_before_the_prompt(generate: Run, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Repeat this text:\n")
    count = ["--json", "-n", "1", "--seed", "1"]
    parts = generate("-f", "a.txt", "Hello there.", *count, stdin="A red box.\n")
    whole = generate("Repeat this text:\n\nA red box.\n\nHello there.", *count)
    assert json.loads(parts.stdout)["usage"] == json.loads(whole.stdout)["usage"]
    dash = generate("-", *count, stdin="Repeat this text:\n\nA red box.\n\nHello there.")
    assert json.loads(dash.stdout)["tokens"] == json.loads(whole.stdout)["tokens"]


def test_echo_of_text_that_is_not_ascii(generate: Run) -> None:
    # The tiny vocabulary spells these characters in bytes, each a token.
    result = generate("--raw", "-n", "8", "--temperature", "0", stdin="żółw 🐢 żółw 🐢 żółw 🐢 ")
    assert result.exit_code == 0
    assert "Traceback" not in result.stderr


def test_a_stop_string_is_not_shown(generate: Run) -> None:
    whole = generate(PROMPT, "--seed", "5").stdout
    word = whole.split()[7]
    answer = json.loads(generate(PROMPT, "--seed", "5", "--stop", word, "--json").stdout)
    assert answer["text"] == whole[: whole.index(word)]
    assert answer["finish_reason"] == "stop"


def test_a_system_prompt_and_thinking_change_the_prompt(generate: Run) -> None:
    def prompt_tokens(*arguments: str) -> int:
        answer = json.loads(generate("Hi", "-n", "1", "--json", *arguments).stdout)
        return int(answer["usage"]["prompt_tokens"])

    assert prompt_tokens("--system", "Be kind.") > prompt_tokens()
    assert prompt_tokens("--thinking") != prompt_tokens()


def test_thoughts_are_not_in_the_answer(generate: Run) -> None:
    result = generate("What is 27 + 45?", "--thinking", "--temperature", "0")
    assert result.exit_code == 0
    assert "<" not in result.stdout
    assert result.stderr.strip(), "thoughts go to stderr"
    answer = json.loads(
        generate("What is 27 + 45?", "--thinking", "--temperature", "0", "--json").stdout
    )
    assert answer["text"].strip() == result.stdout.strip()
    assert answer["thought"].strip() == result.stderr.strip()


def test_raw_continues_the_text_as_it_is(generate: Run) -> None:
    answer = json.loads(generate("--raw", "Once upon a time", "-n", "5", "--json").stdout)
    assert answer["usage"]["prompt_tokens"] < 10


def test_the_context_ends_a_generation(generate: Run) -> None:
    answer = json.loads(generate("--ctx", "60", PROMPT, "--json", "--seed", "5").stdout)
    assert answer["finish_reason"] == "context"
    usage = answer["usage"]
    assert usage["prompt_tokens"] + usage["completion_tokens"] == 61


@pytest.mark.parametrize(
    "command", ["generate x", "bench --synthetic e2b", "plan e2b"], ids=lambda line: line.split()[0]
)
def test_a_cache_that_cannot_be_written_is_told(
    run_here: Run, tmp_path: Path, command: str
) -> None:
    (tmp_path / "cache").touch()
    result = run_here(*command.split())
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (4, "", 1)
    assert "Not a directory" in result.stderr and "XDG_CACHE_HOME" in result.stderr


def test_the_embedded_pair_is_the_default(run_cli: Run, tmp_path: Path) -> None:
    first = run_cli("generate", PROMPT, "--seed", "5", "--threads", "1")
    assert first.exit_code == 0
    assert first.stderr.count("\n") == 1
    assert "embedded demo pair" in first.stderr and "mtpcli pull" in first.stderr
    packed = sorted((tmp_path / "cache").rglob("*.gguf"))
    assert len(packed) == 2
    times = [path.stat().st_mtime_ns for path in packed]
    assert run_cli("generate", PROMPT, "--seed", "5", "--threads", "1").stdout == first.stdout
    assert [path.stat().st_mtime_ns for path in packed] == times, "packed twice"


def test_the_model_from_the_environment(run_cli: Run, demo_pair: Pair) -> None:
    arguments = ("generate", "Hi", "--json", "-n", "3", "--draft-depth", "2", "--threads", "1")
    result = run_cli(*arguments, env={"MTPCLI_MODEL": str(demo_pair.target)})
    assert json.loads(result.stdout)["model"] == str(demo_pair.target)
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "says"),
    [
        ([], b"", 2, "no prompt"),
        (["-"], b" \n", 2, "no prompt"),
        (["x", "--draft-depth", "16"], b"", 2, "--draft-depth"),
        (["x", "--temperature", "nan"], b"", 2, "--temperature"),
        (["x", "--top-p", "0"], b"", 2, "--top-p"),
        (
            ["x", "--presence-penalty", "nan"],
            b"",
            2,
            "'--presence-penalty': it is a number from -1",
        ),
        (["x", "--frequency-penalty=-1e308"], b"", 2, "'--frequency-penalty': it is a number"),
        (
            ["x", "--repeat-penalty", "1e300"],
            b"",
            2,
            "'--repeat-penalty': it is a number from 0.01",
        ),
        (["x", "--kv-type", "q4_0", "--flash-attn", "off"], b"", 2, "needs --flash-attn"),
        (["x", "--ctx", "999999"], b"", 2, "--ctx 999999"),
        (["x", "--nonsense"], b"", 2, "--nonsense"),
        (["--raw", "--system", "s", "x"], b"", 2, "--raw"),
        (["-f", "missing.txt"], b"", 4, "missing.txt"),
        (["-"], b"\xff\xfe\x00", 4, "UTF-8"),
        (["word " * 200, "--ctx", "64"], b"", 4, "the context"),
        (["x", "-m", "missing.gguf"], b"", 3, "missing.gguf"),
        (["x", "--drafter", "missing.gguf"], b"", 3, "missing.gguf"),
    ],
)
def test_errors_are_one_line(
    run_here: Run, demo_pair: Pair, arguments: list[str], stdin: bytes, code: int, says: str
) -> None:
    result = run_here("generate", "-m", demo_pair.target, *arguments, stdin=stdin)
    assert result.exit_code == code, result.stderr
    assert result.stdout == ""
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert says in result.stderr


def test_model_files_that_cannot_be_used(run_here: Run, demo_pair: Pair, tmp_path: Path) -> None:
    whole = demo_pair.target.read_bytes()
    cases = {
        "empty.gguf": b"",
        "foreign.gguf": b"PK\x03\x04" + bytes(1000),
        "cut-header.gguf": whole[:5000],
        "cut-data.gguf": whole[:-5000],
    }
    for name, data in cases.items():
        (tmp_path / name).write_bytes(data)
        for arguments in (["-m", name], ["-m", demo_pair.target, "--drafter", name]):
            result = run_here("generate", "x", *arguments)
            assert result.exit_code == 3, (name, result.stderr)
            assert result.stderr.startswith("error: ") and name in result.stderr
            assert result.stderr.count("\n") == 1


def test_target_and_drafter_mixed_up(run_here: Run, demo_pair: Pair) -> None:
    as_target = run_here("generate", "x", "-m", demo_pair.drafter)
    assert (as_target.exit_code, as_target.stderr.count("\n")) == (3, 1)
    assert "drafter" in as_target.stderr
    as_drafter = run_here("generate", "x", "-m", demo_pair.target, "--drafter", demo_pair.target)
    assert (as_drafter.exit_code, as_drafter.stderr.count("\n")) == (3, 1)


def test_a_checkpoint_folder_is_told_how_to_convert(run_here: Run) -> None:
    folder = ROOT / "mtpcli" / "demo" / "target"
    result = run_here("generate", "x", "-m", folder)
    assert result.exit_code == 3
    assert "mtpcli convert" in result.stderr


@pytest.fixture
def under_way(demo_pair: Pair) -> Iterator[Held]:
    """A program that has written some text, and would write more."""
    text = ["--raw", "Once", "--temperature", "3", "--top-p", "1", "--seed", "5"]
    fixed = ["-m", str(demo_pair.target), "--draft-depth", "3", "--threads", "1"]
    with Held(
        ("mtpcli.cli.output", "AnswerWriter.write", 5),
        ["generate", *text, *fixed],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as held:
        assert held.process.stdout
        held.process.stdout.read(1)
        yield held


def test_a_reader_that_leaves_ends_it_quietly(under_way: Held) -> None:
    process = under_way.process
    assert process.stdout and process.stderr
    process.stdout.close()
    under_way.go_on()
    assert process.stderr.read() == b""
    assert process.wait(PATIENCE) == 0


def test_ctrl_c_exits_130_without_a_traceback(under_way: Held) -> None:
    process = under_way.process
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=PATIENCE)
    assert (process.returncode, stderr) == (130, b"")


def test_ctrl_c_is_heard_while_llama_cpp_calls_back(demo_pair: Pair) -> None:
    code = """
        import os, signal, sys
        from mtpcli import __main__
        from mtpcli.llama import lib

        class Interrupted(list):
            def append(self, line):
                if lib._ERROR_LEVEL:
                    lib._ERROR_LEVEL = None
                    os.kill(os.getpid(), signal.SIGINT)

        lib._log, lib._ERROR_LEVEL = Interrupted(), 2  # a line that comes with every file
        sys.argv = ["mtpcli", "generate", "x", "-n", "1", "-m", sys.argv[1]]
        __main__.main()
    """
    arguments = [sys.executable, "-c", textwrap.dedent(code), str(demo_pair.target)]
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, b"", b"")


def test_penalties_and_min_p_keep_a_seeds_text_with_any_draft(generate: Run) -> None:
    settings = ["--seed", "5", "--repeat-penalty", "3", "--min-p", "0.02", "-n", "40"]
    drafted = generate(PROMPT, *settings)
    assert drafted.exit_code == 0, drafted.stderr
    assert generate(PROMPT, *settings, "--no-draft").stdout == drafted.stdout
    assert generate(PROMPT, "--seed", "5", "-n", "40").stdout != drafted.stdout


def test_rejection_gives_a_text_of_its_own(generate: Run) -> None:
    arguments = [PROMPT, "--seed", "5", "-n", "40", "--draft-depth", "3", "--json"]
    coupled = json.loads(generate(*arguments).stdout)
    rejected = json.loads(generate(*arguments, "--verify", "rejection").stdout)
    assert rejected["text"] != coupled["text"]
    assert rejected["speculation"]["accepted"] > 0
    assert (
        rejected["text"] == json.loads(generate(*arguments, "--verify", "rejection").stdout)["text"]
    )
