"""Ways to damage a GGUF file: each takes a sound file's bytes and a source of chance."""

from __future__ import annotations

import math
import random
import struct
from collections.abc import Callable
from typing import Any

from tests.fuzz.gguf_codec import (
    ALIGNMENT,
    ARRAY,
    SCALARS,
    STRING,
    Entry,
    File,
    build,
    header,
    parse,
)

Mutation = Callable[[File, random.Random], None]
_LIMITS = {0: (0, 2**8), 1: (-(2**7), 2**7), 2: (0, 2**16), 3: (-(2**15), 2**15)}
_LIMITS |= {4: (0, 2**32), 5: (-(2**31), 2**31), 7: (0, 2), 10: (0, 2**64), 11: (-(2**63), 2**63)}
_FLOATS = [0.0, -1.0, 1e-30, 1e30, math.nan, math.inf, -math.inf, 0.5, 1e6]
_NAMES = [b"token_embd.weight", b"output_norm.weight", b"rope_freqs.weight", b"", b"x" * 63]
_NAMES += [b"blk.0.attn_qkv.weight", b"output.weight", b"blk.999.attn_q.weight", b"\xff\xfe"]


def mutate(raw: bytes, rng: random.Random) -> bytes:
    """One to three random damages of a sound file."""
    if rng.random() < 0.15:
        return _bytes(raw, rng)
    file = parse(raw)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        rng.choice(_MUTATIONS)(file, rng)
    if rng.random() < 0.8:
        pack(file)
    try:
        return build(file)
    except struct.error:  # two damages that cannot both be written
        return _bytes(raw, rng)


