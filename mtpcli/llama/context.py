"""Contexts and batches: rows in, logits and hidden states out, roll back, close."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mtpcli.config import MAX_DRAFT_DEPTH, RuntimeConfig
from mtpcli.errors import ModelError, UsageError
from mtpcli.interrupts import callback
from mtpcli.llama import lib as llama
from mtpcli.llama.model import Model
from mtpcli.llama.threads import ThreadPool

FloatArray = npt.NDArray[np.float32]

_PROMPT_BATCH = 512
_DEFAULT_CTX = 8192
# llama.cpp rounds the cells of sliding-window layers up to a multiple of this.
_CELLS = 256
_BF16 = 30  # GGML_TYPE_BF16 of ggml.h, which the binding does not name
_VIEWS = 64  # of llama.cpp's outputs, by address and size, that are kept for the next decode

_Self = TypeVar("_Self", bound="_Context")


class Batch:
    """A llama.cpp batch whose arrays are NumPy's, so that there is nothing native to free.

    Attributes:
        token, pos, seq: int32 arrays of `capacity` rows.
        output: int8 array, 1 where a row's logits are wanted.
        embd: float32 `[capacity, n_embd]`; a drafter's row holds both a token and an embedding,
            a target's only a token (`n_embd` 0).
    """

    def __init__(self, capacity: int, n_embd: int = 0) -> None:
        lib = llama.load()
        self.capacity = capacity
        self.token = np.zeros(capacity, np.int32)
        self.pos = np.zeros(capacity, np.int32)
        self.seq = np.zeros(capacity, np.int32)
        self.output = np.zeros(capacity, np.int8)
        self.embd: FloatArray = np.zeros((capacity, n_embd), np.float32)
        self._n_seq = np.ones(capacity, np.int32)
        base, step = self.seq.ctypes.data, self.seq.itemsize
        self._seq_pointers = np.arange(capacity, dtype=np.uintp) * step + base
        self.struct = lib.llama_batch()

        def pointer(array: npt.NDArray[Any], kind: Any) -> Any:
            return ctypes.cast(array.ctypes.data, ctypes.POINTER(kind))

        self.struct.token = pointer(self.token, ctypes.c_int32)
        self.struct.pos = pointer(self.pos, ctypes.c_int32)
        self.struct.n_seq_id = pointer(self._n_seq, ctypes.c_int32)
        self.struct.seq_id = pointer(self._seq_pointers, ctypes.POINTER(ctypes.c_int32))
        self.struct.logits = pointer(self.output, ctypes.c_int8)
        if n_embd:
            self.struct.embd = pointer(self.embd, ctypes.c_float)


class _Context:
    """Owns a llama.cpp context. Closing it twice is harmless."""

    def __init__(self, model: Model, params: Any, purpose: str) -> None:
        self._lib = llama.load()
        self._ext = llama.load_ext()
        self.model = model
        self.handle: Any = None
        self._views: dict[tuple[int, int, int], FloatArray] = {}
        llama.clear_log()
        self.handle = self._lib.llama_init_from_model(model.handle, params)
        if not self.handle:
            reason = llama.first_error() or "not enough memory?"
            advice = "; take a smaller --ctx" if "memory" in reason or "alloc" in reason else ""
            raise ModelError(
                f"llama.cpp cannot create the {purpose} for {model.path}: {reason}{advice}"
            )

    def close(self) -> None:
        """Free the context; its model stays."""
        if self.handle:
            self._lib.llama_free(self.handle)
        self.handle = None

    def __enter__(self: _Self) -> _Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _decode(self, batch: Batch, rows: int) -> None:
        batch.struct.n_tokens = rows
        llama.clear_log()
        status = self._lib.llama_decode(self.handle, batch.struct)
        if status != 0:
            reason = llama.first_error() or "no room in the KV cache"
            raise ModelError(f"llama.cpp failed to decode {rows} rows (status {status}): {reason}")

    def _floats(self, pointer: Any, rows: int, width: int) -> FloatArray:
        """View of `rows` x `width` floats that llama.cpp owns, valid until its next decode."""
        if not pointer:
            raise ModelError("llama.cpp returned no output")
        key = ctypes.addressof(pointer.contents), rows, width
        view = self._views.get(key)
        if view is None:
            # The same few buffers come back again and again; if they move, the old views are void.
            if len(self._views) == _VIEWS:
                self._views.clear()
            buffer = (ctypes.c_float * (rows * width)).from_address(key[0])
            view = np.frombuffer(memoryview(buffer), np.float32).reshape(rows, width)
            self._views[key] = view
        return view


class TargetContext(_Context):
    """The target's KV cache, for `n_seq` sequences of `n_ctx` tokens each.

    Attributes:
        n_ctx: tokens of context per sequence.
        keeper: number of the sequence beside the `n_seq` that only keeps cells; None without one.
        config: what it was made from.
        batch: rows to fill before `decode`.
    """

    def __init__(self, model: Model, config: RuntimeConfig) -> None:
        n_ctx = config.n_ctx or min(model.n_ctx_train, _DEFAULT_CTX)
        if n_ctx > model.n_ctx_train:
            raise UsageError(
                f"--ctx {n_ctx} is more than the {model.n_ctx_train} tokens of {model.path}"
            )
        if n_ctx <= MAX_DRAFT_DEPTH:  # llama.cpp's batches are no longer than its context
            raise UsageError(f"a context of {n_ctx} tokens is too short: take --ctx 64 or more")
        rows = config.n_seq * (MAX_DRAFT_DEPTH + 1)
        params = _params(config, n_ctx)
        params.n_batch = params.n_ubatch = max(_PROMPT_BATCH, rows)
        params.n_outputs_max = rows
        # Before the context: nothing that can fail comes when it is there, and nobody to free it.
        self.batch = Batch(params.n_batch)
        super().__init__(model, params, "context")
        self.n_ctx = n_ctx
        self.n_seq = config.n_seq
        self.keeper = config.n_seq if config.keeper else None
        self.n_embd = model.n_embd_out
        self.threads: int = params.n_threads
        self.pool = ThreadPool(self.threads)
        self.pool.attach(self.handle)
        self.params = params
        self.config = config
        self._ext.llama_set_embeddings_nextn(self.handle, True, False)
        self._memory = self._lib.llama_get_memory(self.handle)
        self._window: int = self._lib.llama_model_n_swa(model.handle)
        cells: int = self._lib.llama_n_ctx_seq(self.handle)
        if self._window and not config.swa_full:
            cells = min(cells, self._window + self._lib.llama_n_ubatch(self.handle))
        self._ring = -(-cells // _CELLS) * _CELLS
        self._logits: FloatArray = np.empty((0, model.n_vocab), np.float32)
        self._hidden: FloatArray = np.empty((0, model.n_embd_out), np.float32)

    def close(self) -> None:
        """Free the context and its threads, which no drafter may need any more; its model stays."""
        super().close()
        self.pool.close()

    def decode(self, rows: int, outputs: int) -> None:
        """Decode the first `rows` of `batch`, the logits of `outputs` rows among them wanted."""
        self._decode(self.batch, rows)
        self._logits = self._floats(
            self._lib.llama_get_logits(self.handle), outputs, self.model.n_vocab
        )
        self._hidden = self._floats(
            self._ext.llama_get_embeddings_nextn(self.handle), rows, self.model.n_embd_out
        )

    def prefill(self, seq: int, start: int, tokens: Sequence[int]) -> None:
        """Decode `tokens` of one sequence from position `start` on; logits of the last row only.

        Afterwards `logits(0)` and `hidden(-1)` belong to the last token.
        """
        batch = self.batch
        for begin in range(0, len(tokens), batch.capacity):
            part = tokens[begin : begin + batch.capacity]
            rows = len(part)
            batch.token[:rows] = part
            batch.pos[:rows] = np.arange(start + begin, start + begin + rows)
            batch.seq[:rows] = seq
            batch.output[:rows] = 0
            batch.output[rows - 1] = 1
            self.decode(rows, 1)

    def logits(self, output: int) -> FloatArray:
        """Logits `[n_vocab]` of the output with this index; a view, valid until the next decode."""
        return self._logits[output]

    def hidden(self, row: int) -> FloatArray:
        """Hidden state `[n_embd_out]` of a row; a view, valid until the next decode."""
        return self._hidden[row]

    def forget(self, seq: int, start: int) -> None:
        """Drop a sequence's KV cells from position `start` on (0: all of them)."""
        self._lib.llama_memory_seq_rm(self._memory, seq, start, -1)

    def copy(self, seq: int, to: int) -> None:
        """Give a sequence another one's cells in place of its own.

        They are copied, to the same places, when this context decodes next: no drafter may read
        them before.
        """
        self._lib.llama_memory_seq_cp(self._memory, seq, to, -1, -1)

    def move(self, seq: int, to: int) -> None:
        """Give a sequence another number, whose own cells are dropped; see `copy`."""
        self.copy(seq, to)
        self.forget(seq, 0)

    def can_resume(self, seq: int, position: int) -> bool:
        """Whether a sequence can go on at `position`, its cells from there on dropped.

        Sliding-window layers keep little more than the window: what came before it is gone.
        """
        first = self._lib.llama_memory_seq_pos_min(self._memory, seq)
        return 0 <= first <= max(0, position - self._window)

    def draft_room(self, position: int) -> int:
        """How many drafted tokens may be decoded with the one at `position`.

        Sliding-window layers keep their cells in a ring. A refused draft across its end would
        leave the cells behind it in another order than plain decoding does, and sums over them
        with other last bits.
        """
        return self._ring - 1 - position % self._ring

    def save(self, seq: int) -> bytes:
        """A sequence's cells, as llama.cpp writes them."""
        size = self._lib.llama_state_seq_get_size(self.handle, seq)
        buffer = (ctypes.c_uint8 * size)()
        written = self._lib.llama_state_seq_get_data(self.handle, buffer, size, seq)
        return ctypes.string_at(buffer, written)

    def restore(self, seq: int, state: bytes, tokens: int) -> bool:
        """Replace a sequence's cells by saved ones of so many tokens; False, and none, if not so.

        llama.cpp trusts the positions in it: give it only what `save` returned, with the same
        model, settings and version.
        """
        self.forget(seq, 0)
        buffer = (ctypes.c_uint8 * len(state)).from_buffer_copy(state)
        read = self._lib.llama_state_seq_set_data(self.handle, buffer, len(state), seq)
        last = self._lib.llama_memory_seq_pos_max(self._memory, seq)
        if read != len(state) or last != tokens - 1:
            self.forget(seq, 0)
            return False
        return True


