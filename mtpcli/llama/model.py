"""Weights and vocabulary of one GGUF file."""

from __future__ import annotations

import codecs
import ctypes
import os
from pathlib import Path
from types import TracebackType
from typing import Any

from mtpcli.config import RuntimeConfig
from mtpcli.errors import InputError, ModelError
from mtpcli.llama import devices
from mtpcli.llama import lib as llama

# The same as llama.cpp's own option of this name.
_EXPERTS = rb"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
_ALL_LAYERS = -1


class Model:
    """Owns a loaded llama.cpp model. Closing it twice is harmless.

    Attributes:
        devices: what takes its layers, by name and maker; empty on the CPU.
    """

    def __init__(self, path: Path, config: RuntimeConfig | None = None) -> None:
        """Load `path`.

        Raises:
            ModelError: llama.cpp cannot load the file.
            UsageError: there is no device of a name in `config`.
        """
        self._lib = llama.load()
        self.path = path
        self.handle: Any = None
        config = config or RuntimeConfig()
        chosen = devices.choose_devices(config.devices)
        self.devices = [f"{device.name} {device.description}" for device in chosen]
        params, _alive = _params(config, chosen)
        llama.clear_log()
        self.handle = self._lib.llama_model_load_from_file(os.fsencode(path), params)
        if not self.handle:
            raise ModelError(f"llama.cpp cannot load {path}: {llama.first_error() or 'no reason'}")
        self._vocab = self._lib.llama_model_get_vocab(self.handle)
        self.n_vocab: int = self._lib.llama_vocab_n_tokens(self._vocab)
        self.n_embd: int = self._lib.llama_model_n_embd(self.handle)
        self.n_embd_out: int = self._lib.llama_model_n_embd_out(self.handle)
        self.n_ctx_train: int = self._lib.llama_model_n_ctx_train(self.handle)
        self._pieces: dict[tuple[int, bool], bytes] = {}

    def close(self) -> None:
        """Free the weights."""
        if self.handle:
            self._lib.llama_model_free(self.handle)
        self.handle = None

    def __enter__(self) -> Model:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def tokenize(self, text: str, *, special: bool, add_bos: bool = False) -> list[int]:
        """Token ids of `text`.

        Args:
            special: read control tokens such as `<|turn>` in the text as such; for text that
                comes from a chat template, never for text from a stranger.
            add_bos: put the beginning-of-sequence token first.
        """
        data = text.encode("utf-8", "replace")
        size = len(data) + 2
        buffer = (ctypes.c_int32 * size)()
        count = self._lib.llama_tokenize(
            self._vocab, data, len(data), buffer, size, add_bos, special
        )
        if count < 0:  # no token is shorter than a byte, so this is llama.cpp's own limit
            raise InputError("the prompt is too large for llama.cpp's tokenizer")
        return list(buffer[:count])

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """Bytes of a token: part of a character perhaps; control tokens only if `special`."""
        key = (token, special)
        if key not in self._pieces:
            buffer = ctypes.create_string_buffer(256)
            size = self._lib.llama_token_to_piece(self._vocab, token, buffer, 256, 0, special)
            if size < 0:
                buffer = ctypes.create_string_buffer(-size)
                size = self._lib.llama_token_to_piece(self._vocab, token, buffer, -size, 0, special)
            self._pieces[key] = buffer.raw[:size]
        return self._pieces[key]

    def is_end(self, token: int) -> bool:
        """Whether the model ends its turn with this token (`<eos>`, `<turn|>`, ...)."""
        return bool(self._lib.llama_vocab_is_eog(self._vocab, token))

    def is_marker(self, token: int) -> bool:
        """Whether a token structures a turn (`<|turn>`, `<|channel>`, ...) and writes no text."""
        attributes = int(self._lib.llama_vocab_get_attr(self._vocab, token))
        control = self._lib.LLAMA_TOKEN_ATTR_CONTROL | self._lib.LLAMA_TOKEN_ATTR_USER_DEFINED
        piece = self.piece(token, special=True)
        return bool(attributes & control) and piece.startswith(b"<")

    @property
    def bos_text(self) -> str:
        """The beginning-of-sequence token as text."""
        return self._text(self._lib.llama_vocab_bos(self._vocab))

    @property
    def eos_text(self) -> str:
        """The end-of-sequence token as text."""
        return self._text(self._lib.llama_vocab_eos(self._vocab))

    def _text(self, token: int) -> str:
        return "" if token < 0 else self.piece(token, special=True).decode("utf-8", "replace")

    def detokenizer(self) -> Detokenizer:
        """A fresh stream of text for one generation."""
        return Detokenizer(self)


def _params(config: RuntimeConfig, chosen: list[devices.Device]) -> tuple[Any, Any]:
    """How to load a file, and what must live as long as that takes."""
    lib = llama.load()
    params = lib.llama_model_default_params()
    handles = (ctypes.c_void_p * (len(chosen) + 1))(*(device.handle for device in chosen), None)
    params.devices = ctypes.cast(handles, ctypes.c_void_p)
    params.n_gpu_layers = _ALL_LAYERS if config.gpu_layers is None else config.gpu_layers
    params.use_extra_bufts = config.repack
    if not config.mmap:
        params.load_mode = lib.LLAMA_LOAD_MODE_NONE
    overrides = (_Override * 2)(_Override(_EXPERTS, devices.cpu_buffer_type()), _Override())
    if config.cpu_moe:
        params.tensor_buft_overrides = ctypes.cast(overrides, ctypes.c_void_p)
    return params, (handles, overrides)


class _Override(ctypes.Structure):
    """`llama_model_tensor_buft_override`: tensors whose names match go into such a buffer."""

    _fields_ = [("pattern", ctypes.c_char_p), ("buffer_type", ctypes.c_void_p)]


class Detokenizer:
    """Turns a stream of tokens into text, holding back incomplete UTF-8."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """Text that `token` completes; empty while a character is still incomplete."""
        return self._decoder.decode(self._model.piece(token))

    def flush(self) -> str:
        """What is left: a replacement character if the stream ended inside a character."""
        return self._decoder.decode(b"", final=True)