def pack(file: File) -> None:
    """Give each tensor the place that its shape asks for, so that only the shape is wrong.

    Its bytes come along as far as there are some.
    """
    import gguf

    parts, offset = [], 0
    for info in file.infos:
        block, size = gguf.GGML_QUANT_SIZES.get(info.kind, (1, 4))
        n_bytes = min(math.prod(info.dims) // block * size, 1 << 22)
        piece = file.data[info.offset : info.offset + n_bytes]
        parts.append(piece + bytes(n_bytes - len(piece) + -n_bytes % ALIGNMENT))
        info.offset, offset = offset, offset + len(parts[-1])
    file.data = b"".join(parts)


def _bytes(raw: bytes, rng: random.Random) -> bytes:
    """Flip, overwrite, cut or insert bytes, mostly in the header."""
    size = len(header(parse(raw)))
    data = bytearray(raw)
    kind = rng.randrange(5)
    place = rng.randrange(size if rng.random() < 0.8 else len(raw))
    if kind == 0:
        return bytes(data[:place])
    if kind == 1:
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[rng.randrange(4, size)] ^= 1 << rng.randrange(8)
    elif kind == 2:
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[rng.randrange(4, size)] = rng.choice((0, 1, 8, 9, 127, 128, 255))
    elif kind == 3:
        data[place : place + rng.randrange(9)] = rng.randbytes(rng.randrange(9))
    else:
        word = rng.choice((0, 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, rng.getrandbits(64)))
        data[place : place + 8] = struct.pack("<Q", word)
    return bytes(data)


def _number(kind: int, now: Any, rng: random.Random) -> Any:
    """Another value of a scalar type: near the old one, or at a limit."""
    if kind in (6, 12):
        return rng.choice([*_FLOATS, now * 2, now / 2, -now])
    low, high = _LIMITS[kind]
    near = [now - 1, now + 1, now * 2, now // 2, now * 3, -now, now ^ (1 << rng.randrange(8))]
    choices = [0, 1, 2, 3, 7, 32, 100, 1000, 2**20, 2**31 - 1, 2**31, 2**32 - 1, low, high - 1]
    value = rng.choice(near if rng.random() < 0.5 else choices)
    return min(max(value, low), high - 1)


def _text(now: bytes, rng: random.Random) -> bytes:
    return rng.choice(
        [b"", b"\xff\xfe\x00", now + b"\x00x", now[:-1], now[::-1], b"A" * 5000, b"\x1b[31m[bold]",
         b"gemma4", b"gemma4-assistant", b"gemma4_assistant", b"llama", b"gpt2", b"{{ 1 // 0 }}"]
    )  # fmt: skip


def _structural(file: File, rng: random.Random) -> Entry:
    """A key, more often one that says something of the shape."""
    shape = [entry for entry in file.entries if entry.key.startswith(b"gemma4")]
    return rng.choice(shape if shape and rng.random() < 0.7 else file.entries)


def change_value(file: File, rng: random.Random) -> None:
    entry = _structural(file, rng)
    if entry.kind == STRING:
        entry.value = _text(entry.value, rng)
    elif entry.kind == ARRAY:
        change_array(file, rng, entry)
    else:
        entry.value = _number(entry.kind, entry.value, rng)


def change_array(file: File, rng: random.Random, entry: Entry | None = None) -> None:
    """Change items of an array, drop some, or add some."""
    arrays = [one for one in file.entries if one.kind == ARRAY and one.value]
    if not entry and not arrays:
        return
    entry = entry or rng.choice(arrays)
    values = list(entry.value)
    way = rng.randrange(5)
    if not values or way == 0:
        values = values[: rng.randrange(len(values) + 1)]
    elif way == 1:
        values += [rng.choice(values)] * rng.choice((1, 2, 300))
    elif way == 2:
        rng.shuffle(values)
    else:
        for _ in range(rng.choice((1, 1, 5))):
            at = rng.randrange(len(values))
            now = values[at]
            text = entry.element == STRING
            values[at] = _text(now, rng) if text else _number(entry.element, now, rng)
    entry.value = values


def change_type(file: File, rng: random.Random) -> None:
    """The same value, or nearly, under another type."""
    entry = _structural(file, rng)
    kind = rng.choice([*SCALARS, STRING, ARRAY])
    if entry.kind == ARRAY:
        items = [item for item in entry.value if not isinstance(item, bytes)]
        if kind == ARRAY or not items:
            entry.element, entry.value = STRING, [b"%d" % n for n in range(len(entry.value))]
        else:
            entry.kind, entry.value = kind, _as(kind, items[0])
    elif kind == ARRAY:
        entry.kind, entry.element = ARRAY, entry.kind
        entry.value = [entry.value] * rng.choice((0, 1, 3, 4))
    elif not isinstance(entry.value, bytes):
        entry.kind, entry.value = kind, _as(kind, entry.value)
    else:
        entry.kind, entry.value = 4, len(entry.value)


def _as(kind: int, number: Any) -> Any:
    if kind == STRING:
        return str(number).encode()
    if kind in (6, 12):
        return float(number)
    low, high = _LIMITS[kind]
    return min(max(int(number) if math.isfinite(number) else 0, low), high - 1)


def drop_key(file: File, rng: random.Random) -> None:
    file.entries.remove(_structural(file, rng))


def double_key(file: File, rng: random.Random) -> None:
    entry = _structural(file, rng)
    file.entries.append(Entry(entry.key, entry.kind, entry.value, entry.element))


def swap_values(file: File, rng: random.Random) -> None:
    """Exchange the values of two keys of one type."""
    one = _structural(file, rng)
    alike = [two for two in file.entries if two.kind == one.kind and two.element == one.element]
    two = rng.choice(alike)
    one.value, two.value = two.value, one.value


def add_key(file: File, rng: random.Random) -> None:
    """A key that llama.cpp knows and the file did not have."""
    arch = file.entry("general.architecture").value.decode("utf-8", "replace")
    name, kind = rng.choice(
        [("rope.scaling.type", STRING), ("rope.scaling.factor", 6), ("expert_count", 4),
         ("expert_used_count", 4), ("rope.dimension_count", 4), ("attention.causal", 7),
         ("logit_scale", 6), ("final_logit_softcapping", 6), ("attention.shared_kv_layers", 4),
         ("nextn_predict_layers", 4), ("embedding_length_out", 4), ("pooling_type", 4),
         ("expert_feed_forward_length", 4), ("leading_dense_block_count", 4), ("vocab_size", 4),
         ("attention.clamp_kqv", 6), ("rope.dimension_sections", 5), ("expert_group_count", 4),
         ("attention.max_alibi_bias", 6), ("n_deepstack_layers", 4), ("feed_forward_length", 4)]
    )  # fmt: skip
    value: Any = b"linear" if kind == STRING else _number(kind, 1, rng)
    file.entries.append(Entry(f"{arch}.{name}".encode(), kind, value))


def change_dims(file: File, rng: random.Random) -> None:
    info = rng.choice(file.infos)
    way = rng.randrange(4)
    if way == 0:
        info.dims = info.dims[::-1]
    elif way == 1:
        info.dims = [*info.dims, rng.choice((0, 1, 2))] if rng.random() < 0.5 else info.dims[:-1]
    else:
        at = rng.randrange(len(info.dims)) if info.dims else 0
        if info.dims:
            info.dims[at] = _number(10, info.dims[at], rng)


def change_tensor_type(file: File, rng: random.Random) -> None:
    rng.choice(file.infos).kind = rng.randrange(45) if rng.random() < 0.9 else rng.getrandbits(32)


def change_offset(file: File, rng: random.Random) -> None:
    info = rng.choice(file.infos)
    info.offset = rng.choice(
        [0, info.offset + 32, info.offset + 1, len(file.data), 2**40, 2**64 - 32, 2**63]
    )


def rename_tensor(file: File, rng: random.Random) -> None:
    rng.choice(file.infos).name = rng.choice([*_NAMES, rng.choice(file.infos).name])


def swap_tensors(file: File, rng: random.Random) -> None:
    """Exchange two tensors' names, or what stands behind them."""
    one, two = rng.choice(file.infos), rng.choice(file.infos)
    if rng.random() < 0.5:
        one.name, two.name = two.name, one.name
    else:
        one.offset, two.offset = two.offset, one.offset


def drop_tensor(file: File, rng: random.Random) -> None:
    file.infos.remove(rng.choice(file.infos))


def double_tensor(file: File, rng: random.Random) -> None:
    file.infos.append(rng.choice(file.infos))


def change_weights(file: File, rng: random.Random) -> None:
    """Noise, not-a-numbers or zeros instead of weights."""
    data = bytearray(file.data)
    for _ in range(rng.choice((1, 4, 64))):
        start = rng.randrange(len(data) - 64)
        word = rng.choice((b"\xff\xff\xff\x7f", b"\x00\x00\xc0\x7f", b"\x00\x7c", b"\0", b"\xff"))
        size = rng.choice((4, 64, 4096))
        piece = rng.randbytes(size) if rng.random() < 0.5 else (word * size)[:size]
        data[start : start + size] = piece[: len(data) - start]
    file.data = bytes(data)


_MUTATIONS: list[Mutation] = [
    *[change_value] * 6,
    *[change_array] * 2,
    *[swap_values] * 2,
    *[change_dims] * 2,
    *[change_tensor_type] * 2,
    *[swap_tensors] * 2,
    *(change_type, drop_key, double_key, add_key, change_offset, rename_tensor),
    *(drop_tensor, double_tensor, change_weights),
]
