"""llama.cpp, loaded once and kept quiet: its log is held back and quoted only in errors."""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
from collections import deque
from pathlib import Path
from typing import Any

from mtpcli.interrupts import callback
from mtpcli.llama import abort

_log: deque[str] = deque(maxlen=40)
_ERROR_LEVEL = 4


@functools.cache
def load() -> Any:
    """Import llama.cpp's bindings, their log and aborts redirected; `llama_cpp.llama_cpp`."""
    import llama_cpp.llama_cpp as lib

    lib.llama_log_set(_log_callback(lib), ctypes.c_void_p(0))
    abort.watch(ctypes.CDLL(lib._lib._name))
    lib.llama_backend_init()
    return lib


def hold_log() -> None:
    """Hold llama.cpp's log back again, after somebody else has listened to it."""
    lib = load()
    lib.llama_log_set(_log_callback(lib), ctypes.c_void_p(0))


@functools.cache
def load_ext() -> Any:
    """The bindings of the multi-token-prediction calls, which llama.cpp calls experimental."""
    load()
    import llama_cpp.llama_cpp_ext as ext

    return ext


@functools.cache
def _log_callback(lib: Any) -> Any:
    # Cached, because ctypes does not keep a callback alive and llama.cpp calls it to the end.
    @callback
    def keep(level: int, text: bytes, _user_data: object) -> None:
        line = text.decode("utf-8", "replace").strip()
        if level == _ERROR_LEVEL and line:
            _log.append(line)

    return lib.llama_log_callback(keep)


def first_error() -> str:
    """The first error that llama.cpp logged since `clear_log`, or an empty text.

    The first one is the specific one; those after it say that something failed.
    """
    if not _log:
        return ""
    line = _log[0]  # "name_of_the_function: what is wrong"
    head, _, rest = line.partition(": ")
    return rest if rest and " " not in head else line


def clear_log() -> None:
    """Forget earlier errors, so that `first_error` speaks of the call that follows."""
    _log.clear()


@functools.cache
def ggml_base() -> Any:
    """libggml-base, found without importing the bindings.

    Those would load every backend, GPU drivers included, to read a header. When they are loaded
    later, they share this same library.
    """
    return ctypes.CDLL(str(library_path("ggml-base")))


def ggml() -> Any:
    """A handle of its own of libllama, as the binding has loaded it: libggml is found through it.

    The files of one library may be copies of each other, and to load libggml by another name
    would give a second list of devices.
    """
    return ctypes.CDLL(load()._lib._name)


def library_path(stem: str) -> Path:
    """The file of one of llama.cpp's libraries, `ggml-base` for example."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise ImportError("llama-cpp-python is not installed")
    # The bindings take this variable for the folder of their libraries, and so does this.
    override = os.environ.get("LLAMA_CPP_LIB_PATH")
    folder = Path(override) if override else Path(spec.origin).parent / "lib"
    for name in (f"lib{stem}.so", f"lib{stem}.dylib", f"{stem}.dll", f"lib{stem}.dll"):
        if (folder / name).exists():
            return folder / name
    raise ImportError(f"llama-cpp-python has no lib{stem} in {folder}")


def versions() -> dict[str, str]:
    """Versions of the binding and of the llama.cpp in it."""
    from importlib.metadata import version

    return {
        "llama-cpp-python": version("llama-cpp-python"),
        "llama.cpp": load().llama_version().decode("utf-8", "replace"),
    }


def default_threads() -> int:
    """Physical cores that this process may use: hyperthreads only slow a decode down."""
    try:
        cpus = os.sched_getaffinity(0)
    except AttributeError:  # not on macOS
        return max(1, os.cpu_count() or 1)
    siblings = {_siblings(cpu) for cpu in cpus}
    return max(1, len(siblings))


def _siblings(cpu: int) -> str:
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        return path.read_text().strip()
    except OSError:
        return str(cpu)