class DrafterContext(_Context):
    """The drafter, which owns no KV cache and reads its target's.

    Attributes:
        batch: one row per sequence, each a token and a hidden state.
    """

    def __init__(
        self, model: Model, target: TargetContext, *, stop_before_head: bool = False
    ) -> None:
        """Share the target's cells.

        Args:
            stop_before_head: compute `state` only, and neither `logits` nor `hidden`.
        """
        params = _params(target.config, target.n_ctx)
        # The shared KV cells are laid out by the batch size, so it must be the target's.
        params.n_batch = params.n_ubatch = target.params.n_batch
        params.n_outputs_max = params.n_seq_max
        params.ctx_type = llama.load().LLAMA_CONTEXT_TYPE_MTP
        params.ctx_other = target.handle
        self._tap = _NormTap(target.n_seq, model.n_embd) if stop_before_head else None
        if self._tap:
            params.cb_eval = self._tap.callback
        self._all_threads: int = params.n_threads
        self._pool = target.pool
        self.batch = Batch(target.n_seq, model.n_embd_out)
        super().__init__(model, params, "drafter's context")
        self._pool.attach(self.handle)
        self._ext.llama_set_embeddings_nextn(self.handle, True, True)
        self._logits: FloatArray = np.empty((0, model.n_vocab), np.float32)
        self._hidden: FloatArray = np.empty((0, model.n_embd_out), np.float32)

    def set_threads(self, threads: int) -> None:
        """Decode with so many threads from now on; 0 is as many as the target has."""
        threads = threads or self._all_threads
        self._lib.llama_set_n_threads(self.handle, threads, threads)
        if threads == 1:
            self._pool.detach(self.handle)
        else:
            self._pool.attach(self.handle)

    def decode(self, rows: int) -> None:
        """Decode the first `rows` of `batch`; every row has an output."""
        self.batch.output[:rows] = 1
        if self._tap:
            self._tap.expect(self.batch.seq[:rows].tolist())
            self._decode(self.batch, rows)
            self._tap.check()
            return
        self._decode(self.batch, rows)
        self._logits = self._floats(
            self._lib.llama_get_logits(self.handle), rows, self.model.n_vocab
        )
        self._hidden = self._floats(
            self._ext.llama_get_embeddings_nextn(self.handle), rows, self.model.n_embd_out
        )

    def logits(self, row: int) -> FloatArray:
        """Logits `[n_vocab]` of a row; a view, valid until the next decode."""
        return self._logits[row]

    def hidden(self, row: int) -> FloatArray:
        """Hidden state `[n_embd_out]` of a row; a view, valid until the next decode."""
        return self._hidden[row]

    def state(self, row: int) -> FloatArray:
        """State `[n_embd]` of a row after the last norm, the head's input, if that is computed."""
        assert self._tap
        return self._tap.rows[row]


