"""A vocabulary of made-up words, as large as it has to be."""

from __future__ import annotations

import functools
import itertools

import gguf
import numpy as np

from convert.vocab import SCORE, Vocab

_CONTROL = ("<pad>", "<eos>", "<bos>", "<unk>", "<turn|>")
_SPACE = "▁"  # stands for a space in Gemma's vocabulary
# Prompts fall apart into these; answers are words.
_CHARACTERS = ("\n", _SPACE, *map(chr, range(ord("!"), ord("~") + 1)))
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"
# What is said last decides how the answer goes on: there is no turn to be opened behind it.
_TEMPLATE = "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"

FIRST_WORD = len(_CONTROL) + 256 + len(_CHARACTERS)


@functools.cache
def vocabulary(size: int) -> Vocab:
    """Control tokens, bytes, characters, and words up to `size` tokens."""
    syllables = ["".join(pair) for pair in itertools.product(_CONSONANTS, _VOWELS)]
    words = (
        _SPACE + "".join(parts)
        for length in itertools.count(1)
        for parts in itertools.product(syllables, repeat=length)
    )
    tokens = [*_CONTROL, *(f"<0x{byte:02X}>" for byte in range(256)), *_CHARACTERS]
    types = np.full(size, gguf.TokenType.NORMAL, np.int32)
    types[: len(_CONTROL)] = gguf.TokenType.CONTROL
    types[len(_CONTROL) : len(_CONTROL) + 256] = gguf.TokenType.BYTE
    return Vocab([*tokens, *itertools.islice(words, size - len(tokens))], types)


def add_vocabulary(meta: gguf.GGUFWriter, size: int) -> None:
    """Add tokens, special ids and the chat template to a file's metadata."""
    words = vocabulary(size)
    meta.add_tokenizer_model("gemma4")
    meta.add_token_list(words.tokens)
    meta.add_token_scores(np.full(size, SCORE, np.float32))
    meta.add_token_types(words.types)
    meta.add_token_merges(["b a"])  # llama.cpp wants to see merges
    meta.add_pad_token_id(_CONTROL.index("<pad>"))
    meta.add_eos_token_id(_CONTROL.index("<eos>"))
    meta.add_bos_token_id(_CONTROL.index("<bos>"))
    meta.add_unk_token_id(_CONTROL.index("<unk>"))
    meta.add_add_bos_token(True)
    meta.add_add_space_prefix(False)
    meta.add_chat_template(_TEMPLATE)
