"""Damaged rows, settings, conversations, schemas, grammars and options, given to the program."""

from __future__ import annotations

import json
import os
import random
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests import snapshots
from tests.fuzz.json_mutations import dump, mutate_bytes, mutate_value
from tests.schemas import BOUNDED

HI = {"role": "user", "content": "a b"}
ROWS: list[dict[str, Any]] = [
    {"prompt": "a", "max_tokens": 3, "temperature": 0.5, "top_p": 0.9, "seed": 4, "id": "x"},
    {"messages": [{"role": "system", "content": "x"}, HI], "stop": ["a"], "max_tokens": 2},
    {"prompt": "p", "schema": {"type": "object", "properties": {"a": {"enum": [1, None]}}}},
    {"custom_id": "a", "url": "/v1/chat/completions", "body": {"messages": [HI], "max_tokens": 2}},
    {"custom_id": "b", "url": "/v1/completions", "body": {"prompt": "x", "max_tokens": 2}},
    {"custom_id": "c", "body": {"messages": [HI], "response_format": {"type": "json_object"}}},
]
SAVED: dict[str, Any] = {
    "format": "mtpcli chat 1", "model": "m.gguf", "thinking": False, "left_out": 0,
    "sampling": {"temperature": 1.0, "top_k": 64, "top_p": 0.95, "seed": 3, "min_p": 0.0},
    "messages": [
        {"role": "system", "content": "x"}, HI,
        {"role": "assistant", "content": "c", "finish_reason": "stop", "thought": "t", "seed": 4},
    ],
}  # fmt: skip
CONFIG = b"""temperature = 0.7
top-k = 40
stop = ["x", "y"]
max-tokens = 3
[generate]
seed = 7
json = true
[batch]
parallel = 2
"""
GRAMMAR = b"""root ::= item ("," item)* | [^a-z\\n]{2,3}
item ::= "a" | "b" [0-9]+ | "\\u00e9" # comment
"""
OPTIONS = ["--temperature", "--top-k", "--top-p", "--min-p", "--seed", "--max-tokens", "--ctx"]
OPTIONS += [
    "--threads",
    "--draft-depth",
    "--verify",
    "--stop",
    "--system",
    "--repeat-penalty",
    "-f",
]
OPTIONS += ["--presence-penalty", "--frequency-penalty", "--json-schema", "--grammar", "-m"]
OPTIONS += ["--drafter", "--no-draft", "--raw", "--json", "--thinking", "--stats", "--bogus", "-"]
VALUES = [
    "0",
    "1",
    "-1",
    "1.5",
    "nan",
    "inf",
    "1e308",
    "99999999999999999999",
    "",
    " ",
    "x",
    "auto",
]
VALUES += [
    "\x1b[31m",
    "\udcff",
    "/dev/null",
    "/",
    ".",
    "none.gguf",
    "in.bin",
    "[bold]",
    "-",
    "A" * 5000,
]
CODES = {0, 2, 3, 4}


