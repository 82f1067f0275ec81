"""llama.cpp's own quantiser, for the types that NumPy cannot write.

It runs in a process of its own: the call cannot be interrupted, and llama.cpp may abort.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import re
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

from mtpcli.errors import ModelError
from mtpcli.llama import lib as llama

# Values of llama.cpp's `llama_ftype`. Those that need an importance matrix are not here.
PRESETS = {
    "q2_k": 10,
    "q3_k_s": 11,
    "q3_k_m": 12,
    "q3_k_l": 13,
    "iq3_s": 26,
    "iq3_m": 27,
    "iq4_xs": 30,
    "iq4_nl": 25,
    "q4_k_s": 14,
    "q4_k_m": 15,
    "q5_k_s": 16,
    "q5_k_m": 17,
    "q6_k": 18,
}
_BUFFER_BYTES = 1 << 29
_ERROR_LEVEL = 4
# [ 517/ 541] NAME - [ 256, 1, 1, 1], type = bf16, size = 0.5 MiB -> 0.2 MiB (q4_K)
_TYPE_LINE = re.compile(
    r"\[ *\d+/ *\d+\] +(\S+) +- \[[^]]*\], type = +(\w+), size = +[\d.]+ MiB"
    r"(?: -> +[\d.]+ MiB \((\w+)\))?"
)
_TENSOR_LINE = re.compile(rb"\[\s*(\d+)/\s*(\d+)\]")


def quantize(
    source: Path, output: Path, preset: str, progress: Callable[[int, int], None] | None = None
) -> None:
    """Write `source`, an unquantised GGUF file, to `output` in one of `PRESETS`.

    Metadata is kept. After a failure `output` may be half written.

    Args:
        progress: called with tensors done and tensors in all.

    Raises:
        ModelError: llama.cpp cannot do it; with its reason.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe(duplex=False)
    job = (str(source), str(output), PRESETS[preset], theirs)
    process = spawn.Process(target=_quantize, args=job, daemon=True)
    process.start()
    theirs.close()
    try:
        while isinstance(message := ours.recv(), tuple):
            if progress is not None:
                progress(*message)
    except EOFError:
        message = "it ended without a word"
    finally:
        process.kill()
        process.join()
    if message:
        raise ModelError(f"{source}: llama.cpp cannot quantise it to {preset.upper()}: {message}")


def preset_types(source: Path, preset: str) -> dict[str, str]:
    """Which types the tensors of `source` get in a preset, as llama.cpp chooses them.

    It looks at the header alone; the tensors may be holes.

    Returns:
        Name of a tensor to ggml's name of its type.

    Raises:
        ModelError: llama.cpp cannot do it.
    """
    lib = llama.load()
    said: list[str] = []
    callback = lib.llama_log_callback(
        lambda level, text, data: said.append(text.decode("utf-8", "replace"))
    )
    params = lib.llama_model_quantize_default_params()
    params.ftype = PRESETS[preset]
    params.dry_run = True
    lib.llama_log_set(callback, ctypes.c_void_p(0))
    try:
        failed = lib.llama_model_quantize(str(source).encode(), b"", params)
    finally:
        llama.hold_log()
    types = {match[1]: match[3] or match[2] for match in _TYPE_LINE.finditer("".join(said))}
    if failed or not types:
        raise ModelError(f"llama.cpp does not say what {preset.upper()} makes of {source}")
    return types


def _quantize(source: str, output: str, ftype: int, results: Connection) -> None:
    """The other process: sends (done, total) again and again, then an error or an empty text."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    lib = llama.load()
    errors = ["unknown error"]

    def listen(level: int, text: bytes, _user_data: object) -> None:
        if level == _ERROR_LEVEL:
            errors.append(text.decode("utf-8", "replace").strip())
        elif match := _TENSOR_LINE.match(text):
            results.send((int(match[1]), int(match[2])))

    callback = lib.llama_log_callback(listen)
    lib.llama_log_set(callback, ctypes.c_void_p(0))
    params = lib.llama_model_quantize_default_params()
    params.ftype = ftype
    params.nthread = llama.default_threads()
    params.max_buf_size = _BUFFER_BYTES
    failed = lib.llama_model_quantize(source.encode(), output.encode(), params)
    results.send(errors[-1].rpartition(": ")[2] if failed else "")


def _end_with_parent() -> None:
    """A parent that was killed leaves nobody who wants the file."""
    parent = multiprocessing.parent_process()
    assert parent
    parent.join()
    os._exit(1)
