"""What fits into memory: layers into the devices', with cells and drafter; a context at all."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np

from mtpcli.config import MAX_DRAFT_DEPTH, RuntimeConfig
from mtpcli.errors import ModelError
from mtpcli.llama.gguf import GgufFile
from mtpcli.machine import MachineMemory
from mtpcli.pair import kv_heads, sliding_layers, vocabulary_size
from mtpcli.units import bytes_text

# Bytes per element of a KV cell; the quantised types come in blocks of 32 with a scale.
_ELEMENT = {
    "f32": 4, "f16": 2, "bf16": 2, "q8_0": 34 / 32, "q5_1": 24 / 32, "q5_0": 22 / 32,
    "q4_1": 20 / 32, "q4_0": 18 / 32, "iq4_nl": 18 / 32,
}  # fmt: skip
_ROWS = 512  # of a prompt, decoded at once
_CELLS = 256
_LEFT_ALONE = 256 << 20  # bytes of each device, for the driver and for what shows the screen
_ALL = 2**30
_LAYER = re.compile(r"blk\.(\d+)\.")


def layers_that_fit(
    target: GgufFile, drafter: GgufFile | None, runtime: RuntimeConfig, free: list[int]
) -> int:
    """The largest useful `gpu_layers`, output included, for devices with so many free bytes.

    An estimate: tensors and cells by their sizes, what llama.cpp computes in by its widest rows.
    A device that does not tell its memory (0) is believed to have enough.
    """
    sizes = [*_layer_bytes(target, runtime), _output_bytes(target)]
    if not all(free):
        return len(sizes)
    room = sum(free) - len(free) * (_LEFT_ALONE + _compute_bytes(target, runtime))
    if drafter:
        room -= sum(tensor.n_bytes for tensor in drafter.tensors) + _output_bytes(drafter)
        room -= len(free) * _compute_bytes(drafter, runtime)
    count = 0
    for size in reversed(sizes):  # llama.cpp takes layers from the end
        room -= size
        if room < 0:
            break
        count += 1
    return count


def place(
    target: GgufFile, drafter: GgufFile | None, runtime: RuntimeConfig, free: list[int]
) -> RuntimeConfig:
    """With the `gpu_layers` that fit, if they were not chosen; a keeper takes the place of none."""
    lean = replace(runtime, keeper=False)
    fit = layers_that_fit(target, drafter, lean, free)
    layers = fit if runtime.gpu_layers is None else runtime.gpu_layers
    if layers_that_fit(target, drafter, runtime, free) < min(layers, fit):
        runtime = lean
    return replace(runtime, gpu_layers=layers)


def drafter_layers(target: GgufFile, gpu_layers: int) -> int:
    """`gpu_layers` of the drafter: all where the cells that it reads are on a device, else none."""
    sliding = sliding_layers(target)
    own = sliding[: len(sliding) - _whole(target, "attention.shared_kv_layers")]
    last = [len(own) - 1 - own[::-1].index(kind) for kind in set(own)]
    return _ALL if min(last, default=0) >= len(sliding) + 1 - gpu_layers else 0


def check_memory(target: GgufFile, runtime: RuntimeConfig, memory: MachineMemory) -> RuntimeConfig:
    """Refuse a context that main memory has no room for: the system would end the process.

    The same estimate as for devices. Weights do not count, they are mapped.

    Returns:
        What there is room for: it may be without a keeper.

    Raises:
        ModelError: it is larger than what is free.
    """
    n_ctx = _n_ctx(target, runtime)
    need = sum(_cell_bytes(target, runtime)) + _compute_bytes(target, runtime)
    if n_ctx > _whole(target, "context_length") or need <= memory.available:
        return runtime  # the former is an error of its own
    if runtime.keeper:
        return check_memory(target, replace(runtime, keeper=False), memory)
    many = f" for each of {runtime.n_seq} sequences" if runtime.n_seq > 1 else ""
    fewer = " or --parallel" if many else ""
    raise ModelError(
        f"{target.path}: a context of {n_ctx} tokens{many} takes {bytes_text(need)} of memory, and "
        f"{bytes_text(memory.available)} are free: take a smaller --ctx{fewer}"
    )


def _layer_bytes(file: GgufFile, runtime: RuntimeConfig) -> list[int]:
    """Bytes of each layer's tensors and KV cells."""
    sizes = _cell_bytes(file, runtime)
    for tensor in file.tensors:
        if (match := _LAYER.match(tensor.name)) and int(match[1]) < len(sizes):
            experts = "exps" in tensor.name and runtime.cpu_moe
            sizes[int(match[1])] += 0 if experts else tensor.n_bytes
    return sizes


def _cell_bytes(file: GgufFile, runtime: RuntimeConfig) -> list[int]:
    """Bytes of each layer's KV cells; a layer that reads another one's has none."""
    sliding = sliding_layers(file)
    sizes = [0] * len(sliding)
    window = _whole(file, "attention.sliding_window") + _rows(runtime)
    n_ctx = _n_ctx(file, runtime)
    for layer in range(len(sizes) - _whole(file, "attention.shared_kv_layers")):
        slides = sliding[layer]
        kept = min(n_ctx, window) if slides and not runtime.swa_full else n_ctx
        width = _whole(file, f"attention.key_length{'_swa' if slides else ''}")
        cells = -(-kept // _CELLS) * _CELLS * (runtime.n_seq + runtime.keeper)
        element = _ELEMENT[runtime.kv_type]
        sizes[layer] = int(2 * element * cells * kv_heads(file, layer) * width)
    return sizes


def _output_bytes(file: GgufFile) -> int:
    """Bytes of the output's matrix; a device has its own copy where it is the embedding."""
    tensor = file.tensor("output.weight") or file.tensor("token_embd.weight")
    return tensor.n_bytes if tensor else 0


def _compute_bytes(file: GgufFile, runtime: RuntimeConfig) -> int:
    """Bytes of what a prompt's rows are computed in, their mask, and the logits of drafts."""
    widest = max(_whole(file, "feed_forward_length"), 2 * _whole(file, "embedding_length"))
    queries = _whole(file, "attention.head_count") * _whole(file, "attention.key_length")
    per_layer = _whole(file, "embedding_length_per_layer_input") * _whole(file, "block_count")
    rows = _rows(runtime)
    mask = 2 * (2 * _n_ctx(file, runtime))
    outputs = runtime.n_seq * (MAX_DRAFT_DEPTH + 1) * vocabulary_size(file)
    return 4 * (rows * (4 * widest + queries + 2 * per_layer) + outputs) + rows * mask


def _rows(runtime: RuntimeConfig) -> int:
    """Rows of the largest decode: of a prompt, or of all drafts."""
    return max(_ROWS, runtime.n_seq * (MAX_DRAFT_DEPTH + 1))


def _n_ctx(file: GgufFile, runtime: RuntimeConfig) -> int:
    return runtime.n_ctx or min(_whole(file, "context_length"), 8192)


def _whole(file: GgufFile, key: str) -> int:
    value: Any = file.arch_value(key)
    return int(np.max(value, initial=0)) if isinstance(value, (int, np.ndarray)) else 0
