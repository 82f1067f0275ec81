"""Threads that wait for the next decode, where llama.cpp would start new ones for each."""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from mtpcli.llama import lib as llama
from mtpcli.llama.devices import cpu_function

_MAX_THREADS = 512  # GGML_MAX_N_THREADS
# How long a thread looks out for work before it goes to sleep, of 100: some milliseconds. It is for
# what lies between two decodes of a round; after the last one the cores are for others.
_POLL = 5


class _Params(ctypes.Structure):
    """`ggml_threadpool_params`."""

    _fields_ = [
        ("cpumask", ctypes.c_bool * _MAX_THREADS),
        ("n_threads", ctypes.c_int),
        ("prio", ctypes.c_int),
        ("poll", ctypes.c_uint32),
        ("strict_cpu", ctypes.c_bool),
        ("paused", ctypes.c_bool),
    ]


class ThreadPool:
    """Threads for the contexts it is attached to. Closing it twice is harmless.

    llama.cpp's own programs have one. Without it, a build that has no OpenMP, as on macOS, starts
    and ends its threads with every decode; where there is OpenMP, that keeps them.
    """

    def __init__(self, threads: int) -> None:
        params = _Params()
        _ggml().ggml_threadpool_params_init(ctypes.byref(params), min(threads, _MAX_THREADS))
        params.poll = _POLL
        self._pool: int | None = _new()(ctypes.byref(params))

    def attach(self, context: int) -> None:
        """Let a context decode with these threads."""
        _ggml().llama_attach_threadpool(context, self._pool, self._pool)

    def detach(self, context: int) -> None:
        """Let a context that decodes with one thread do so alone.

        The others would notice, go to sleep, and have to be woken for the next decode.
        """
        _ggml().llama_detach_threadpool(context)

    def close(self) -> None:
        """End the threads; no context may decode with them any more."""
        if self._pool:
            _free()(self._pool)
        self._pool = None


@functools.cache
def _ggml() -> Any:
    library = llama.ggml()
    library.ggml_threadpool_params_init.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.llama_attach_threadpool.argtypes = [ctypes.c_void_p] * 3
    library.llama_detach_threadpool.argtypes = [ctypes.c_void_p]
    return library


@functools.cache
def _new() -> Any:
    return cpu_function("ggml_threadpool_new", ctypes.c_void_p, ctypes.c_void_p)


@functools.cache
def _free() -> Any:
    return cpu_function("ggml_threadpool_free", None, ctypes.c_void_p)
