"""Run the command line, and turn known errors into one line and an exit code.

Nothing is imported here that Python has not imported itself: Ctrl-C is caught from `main` on.
"""

from __future__ import annotations

import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn, TextIO

INTERRUPTED = 130
# The exit code of input that cannot be read, and of output that cannot be written.
DATA = 4
MAX_LINE = 1000


def main() -> NoReturn:
    """Entry point of `mtpcli`."""
    try:
        import signal

        from mtpcli.interrupts import outside_callbacks

        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, outside_callbacks(signal.default_int_handler))
        sys.exit(run())
    except KeyboardInterrupt:  # while modules are imported
        sys.exit(INTERRUPTED)
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:
                _drop(stream)


def run() -> int:
    """Run the command that `sys.argv` asks for; its exit code."""
    from mtpcli.cli.app import app
    from mtpcli.errors import MtpError

    _mend_streams()
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except MtpError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        _drop(sys.stdout)
        return 0
    except SystemExit as end:
        if not isinstance(end.__context__, BrokenPipeError):
            raise
        # Typer ends the process by itself, with 1, when nobody reads any more.
        _drop(sys.stdout)
        return 0
    except MemoryError:
        return _fail("not enough memory: a model takes less with a smaller --ctx", 3)
    except OSError as error:
        if error.filename is not None:
            return _fail(f"{os.fsdecode(error.filename)}: {error.strerror}", DATA)
        # No file of ours, so it is a standard stream: a full disk, or closed by `>&-`.
        _drop(sys.stdout)
        return _fail(f"cannot write the output: {error.strerror}", DATA)
    except Exception as error:
        return _usage_or_bug(error)
    return code if isinstance(code, int) else 0


def _usage_or_bug(error: Exception) -> int:
    from convert.errors import ConvertError, TakenError, WriteError
    from mtpcli.cli.app import usage_message

    if isinstance(error, TakenError):
        return _fail(str(error), 2)
    if isinstance(error, ConvertError):
        return _fail(str(error), DATA if isinstance(error, WriteError) else 3)
    if message := usage_message(error):
        return _fail(message, 2)
    if "MTPCLI_DEBUG" in os.environ:
        raise error
    return _fail(
        f"a bug in mtpcli, {type(error).__name__}: {error}; "
        "set MTPCLI_DEBUG=1 to see where, and please report it",
        1,
    )


def _fail(message: str, code: int) -> int:
    from contextlib import suppress

    from mtpcli.sanitize import visible

    line = visible(" ".join(message.split()))
    if len(line) > MAX_LINE:  # it quotes what somebody gave
        line = f"{line[:MAX_LINE]}..."
    with suppress(OSError):
        print(f"error: {line}", file=sys.stderr)
    return code


def _mend_streams() -> None:
    """Put something where the shell closed a standard stream (`<&-`, `>&-`, `2>&-`).

    Otherwise the next file that is opened gets its number, and llama.cpp writes into it. Reading
    gives nothing, and writing to standard output fails as it does on a closed stream.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            null = os.open(os.devnull, os.O_WRONLY if name == "stderr" else os.O_RDONLY)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115
        elif name != "stdin":
            # A terminal that cannot show a character shows another one instead of a traceback.
            stream.reconfigure(errors="replace")
    errors = sys.__stderr__
    if errors and errors is sys.stderr and not errors.isatty():
        raw = io.BufferedWriter(_Unheard(errors.fileno(), "wb", closefd=False))
        sys.stderr = io.TextIOWrapper(raw, errors.encoding, "replace", line_buffering=True)


class _Unheard(io.FileIO):
    """Standard error: what a full disk or a reader that left does not take is lost, no more."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _drop(stream: TextIO) -> None:
    # The interpreter would flush it at exit, complain that nobody reads it, and end with 120.
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


if __name__ == "__main__":
    main()