class _NormTap:
    """Reads the drafter's state after its last norm and stops the graph there.

    llama.cpp asks for every node of the graph whether it is wanted. Names are compared until the
    node is found, and by its number afterwards: a hundred calls per draft step are worth it. It
    computes one graph for each run of sequences whose numbers follow one another.

    Attributes:
        rows: float32 `[capacity, width]`, the states in the order of the batch.
    """

    def __init__(self, capacity: int, width: int) -> None:
        lib, self._ggml = llama.load(), llama.ggml_base()
        self._ggml.ggml_nbytes.restype = ctypes.c_size_t
        self._ggml.ggml_nbytes.argtypes = [ctypes.c_void_p]
        self._ggml.ggml_get_name.restype = ctypes.c_char_p
        self._ggml.ggml_get_name.argtypes = [ctypes.c_void_p]
        self._ggml.ggml_backend_tensor_get.restype = None
        self._ggml.ggml_backend_tensor_get.argtypes = [
            ctypes.c_void_p,
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_size_t,
        ]
        self.rows: FloatArray = np.zeros((capacity, width), np.float32)
        self._read: FloatArray = np.zeros((capacity, width), np.float32)
        self.callback = lib.ggml_backend_sched_eval_callback(self._visit)
        self._node = -1
        self._visited = self._found = 0
        self._order: list[int] = []

    def expect(self, seqs: list[int]) -> None:
        """A decode follows, of one row for each of these sequences."""
        self._visited = self._found = 0
        self._order = decode_order(seqs)

    def check(self) -> None:
        """See that the decode has passed the node."""
        if self._found != len(self._order):
            raise ModelError("llama.cpp computes this drafter in a way that mtpcli does not know")

    @callback
    def _visit(self, tensor: int, ask: bool, _user_data: object) -> bool:
        if not ask:
            size = self._ggml.ggml_nbytes(tensor)
            count = size // self._read[0].nbytes
            rows = self._order[self._found : self._found + count]
            if len(rows) == count:
                self._ggml.ggml_backend_tensor_get(tensor, self._read.ctypes.data, 0, size)
                self.rows[rows] = self._read[:count]
            self._found += count
            self._visited = 0
            return False
        number = self._visited
        self._visited += 1
        if self._node not in (-1, number):
            return False
        if self._ggml.ggml_get_name(tensor) == b"result_norm":
            self._node = number
            return True
        self._node = -1  # another graph than the last time: look for the name again
        return False


