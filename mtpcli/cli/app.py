"""Which commands there are. Nothing here loads llama.cpp: `--help` must be quick."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, NoReturn

import typer

from mtpcli.cli.batch import batch
from mtpcli.cli.bench import bench
from mtpcli.cli.chat import chat
from mtpcli.cli.config_file import defaults, location
from mtpcli.cli.convert import convert
from mtpcli.cli.demo import demo
from mtpcli.cli.devices import list_devices
from mtpcli.cli.ending import tidy_ending
from mtpcli.cli.generate import generate
from mtpcli.cli.inspect import inspect_files
from mtpcli.cli.models import list_models, remove
from mtpcli.cli.plan import plan
from mtpcli.cli.pull import pull
from mtpcli.cli.rpc_server import rpc_server
from mtpcli.cli.verify import verify
from mtpcli.errors import UsageError

app = typer.Typer(
    name="mtpcli",
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(generate)
app.command()(tidy_ending()(chat))
app.command()(batch)
app.command()(tidy_ending()(plan))
app.command()(tidy_ending()(pull))
app.command("list")(list_models)
app.command()(remove)
app.command()(tidy_ending()(convert))
app.command("inspect")(inspect_files)
app.command()(demo)
app.command()(tidy_ending()(bench))
app.command("rpc-server")(rpc_server)
app.command("devices")(list_devices)
app.command()(verify)


def _show_version(wanted: bool) -> None:
    if wanted:
        from mtpcli import __version__
        from mtpcli.llama.lib import versions

        parts = ", ".join(f"{name} {version}" for name, version in versions().items())
        typer.echo(f"mtpcli {__version__} ({parts})")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show versions."),
    ] = False,
) -> None:
    """Gemma 4 at drafter speed, from a terminal.

    Defaults of options may stand in a file: config.toml in the user's config folder
    (~/.config/mtpcli on Linux), or the one that MTPCLI_CONFIG names.
    Options on the command line win, then MTPCLI_MODEL, then the file. For example:

        model = "~/models/gemma-4-E4B-it-Q8_0.gguf"
        generate.temperature = 0.7

    Exit codes: 0 done, 1 a bug, 2 usage, 3 a model file, 4 input or output,
    5 texts that differ (verify), 130 interrupted, 128 + N ended by signal N.
    """
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
        return
    commands: Any = context.command
    try:
        context.default_map = defaults(commands.commands)
    except UsageError as error:
        # Not yet: the help of a command tells what the file may say, and does not come so far.
        commands.commands[context.invoked_subcommand].invoke = partial(_refuse, error)


def _refuse(error: UsageError, _context: Any) -> NoReturn:
    raise error


def _from_config(context: Any, parameter: Any) -> bool:
    """Whether a parameter's value was read from the config file."""
    source = parameter and context.get_parameter_source(parameter.name)
    return bool(source) and source.name == "DEFAULT_MAP"


def usage_message(error: Exception) -> str | None:
    """What an error in the use of options says; None for any other error."""
    # By its shape, because Typer brings its own copy of Click, or not, depending on its version.
    message = getattr(error, "format_message", None)
    if message is None:
        return None
    context = getattr(error, "ctx", None)
    if context and _from_config(context, getattr(error, "param", None)):
        return f"{location()}: {message()}"
    hint = f" (see `{context.command_path} --help`)" if context else ""
    return f"{message()}{hint}"
