"""llama.cpp's own quantiser, for the types that NumPy cannot write.

It runs in a process of its own: the call cannot be interrupted, and llama.cpp may abort.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mtpcli.errors import ModelError
from mtpcli.llama import child
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
_PROGRESS_LINE = re.compile(r"(\d+) (\d+)")


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
    started = child.running(
        "mtpcli.llama.quantize",
        *(str(source), str(output), str(PRESETS[preset])),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={},
    )
    said = ""
    with started as process:
        assert process.stdout
        for line in process.stdout:
            text = line.decode("utf-8", "replace").strip()
            if not (step := _PROGRESS_LINE.fullmatch(text)):
                said = text
            elif progress is not None:
                progress(int(step[1]), int(step[2]))
        code = process.wait()
    if code:
        name = f"{signal.Signals(-code).name} " if code < 0 else ""
        why = name + said or "it ended without a word"
        raise ModelError(f"{source}: llama.cpp cannot quantise it to {preset.upper()}: {why}")


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


def main() -> int:
    """Quantise the file named first to the second as the third says; 3 and a line for an error.

    Says how many tensors are done, and how many there are, again and again.
    """
    child.begin()
    source, output, ftype = sys.argv[1:]
    lib = llama.load()
    errors = ["unknown error"]

    def listen(level: int, text: bytes, _user_data: object) -> None:
        if level == _ERROR_LEVEL:
            errors.append(text.decode("utf-8", "replace").strip())
        elif match := _TENSOR_LINE.match(text):
            with contextlib.suppress(OSError):  # nobody listens: the end is near
                print(int(match[1]), int(match[2]), flush=True)

    callback = lib.llama_log_callback(listen)
    lib.llama_log_set(callback, ctypes.c_void_p(0))
    params = lib.llama_model_quantize_default_params()
    params.ftype = int(ftype)
    params.nthread = llama.default_threads()
    params.max_buf_size = _BUFFER_BYTES
    if lib.llama_model_quantize(os.fsencode(source), os.fsencode(output), params):
        print(errors[-1].rpartition(": ")[2])
        return 3
    return 0
