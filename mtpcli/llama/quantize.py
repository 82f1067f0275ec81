"""llama.cpp's own quantiser, for the types that NumPy cannot write.

It runs in a process of its own: the call cannot be interrupted, and llama.cpp may abort.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import re
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


def _quantize(source: str, output: str, ftype: int, results: Connection) -> None:
    """The other process: sends (done, total) again and again, then an error or an empty text."""
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
