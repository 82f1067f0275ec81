"""The vocabulary of a snapshot: tokens, their types, merges, special tokens, chat template."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import numpy.typing as npt

from convert.errors import ConvertError
from convert.jsonfile import read_object

BYTE_TOKEN = re.compile(r"<0x[0-9A-Fa-f]{2}>")
SCORE = -1000.0  # BPE has no scores; llama.cpp wants some, and this is what upstream writes

# Control tokens that a reader of the text must see: llama.cpp's chat parsers look for them.
VISIBLE_TOKENS = frozenset(
    [
        "<|channel>",
        "<channel|>",
        "<|tool_call>",
        "<tool_call|>",
        "<|tool_response>",
        "<tool_response|>",
        '<|"|>',
    ]
)
# Named by the tokenizer class itself, even where the configuration does not mention them.
CLASS_SPECIAL = ("<unk>", "<bos>", "<eos>", "<pad>", "<mask>")


@dataclass(frozen=True)
class Vocab:
    """Attributes:
    tokens: their texts, by id.
    types: int32, by id; values of `gguf.TokenType`.
    """

    tokens: list[str]
    types: npt.NDArray[np.int32]


def read_vocab(folder: Path) -> Vocab:
    """Read tokens and their types from `tokenizer.json` and `tokenizer_config.json`.

    Raises:
        ConvertError: missing or broken files, another kind of tokenizer, or ids with gaps.
    """
    path = folder / "tokenizer.json"
    tokenizer = read_object(path)
    model = tokenizer.get("model")
    if not isinstance(model, dict) or model.get("type") != "BPE" or not model.get("byte_fallback"):
        raise ConvertError(f"{path}: not Gemma 4's tokenizer (BPE with byte fallback)")
    base = _ids(model.get("vocab"), path)
    added = _added_tokens(tokenizer.get("added_tokens"), path)
    ids = {**base, **{content: token["id"] for content, token in added.items()}}
    tokens = [""] * len(ids)
    for content, token_id in ids.items():
        if token_id >= len(tokens) or tokens[token_id]:
            raise ConvertError(
                f"{path}: token {content!r} has id {token_id}: ids must be 0, 1, 2..."
            )
        tokens[token_id] = content
    special = _special_tokens(folder / "tokenizer_config.json")
    special.update(content for content, token in added.items() if token.get("special"))
    types = [_token_type(token, token in base, token in special) for token in tokens]
    return Vocab(tokens, np.array(types, np.int32))


def _ids(vocab: Any, path: Path) -> dict[str, int]:
    if not isinstance(vocab, dict) or not all(
        token and type(i) is int and i >= 0 for token, i in vocab.items()
    ):
        raise ConvertError(f"{path}: `model.vocab` must map tokens to ids")
    return vocab


def _added_tokens(added: Any, path: Path) -> dict[str, dict[str, Any]]:
    def sound(token: Any) -> bool:
        return (
            isinstance(token, dict)
            and isinstance(token.get("content"), str)
            and token["content"] != ""
            and type(token.get("id")) is int
            and token["id"] >= 0
        )

    if added is None:
        return {}
    if not isinstance(added, list) or not all(map(sound, added)):
        raise ConvertError(f"{path}: `added_tokens` must be a list of objects with id and content")
    return {token["content"]: token for token in added}


def _special_tokens(path: Path) -> set[str]:
    """Tokens the configuration names as special, the way transformers 5 reads it.

    That is every `*_token` entry, and the extra tokens in their several historical places.
    """
    config = read_object(path)
    found = list(CLASS_SPECIAL)
    found += [_content(value) for key, value in config.items() if key.endswith("_token")]
    places = ("extra_special_tokens", "additional_special_tokens", "model_specific_special_tokens")
    for place in places:
        extra = config.get(place) or []
        if not isinstance(extra, dict | list):
            raise ConvertError(f"{path}: `{place}` must list tokens")
        found += map(_content, extra.values() if isinstance(extra, dict) else extra)
    return set(found)


def _content(token: Any) -> str:
    """The text of a token that is written as a string or as an AddedToken object."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else ""


def _token_type(token: str, in_base: bool, special: bool) -> int:
    if token in VISIBLE_TOKENS:
        kind = gguf.TokenType.USER_DEFINED
    elif in_base and BYTE_TOKEN.fullmatch(token):
        kind = gguf.TokenType.BYTE
    elif special:
        kind = gguf.TokenType.CONTROL
    else:
        kind = gguf.TokenType.NORMAL if in_base else gguf.TokenType.USER_DEFINED
    return int(kind)


def add_vocab(meta: gguf.GGUFWriter, vocab: Vocab, folder: Path) -> None:
    """Add tokens, merges, special ids and the chat template to a file's metadata.

    Raises:
        ConvertError: the tokenizer files hold something else than they should.
    """
    meta.add_tokenizer_model("gemma4")
    meta.add_token_list(vocab.tokens)
    meta.add_token_scores(np.full(len(vocab.tokens), SCORE, np.float32))
    meta.add_token_types(vocab.types)
    try:
        special = gguf.SpecialVocab(folder, load_merges=True)
    except Exception as error:  # a third-party reader of downloaded files: any error is theirs
        raise ConvertError(f"{folder}: tokenizer files cannot be read ({error!r})") from error
    if not special.merges:
        raise ConvertError(f"{folder / 'tokenizer.json'}: `model.merges` is missing or empty")
    special.add_special_token["bos"] = True  # Gemma 4 always starts with it
    if "bos" not in special.special_token_ids:
        if "<bos>" not in vocab.tokens:
            raise ConvertError(f"{folder / 'tokenizer.json'}: there is no token <bos>")
        special.special_token_ids["bos"] = vocab.tokens.index("<bos>")
    special.add_to_gguf(meta, quiet=True)
    meta.add_add_space_prefix(False)


def add_suppressed_tokens(meta: gguf.GGUFWriter, vocab: Vocab, folder: Path) -> None:
    """Add the tokens that must never be generated, where generation_config.json names some.

    Raises:
        ConvertError: they are no ids of this vocabulary.
    """
    path = folder / "generation_config.json"
    suppressed = (read_object(path) if path.exists() else {}).get("suppress_tokens")
    if suppressed is None:
        return
    if not isinstance(suppressed, list) or not all(
        type(token) is int and 0 <= token < len(vocab.tokens) for token in suppressed
    ):
        raise ConvertError(f"{path}: `suppress_tokens` must list token ids")
    meta.add_array("tokenizer.ggml.suppress_tokens", suppressed)