def decode_order(seqs: list[int]) -> list[int]:
    """The order in which llama.cpp decodes rows of different sequences, each with cells of its own.

    It takes them in runs: the first row that is left, and of those after it the ones whose
    sequence numbers go on counting up (`llama_batch_allocr::split_equal`).
    """
    order: list[int] = []
    left = list(range(len(seqs)))
    while left:
        run: list[int] = []
        for row in left:
            if not run or seqs[row] == seqs[run[-1]] + 1:
                run.append(row)
        order += run
        left = [row for row in left if row not in run]
    return order


def _params(config: RuntimeConfig, n_ctx: int) -> Any:
    lib = llama.load()
    threads = config.threads or llama.default_threads()
    params = lib.llama_context_default_params()
    params.n_seq_max = config.n_seq + config.keeper
    params.n_ctx = n_ctx * params.n_seq_max
    params.n_threads = params.n_threads_batch = threads
    params.no_perf = True
    params.swa_full = config.swa_full
    kv_type = config.kv_type.upper()
    params.type_k = params.type_v = (
        _BF16 if kv_type == "BF16" else getattr(lib, f"GGML_TYPE_{kv_type}")
    )
    params.flash_attn_type = {
        "auto": lib.LLAMA_FLASH_ATTN_TYPE_AUTO,
        "on": lib.LLAMA_FLASH_ATTN_TYPE_ENABLED,
        "off": lib.LLAMA_FLASH_ATTN_TYPE_DISABLED,
    }[config.flash_attn]
    # One stream of cells per sequence: a neighbour's cells never enter a sequence's attention.
    params.kv_unified = False
    return params
