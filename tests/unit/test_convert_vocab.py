"""Tokens, their types, merges and templates, as a file's metadata holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest

from convert.errors import ConvertError
from convert.vocab import Vocab, add_vocab, read_vocab
from tests import snapshots

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return snapshots.write_target(tmp_path / "model")


def types(vocab: Vocab) -> dict[str, int]:
    return dict(zip(vocab.tokens, vocab.types.tolist(), strict=True))


def metadata(folder: Path) -> dict[str, Any]:
    meta = gguf.GGUFWriter(None, "gemma4")
    add_vocab(meta, read_vocab(folder), folder)
    return {key: value.value for key, value in meta.kv_data[0].items()}


def change(path: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    """Edit a JSON file in place."""
    import json

    value = json.loads(path.read_text())
    edit(value)
    snapshots.write_json(path, value)


def test_each_kind_of_token_gets_its_type(folder: Path) -> None:
    vocab = read_vocab(folder)
    kinds = types(vocab)
    assert len(vocab.tokens) == snapshots.VOCAB
    assert {kinds[token] for token in ("<pad>", "<bos>", "<|turn>", "<|think|>")} == {CONTROL}
    assert {kinds[token] for token in snapshots.VISIBLE} == {USER_DEFINED}
    assert {kinds[f"<0x{byte:02X}>"] for byte in range(256)} == {BYTE}
    assert {kinds[word] for word in snapshots.WORDS} == {NORMAL}
    assert vocab.tokens[-1] == "<b>bold</b>"
    assert kinds["<b>bold</b>"] == USER_DEFINED


@pytest.mark.parametrize(
    "entry",
    [
        {"extra_special_tokens": ["ab"]},
        {"extra_special_tokens": [{"content": "ab", "special": True}]},
        {"extra_special_tokens": {"some_token": "ab"}},
        {"additional_special_tokens": ["ab"]},
        {"model_specific_special_tokens": {"some_token": "ab"}},
        {"some_token": "ab"},
        {"some_token": {"content": "ab", "__type": "AddedToken"}},
    ],
)
def test_special_tokens_are_found_wherever_they_are_declared(
    folder: Path, entry: dict[str, Any]
) -> None:
    assert types(read_vocab(folder))["ab"] == NORMAL
    change(folder / "tokenizer_config.json", lambda config: config.update(entry))
    assert types(read_vocab(folder))["ab"] == CONTROL


def test_a_token_special_only_in_the_tokenizer_is_a_control_token(folder: Path) -> None:
    def forget(config: dict[str, Any]) -> None:
        config["extra_special_tokens"] = []

    change(folder / "tokenizer_config.json", forget)
    assert types(read_vocab(folder))["<|think|>"] == CONTROL


def test_metadata(folder: Path) -> None:
    found = metadata(folder)
    assert found["tokenizer.ggml.model"] == "gemma4"
    assert found["tokenizer.ggml.merges"] == ["a b", "\u2581 a", "\u2581 ab", "b a"]
    assert found["tokenizer.ggml.bos_token_id"] == 2
    assert found["tokenizer.ggml.eos_token_id"] == 1
    assert found["tokenizer.ggml.add_bos_token"] is True
    assert found["tokenizer.ggml.add_space_prefix"] is False
    assert found["tokenizer.chat_template"] == "{{ bos_token }}{{ messages }}"


def test_texts_begin_with_bos_even_if_nothing_says_so(folder: Path) -> None:
    change(folder / "tokenizer_config.json", lambda config: config.pop("bos_token"))
    assert metadata(folder)["tokenizer.ggml.bos_token_id"] == 2


def test_template_inside_the_tokenizer_config(folder: Path) -> None:
    (folder / "chat_template.jinja").unlink()
    change(folder / "tokenizer_config.json", lambda c: c.update(chat_template="{{ x }}"))
    assert metadata(folder)["tokenizer.chat_template"] == "{{ x }}"


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (lambda t: t.pop("model"), "not Gemma 4's tokenizer"),
        (lambda t: t["model"].update(type="Unigram"), "not Gemma 4's tokenizer"),
        (lambda t: t["model"].update(byte_fallback=False), "not Gemma 4's tokenizer"),
        (lambda t: t["model"].update(vocab=["a"]), "`model.vocab` must map"),
        (lambda t: t["model"]["vocab"].update(a="1"), "`model.vocab` must map"),
        (lambda t: t["model"]["vocab"].pop("a"), "ids must be 0, 1, 2"),
        (lambda t: t["model"]["vocab"].update(a=3), "ids must be 0, 1, 2"),
        (lambda t: t["model"]["vocab"].update(a=10**12), "ids must be 0, 1, 2"),
        (lambda t: t.update(added_tokens={}), "`added_tokens` must be a list"),
        (lambda t: t.update(added_tokens=[{"id": 1}]), "`added_tokens` must be a list"),
    ],
)
def test_refuses_broken_tokenizers(
    folder: Path, edit: Callable[[dict[str, Any]], Any], complaint: str
) -> None:
    change(folder / "tokenizer.json", edit)
    with pytest.raises(ConvertError, match=complaint):
        read_vocab(folder)


@pytest.mark.parametrize("merges", [[], [["a", "b", "c"]], [1, 2]])
def test_refuses_broken_merges(folder: Path, merges: Any) -> None:
    change(folder / "tokenizer.json", lambda t: t["model"].update(merges=merges))
    with pytest.raises(ConvertError, match="tokenizer"):
        metadata(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_says_which_file_is_missing(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(ConvertError, match=f"{name}: not found"):
        read_vocab(folder)
