"""Who may import whom: cli -> (prompt, pair, hub, decode) -> llama -> the bindings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LEAVES = ("mtpcli.errors", "mtpcli.config", "mtpcli.sanitize", "mtpcli.interrupts")


@dataclass(frozen=True)
class Rule:
    """Modules below `where`, except those below `unless`, import nothing of `forbidden`.

    `allowed` names exceptions among the forbidden modules.
    """

    why: str
    where: str
    forbidden: tuple[str, ...]
    unless: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ()


PURE = tuple(
    f"mtpcli.decode.{name}"
    for name in (
        "verify",
        "sampling",
        "sharpness",
        "acceptance",
        "round_costs",
        "depth",
        "metrics",
    )
)
RULES = [
    Rule(
        "only the command line draws on terminals",
        "mtpcli",
        ("typer", "rich", "prompt_toolkit"),
        ("mtpcli.cli",),
    ),
    Rule("only mtpcli.llama knows the bindings", "mtpcli", ("llama_cpp",), ("mtpcli.llama",)),
    Rule(
        "nothing below the command line knows it",
        "mtpcli",
        ("mtpcli.cli",),
        ("mtpcli.cli", "mtpcli.__main__"),
    ),
    Rule(
        "mtpcli.llama knows the bindings and nothing of ours above it",
        "mtpcli.llama",
        ("mtpcli",),
        allowed=("mtpcli.llama", *LEAVES),
    ),
    Rule(
        "prompts are text: they need no model",
        "mtpcli.prompt",
        ("mtpcli", "convert"),
        allowed=("mtpcli.prompt", *LEAVES),
    ),
    Rule(
        "decoding knows neither prompts nor files",
        "mtpcli.decode",
        ("mtpcli.prompt", "mtpcli.pair", "mtpcli.session", "mtpcli.demo", "convert"),
    ),
    Rule(
        "a batch generates through a session, and leaves files of models to it",
        "mtpcli.batch",
        ("mtpcli.llama", "mtpcli.pair", "mtpcli.demo", "convert"),
    ),
    Rule(
        "only the hub talks to hubs",
        "mtpcli",
        ("huggingface_hub", "kagglehub"),
        ("mtpcli.hub",),
    ),
    Rule(
        "pulling makes files, and runs none",
        "mtpcli.hub",
        ("mtpcli.decode", "mtpcli.session", "mtpcli.prompt", "mtpcli.chat", "mtpcli.batch"),
    ),
    *(
        Rule(
            "acceptance, sampling, depth and figures are pure",
            module,
            ("mtpcli", "convert", "os", "io", "pathlib", "sys", "time", "random"),
            allowed=(
                "mtpcli.errors",
                "mtpcli.config",
                "mtpcli.decode.acceptance",
                "mtpcli.decode.round_costs",
                "mtpcli.decode.sharpness",
            ),
        )
        for module in PURE
    ),
    Rule(
        "the converter stands alone", "convert", ("mtpcli", "llama_cpp", "torch", "typer", "rich")
    ),
    Rule(
        "torch is for training and for tests",
        "mtpcli",
        ("torch", "transformers", "tokenizers", "safetensors"),
        ("mtpcli.demo",),
    ),
    Rule("errors and settings import nothing of ours", "mtpcli.errors", ("mtpcli", "convert")),
    Rule("errors and settings import nothing of ours", "mtpcli.config", ("mtpcli", "convert")),
]


def module_name(path: Path) -> str:
    """`mtpcli.llama` for mtpcli/llama/__init__.py."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def below(module: str, parents: tuple[str, ...]) -> bool:
    """Whether `module` is one of `parents` or inside one."""
    return any(module == parent or module.startswith(f"{parent}.") for parent in parents)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything a file imports at run time, lazily or not."""
    package = module_name(path).split(".")
    if path.name != "__init__.py":
        package.pop()
    tree = ast.parse(path.read_text("utf-8"))
    skipped = {id(node) for block in _type_checking(tree) for node in ast.walk(block)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                # `from mtpcli import errors` imports mtpcli.errors.
                full = f"{origin}.{alias.name}"
                yield node.lineno, full if _is_module(full) else origin


def _type_checking(tree: ast.Module) -> Iterator[ast.stmt]:
    """Statements under `if TYPE_CHECKING:`, which never run."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            yield from node.body


def _is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").is_file() or path.is_dir()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.where}: {rule.why}")
def test_import_direction(rule: Rule) -> None:
    offences = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for top in ("mtpcli", "convert")
        for path in sorted((ROOT / top).rglob("*.py"))
        if below(module_name(path), (rule.where,)) and not below(module_name(path), rule.unless)
        for line, name in imports(path)
        if below(name, rule.forbidden) and not below(name, rule.allowed)
    ]
    assert not offences, f"{rule.why}, but\n  " + "\n  ".join(offences)


def test_the_test_sees_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that finds nothing must not be one that cannot find anything."""
    monkeypatch.setattr("tests.unit.test_imports.ROOT", tmp_path)
    path = tmp_path / "mtpcli" / "llama" / "x.py"
    path.parent.mkdir(parents=True)
    (tmp_path / "mtpcli" / "errors.py").touch()
    path.write_text(
        "import a.b\n"
        "from mtpcli import errors, __version__\n"
        "from . import y\n"
        "from ..pair import find\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import unseen\n"
        "def f():\n    import lazy\n"
    )
    assert [name for _, name in imports(path)] == [
        "a.b",
        "mtpcli.errors",
        "mtpcli",
        "mtpcli.llama",
        "mtpcli.pair",
        "typing",
        "lazy",
    ]
