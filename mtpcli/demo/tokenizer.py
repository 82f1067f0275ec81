"""The demo pair's tokenizer: a 2048-token BPE built like Gemma's."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

VOCAB_SIZE = 2048
_NAMED = {
    "pad_token": "<pad>",
    "eos_token": "<eos>",
    "bos_token": "<bos>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}
CONTROL = [
    "<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>", "<tool_response|>",
    '<|"|>', "<|think|>", "<|channel>", "<channel|>", "<|turn>", "<turn|>", "<|image>", "<image|>",
]  # fmt: skip
PAD, EOS, BOS = 0, 1, 2
TURN_OPEN, TURN_CLOSE = 5 + CONTROL.index("<|turn>"), 5 + CONTROL.index("<turn|>")
_CONTROL_TEXT = re.compile(r"<\|?\w+\|?>")
# While training only: words with the space before them, single digits, runs of newlines or spaces.
_WORDS = Regex("\u2581?[A-Za-z]+|[0-9]|\n+|\u2581?[^\u2581\nA-Za-z0-9]{1,3}|\u2581+")


def train_tokenizer(texts: Iterable[str]) -> dict[str, Any]:
    """The contents of tokenizer.json. Like Gemma's it splits only at spaces, which are all `▁`.

    It learns from ASCII alone: everything else is left to the byte tokens, so that the pair shows
    what a character split over several tokens looks like.
    """
    special = [*_NAMED.values(), *CONTROL]
    bytes_ = [f"<0x{i:02X}>" for i in range(256)]
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "\u2581")
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(_WORDS, "isolated")
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE, special_tokens=special + bytes_, show_progress=False,
        initial_alphabet=list(string.printable[:95]), max_token_length=14,
    )  # fmt: skip
    plain = (_CONTROL_TEXT.sub("\n", text) for text in texts if text.isascii())
    tokenizer.train_from_iterator(plain, trainer)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    contents: dict[str, Any] = json.loads(tokenizer.to_str())
    contents["added_tokens"] = [
        t for t in contents["added_tokens"] if not t["content"].startswith("<0x")
    ]
    return contents


def save_tokenizer(contents: dict[str, Any], directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tokenizer.json").write_text(
        json.dumps(contents, ensure_ascii=False), encoding="utf-8"
    )
    config = {
        **_NAMED, "add_bos_token": True, "extra_special_tokens": CONTROL,
        "tokenizer_class": "GemmaTokenizer", "model_max_length": 2048, "padding_side": "left",
    }  # fmt: skip
    (directory / "tokenizer_config.json").write_text(
        json.dumps(config, indent=2) + "\n", encoding="utf-8"
    )


def load_tokenizer(directory: Path) -> Tokenizer:
    return Tokenizer.from_file(str(directory / "tokenizer.json"))
