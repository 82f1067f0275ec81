"""Grammars in GBNF, followed by llama.cpp's grammar sampler."""

from __future__ import annotations

import codecs
import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from mtpcli.errors import InputError
from mtpcli.llama import gbnf
from mtpcli.llama import lib as llama
from mtpcli.llama.model import Model

IdArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]

# llama_token_data, as llama.cpp lays it out.
_CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])

# What a token writes: not looked up yet, nothing that belongs to a text, text, or bytes of which
# at least one begins or ends inside of a character.
_UNKNOWN, _NO_TEXT, _TEXT, _PARTIAL, _END = range(5)


class _Tokens:
    """What the tokens of a model write, looked up when a grammar comes to them."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._kinds = np.full(model.n_vocab, _UNKNOWN, np.uint8)

    def kinds(self, ids: IdArray) -> npt.NDArray[np.uint8]:
        kinds = self._kinds[ids]
        if not kinds.all():
            for token in ids[kinds == _UNKNOWN].tolist():
                self._kinds[token] = self._kind(token)
            kinds = self._kinds[ids]
        return kinds

    def _kind(self, token: int) -> int:
        if self._model.is_end(token):
            return _END
        piece = self.piece(token)
        # llama.cpp's grammar would take `<|channel>` and the like for text.
        if not piece or self._model.is_marker(token):
            return _NO_TEXT
        try:
            piece.decode("utf-8")
        except UnicodeDecodeError:
            return _PARTIAL
        return _TEXT

    def piece(self, token: int) -> bytes:
        return self._model.piece(token)


class Grammar:
    """Where a text stands in a GBNF grammar; a `mtpcli.decode.constraint.Constraint`.

    It owns a sampler of llama.cpp's, and must be closed before its model. Closing it twice is
    harmless. Beyond the grammar it sees to it that the text is well-formed UTF-8, so that what
    the grammar saw is what the reader gets.
    """

    def __init__(self, model: Model, text: str) -> None:
        """Begin a text of the grammar's rule `root`.

        Raises:
            InputError: the grammar has a mistake, or is one that llama.cpp cannot follow.
        """
        gbnf.check(text)
        self._handle: Any = None
        self._lib = llama.load()
        llama.clear_log()
        vocab = self._lib.llama_model_get_vocab(model.handle)
        self._handle = self._lib.llama_sampler_init_grammar(vocab, text.encode(), b"root")
        if not self._handle:
            reason = llama.first_error() or "no reason given"
            raise InputError(f"llama.cpp cannot follow the grammar: {reason}")
        self._tokens = _Tokens(model)
        self._partial = b""
        self._ended = False

    def close(self) -> None:
        """Free the sampler."""
        if self._handle:
            self._lib.llama_sampler_free(self._handle)
        self._handle = None

    def clone(self) -> Grammar:
        """Another grammar at the same place, with a sampler of its own."""
        other = object.__new__(Grammar)
        other.__dict__.update(self.__dict__)
        other._handle = self._lib.llama_sampler_clone(self._handle)
        return other

    def allowed(self, ids: IdArray) -> BoolArray:
        """Which of the tokens `[n]` may come next; all of them once the text has ended."""
        if self._ended:
            return np.ones(ids.size, np.bool_)
        kinds = self._tokens.kinds(ids)
        candidates = np.zeros(ids.size, _CANDIDATE)
        candidates["id"] = ids
        self._apply(candidates)
        good: BoolArray = np.isfinite(candidates["logit"]) & (kinds != _NO_TEXT)
        if self._partial:
            # An end would leave half a character, and whole text would tear it.
            good &= kinds == _PARTIAL
        for place in np.flatnonzero(good & (kinds == _PARTIAL)).tolist():
            good[place] = _rest(self._partial + self._tokens.piece(int(ids[place]))) is not None
        return good

    def _apply(self, candidates: npt.NDArray[Any]) -> None:
        """Set the logits of what the grammar does not allow to minus infinity."""
        array = self._lib.llama_token_data_array(
            data=ctypes.cast(candidates.ctypes.data, ctypes.POINTER(self._lib.llama_token_data)),
            size=candidates.size,
            selected=-1,
            sorted=False,
        )
        self._lib.llama_sampler_apply(self._handle, ctypes.byref(array))

    def accept(self, token: int) -> None:
        """Go on behind an allowed token.

        Raises:
            ValueError: it is not allowed; llama.cpp would end the process.
        """
        if self._ended:
            return
        if not self.allowed(np.array([token], np.int64))[0]:
            raise ValueError(f"token {token} is not what the grammar allows")
        self._lib.llama_sampler_accept(self._handle, token)
        if self._tokens.kinds(np.array([token], np.int64))[0] == _END:
            self._ended = True
        else:
            self._partial = _rest(self._partial + self._tokens.piece(token)) or b""


def _rest(data: bytes) -> bytes | None:
    """The incomplete character at the end of some UTF-8; None if it is not well-formed."""
    decoder = codecs.getincrementaldecoder("utf-8")("strict")
    try:
        decoder.decode(data)
    except UnicodeDecodeError:
        return None
    return decoder.getstate()[0]