class Commands:
    """A sound tiny pair, and commands with damaged input by number."""

    def __init__(self, folder: Path) -> None:
        """Convert the pair, into a folder of its own."""
        from convert import convert_pair

        self.folder = folder
        sound = folder / "sound"
        target = snapshots.write_target(sound / "small")
        drafter = snapshots.write_drafter(sound / "drafter")
        template = "{{ bos_token }}{% for m in messages %}{{ m.content }}{% endfor %}"
        (target / "chat_template.jinja").write_text(template)
        self.model = str(convert_pair(target, drafter, sound, "q8_0")[0])

    def write(self, seed: int) -> None:
        """Write the input of that number, and keep the command that reads it."""
        rng = random.Random(seed)
        makers: list[Callable[[random.Random], list[str]]] = [
            *[self._batch] * 4, *[self._options] * 4, self._saved, self._config, self._schema,
            self._schema, self._grammar, self._grammar, self._prompt, self._table,
        ]  # fmt: skip
        for name in ("in.bin", "config.toml", "out.jsonl", "out.jsonl.part"):
            (self.folder / name).unlink(missing_ok=True)
        self._put("stdin", b"")
        self.arguments = rng.choice(makers)(rng)

    def use(self) -> None:
        """Run the command as the shell would; its exit code and words are checked."""
        from mtpcli.__main__ import run
        from mtpcli.errors import InputError

        os.chdir(self.folder)
        os.environ["MTPCLI_CONFIG"] = str(self.folder / "config.toml")
        if not Path("config.toml").exists():
            Path("config.toml").touch()
        said = os.open("said", os.O_CREAT | os.O_TRUNC | os.O_RDWR)
        os.dup2(os.open("stdin", os.O_RDONLY), 0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(said, 2)
        sys.argv = ["mtpcli", *self.arguments]
        sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
        try:
            code: object = run()
        except SystemExit as end:
            code = end.code or 0
        sys.stderr.flush()
        text = Path("said").read_text("utf-8", "replace")
        assert code in CODES, f"{shlex.join(self.arguments)!r}: exit {code}: {text}"
        errors = [line for line in text.splitlines() if line.startswith("error: ")]
        assert "Traceback" not in text and len(errors) <= 1, text
        assert not any(ord(char) < 32 and char != "\n" for char in text), repr(text)
        if errors and errors[0] == text.strip().splitlines()[-1]:
            raise InputError(errors[0])

    def _put(self, name: str, data: bytes) -> str:
        (self.folder / name).write_bytes(data)
        return name

    def _model(self) -> list[str]:
        return ["-m", self.model, "--ctx", "64", "--threads", "1", "--draft-depth", "2"]

    def _generate(self, *more: str) -> list[str]:
        return ["generate", *self._model(), "--max-tokens", "6", *more]

    def _batch(self, rng: random.Random) -> list[str]:
        lines = []
        for _ in range(rng.randrange(1, 5)):
            line = dump(mutate_value(rng.choice(ROWS), rng))
            lines.append(mutate_bytes(line, rng) if rng.random() < 0.2 else line)
        name = self._put("in.bin", b"\n".join(lines))
        shape = ["--format", rng.choice(("jsonl", "openai"))] if rng.random() < 0.8 else []
        return ["batch", name, "-o", "out.jsonl", "--max-tokens", "6", *shape, *self._model()]

    def _table(self, rng: random.Random) -> list[str]:
        table = mutate_bytes(b'name,text\nBo,"two\nlines"\nZo\xc3\xab,"a ""q"""\n,\n', rng)
        more = ["--format", "csv", "--template", "{name}: {text}", "--max-tokens", "4"]
        return ["batch", self._put("in.bin", table), "-o", "out.jsonl", *more, *self._model()]

    def _options(self, rng: random.Random) -> list[str]:
        self._put("in.bin", rng.randbytes(200))
        command = rng.choice((["generate", "a"], ["batch", "in.bin"], ["chat"], ["inspect"], []))
        words = list(command)
        for _ in range(rng.randrange(1, 4)):
            words += [rng.choice(OPTIONS), *rng.sample(VALUES, rng.choice((0, 1, 1, 1, 2)))]
        if command and command[0] in ("generate", "batch", "chat") and rng.random() < 0.8:
            return [*command, *self._model(), "--max-tokens", "4", *words[len(command) :]]
        return words

    def _saved(self, rng: random.Random) -> list[str]:
        data = dump(mutate_value(SAVED, rng))
        self._put("in.bin", mutate_bytes(data, rng) if rng.random() < 0.2 else data)
        self._put("stdin", b"a\n")
        return ["chat", "--load", "in.bin", "--max-tokens", "4", *self._model()]

    def _config(self, rng: random.Random) -> list[str]:
        text = CONFIG.splitlines()
        for _ in range(rng.randrange(1, 4)):
            at = rng.randrange(len(text))
            key, _, _ = text[at].partition(b"=")
            values = [
                b"nan",
                b"-1",
                b"[]",
                b"[1]",
                b'"x"',
                b"true",
                b"1e400",
                b"{a=1}",
                b"1979-01-01",
            ]
            text[at] = key + b"= " + rng.choice(values)
        data = b"\n".join(text)
        self._put("config.toml", mutate_bytes(data, rng) if rng.random() < 0.4 else data)
        return ["generate", *self._model(), "a"]

    def _schema(self, rng: random.Random) -> list[str]:
        schema = mutate_value(rng.choice(list(BOUNDED.values())), rng)
        data = dump(schema if rng.random() < 0.5 else mutate_value(schema, rng))
        self._put("in.bin", mutate_bytes(data, rng) if rng.random() < 0.1 else data)
        return self._generate("--json-schema", "in.bin", "a")

    def _grammar(self, rng: random.Random) -> list[str]:
        data = bytearray(GRAMMAR)
        for _ in range(rng.randrange(1, 5)):
            at = rng.randrange(len(data))
            pieces = [b"(", b")", b"*", b"{9999}", b"[", b"]", b'"', b"|", b"root", b"::=", b"\\x"]
            data[at : at + rng.randrange(3)] = rng.choice([*pieces, b"\xff", b"\n", b"item", b"\0"])
        self._put("in.bin", bytes(data))
        return self._generate("--grammar", "in.bin", "a")

    def _prompt(self, rng: random.Random) -> list[str]:
        data = rng.choice(
            [rng.randbytes(300), b"", b"\n\n", b"a" * 10**6, b"\x00" * 99, b"<|turn>"]
        )
        self._put("stdin", data)
        return self._generate(*rng.choice(([], ["-"], ["a"], ["--raw"], ["-f", "stdin"])))


def describe(commands: Commands) -> str:
    """The command of the case that was written last."""
    return json.dumps(commands.arguments)
