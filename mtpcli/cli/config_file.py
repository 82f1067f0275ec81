"""The user's defaults for options, from a TOML file.

Keys are long option names without the dashes. At the top they serve every command that runs a
model and has the option, in a table of a command's name only that one:

    model = "~/models/gemma-4-E4B-it-Q8_0.gguf"

    [generate]
    temperature = 0.7
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mtpcli.errors import UsageError

# What is not an option's default.
_NOT_SET_HERE = {"help", "version"}
_PATHS = {"model", "drafter", "json-schema", "grammar", "file"}
_MAX_SIZE = 1 << 20
# Files that may also be models by name.
_NAMES = {"model", "drafter"}


def location() -> Path:
    """`MTPCLI_CONFIG`, else `config.toml` in the user's config folder."""
    if named := os.environ.get("MTPCLI_CONFIG"):
        return Path(named)
    from platformdirs import user_config_path

    return user_config_path("mtpcli", appauthor=False) / "config.toml"


def defaults(commands: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """What the file sets, by command and parameter; nothing if there is no file.

    Args:
        commands: Click's commands by their names.

    Raises:
        UsageError: the file cannot be read, or names what no command has.
    """
    path = location()
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = file.read(_MAX_SIZE)
    except (FileNotFoundError, NotADirectoryError):  # a service's home may be /dev/null
        if os.environ.get("MTPCLI_CONFIG"):
            raise UsageError(f"MTPCLI_CONFIG names {path}, which does not exist") from None
        return {}
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text") from None
    # Most people have no such file, and `--help` is in a hurry.
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        settings = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path} is not TOML: {error}") from None
    except RecursionError:
        raise UsageError(f"{path} is nested too deeply") from None
    options = {name: _options(command) for name, command in commands.items()}
    found: dict[str, dict[str, Any]] = {name: {} for name in commands}
    # Tables last: a command's own setting beats the one for all.
    for key, value in sorted(settings.items(), key=lambda item: isinstance(item[1], dict)):
        if isinstance(value, dict):
            if key not in commands:
                raise UsageError(f"{path}: [{key}] is no command")
            for name, inner in value.items():
                if name not in options[key]:
                    raise UsageError(f"{path}: [{key}] {name}: no option of that command")
                _set(found[key], name, options[key][name], inner, path)
            continue
        # Whatever runs a model has --device.
        users = [name for name in commands if {key, "device"} <= options[name].keys()]
        if not users:
            raise UsageError(f"{path}: {key}: no command that runs a model has such an option")
        for name in users:
            _set(found[name], key, options[name][key], value, path)
    return found


def _options(command: Any) -> dict[str, Any]:
    """A command's options by their long names, and a model that is its argument."""
    options = {
        spelling[2:]: parameter
        for parameter in command.params
        for spelling in parameter.opts
        if spelling.startswith("--") and spelling[2:] not in _NOT_SET_HERE
    }
    return {
        parameter.name: parameter for parameter in command.params if parameter.name in _NAMES
    } | options


def _set(found: dict[str, Any], key: str, parameter: Any, value: Any, path: Path) -> None:
    """Keep a setting as Click wants it: as text, which it reads as it reads the command line."""
    if getattr(parameter, "is_flag", False):
        if not isinstance(value, bool):
            raise UsageError(f"{path}: {key}: true or false, not {value!r}")
        found[parameter.name] = value
        return
    values = value if isinstance(value, list) else [value]
    if isinstance(value, list) != bool(getattr(parameter, "multiple", False)):
        wanted = "a single value" if isinstance(value, list) else "a list"
        raise UsageError(f"{path}: {key}: {wanted}, not {value!r}")
    for item in values:
        if isinstance(item, bool) or not isinstance(item, (str, int, float)):
            raise UsageError(f"{path}: {key}: text or a number, not {item!r}")
    texts = [str(item) for item in values]
    if key in _PATHS:
        texts = [_path(path.parent, text, key in _NAMES) for text in texts]
    found[parameter.name] = texts if isinstance(value, list) else texts[0]


def _path(folder: Path, text: str, may_be_name: bool) -> str:
    """A path relative to the file's folder; the name of a model stays as it is."""
    from mtpcli.hub.names import parse

    try:
        path = folder / Path(text).expanduser()
    except RuntimeError:  # no such user's home: the path as it is, which the command then misses
        path = folder / text
    return text if may_be_name and not path.exists() and parse(text) else str(path)
