"""Names of models, of files in repositories, and of files from strangers."""

from __future__ import annotations

from pathlib import Path

import pytest

from mtpcli.errors import ModelError, UsageError
from mtpcli.hub import names
from mtpcli.hub.choose import choices, choose_drafter, choose_target, snapshot_files
from mtpcli.hub.names import Reference, parse
from mtpcli.hub.paths import inside
from mtpcli.hub.remote import RemoteFile

UNSLOTH = [
    "README.md",
    "BF16/gemma-4-31B-it-BF16-00001-of-00002.gguf",
    "BF16/gemma-4-31B-it-BF16-00002-of-00002.gguf",
    "MTP/gemma-4-31B-it-MTP-BF16.gguf",
    "MTP/gemma-4-31B-it-MTP-Q8_0.gguf",
    "gemma-4-31B-it-Q4_K_M.gguf",
    "gemma-4-31B-it-UD-Q4_K_M.gguf",
    "gemma-4-31B-it-UD-Q4_K_XL.gguf",
    "imatrix_unsloth.gguf_file",
    "mmproj-BF16.gguf",
    "mtp-gemma-4-31B-it.gguf",
]


def files(*names: str) -> list[RemoteFile]:
    return [
        RemoteFile(name, len(name) * 10**8, f"git:{number:040}")
        for number, name in enumerate(names)
    ]


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("e2b", Reference("google/gemma-4-E2B-it")),
        ("E4B", Reference("google/gemma-4-E4B-it")),
        ("12b:q4_0", Reference("google/gemma-4-12B-it", "q4_0")),
        ("26b-a4b", Reference("google/gemma-4-26B-A4B-it")),
        ("31B", Reference("google/gemma-4-31B-it")),
        ("a/b", Reference("a/b")),
        (
            "unsloth/gemma-4-12B-it-qat-GGUF:UD-Q4_K_XL",
            Reference("unsloth/gemma-4-12B-it-qat-GGUF", "UD-Q4_K_XL"),
        ),
        (
            "kaggle:google/gemma-4/transformers/gemma-4-e2b-it/2:Q4_0",
            Reference("kaggle:google/gemma-4/transformers/gemma-4-e2b-it/2", "Q4_0"),
        ),
        *(
            (text, None)
            for text in (
                *("", "e3b", "model.gguf", "models/model.gguf", "a/b/c", "/a/b", "./a/b", "a/b:"),
                *("a/b:c/d", "../b", "a/..", "a\\b", "a/b\n", "a--b/c", "https://x.y/z", "a/b c"),
                *("kaggle:a/b", "kaggle:a/b/c/../..", "a/b:..", "~/models"),
            )
        ),
    ],
)
def test_what_a_name_means(text: str, meant: Reference | None) -> None:
    assert parse(text) == meant
    assert meant is None or parse(str(meant)) == meant


def test_where_drafters_are() -> None:
    assert names.drafters_of("google/gemma-4-E2B-it") == ["google/gemma-4-E2B-it-assistant"]
    assert names.drafters_of("me/my-gemma-4-e4b-it-tuned") == [
        "me/my-gemma-4-e4b-it-tuned-assistant",
        "google/gemma-4-E4B-it-assistant",
    ]
    assert names.original_drafters("bartowski/google_gemma-4-26B-A4B-it-GGUF") == [
        "google/gemma-4-26B-A4B-it-assistant"
    ]
    assert names.original_drafters("someone/else") == []


@pytest.mark.parametrize(
    ("tag", "chosen"),
    [
        ("Q4_K_XL", "gemma-4-31B-it-UD-Q4_K_XL.gguf"),
        ("ud-q4_k_xl", "gemma-4-31B-it-UD-Q4_K_XL.gguf"),
        # Without its prefix it is another file.
        ("Q4_K_M", "gemma-4-31B-it-Q4_K_M.gguf"),
        ("UD-Q4_K_M", "gemma-4-31B-it-UD-Q4_K_M.gguf"),
        ("gemma-4-31B-it-Q4_K_M.gguf", "gemma-4-31B-it-Q4_K_M.gguf"),
        ("bf16", "BF16/gemma-4-31B-it-BF16-00001-of-00002.gguf"),
    ],
)
def test_a_target_by_its_tag(tag: str, chosen: str) -> None:
    choice = choose_target(files(*UNSLOTH), tag, "unsloth/x")
    assert choice.name == chosen
    assert len(choice.files) == (2 if tag == "bf16" else 1)


@pytest.mark.parametrize("tag", ["", "Q3_K_M"])
def test_what_is_not_clear_is_a_list(tag: str) -> None:
    with pytest.raises(UsageError) as caught:
        choose_target(files(*UNSLOTH), tag, "unsloth/x")
    for part in ("UD-Q4_K_XL (", "BF16 (", "Q4_K_M (", "as in unsloth/x:Q4_K_M: "):
        assert part in str(caught.value)
    assert "mmproj" not in str(caught.value) and "mtp-" not in str(caught.value)


def test_one_file_needs_no_tag_and_two_of_one_tag_are_named_by_file() -> None:
    assert choose_target(files("a.gguf", "mmproj-a.gguf"), "", "x/y").tag == "a"
    with pytest.raises(UsageError, match=r"has several: say which.*one-Q8_0\.gguf \("):
        choose_target(files("one-Q8_0.gguf", "two-Q8_0.gguf"), "Q8_0", "x/y")
    with pytest.raises(UsageError, match="no GGUF file of a model"):
        choose_target(files("mtp-a.gguf", "README.md"), "", "x/y")
    with pytest.raises(UsageError, match="no GGUF file of a model"):
        choose_target(files("a-00001-of-00003.gguf", "a-00003-of-00003.gguf"), "", "x/y")


@pytest.mark.parametrize(
    ("listed", "target", "chosen"),
    [
        # One at the top before those in folders, then Q8_0.
        (UNSLOTH, "gemma-4-31B-it-Q4_K_M.gguf", "mtp-gemma-4-31B-it.gguf"),
        (UNSLOTH[:-1], "gemma-4-31B-it-Q4_K_M.gguf", "MTP/gemma-4-31B-it-MTP-Q8_0.gguf"),
        (
            ["gemma-4-E4B-it-Q8_0.gguf", "gemma-4-E4B-it-Q8_0-MTP.gguf"],
            "gemma-4-E4B-it-Q8_0.gguf",
            "gemma-4-E4B-it-Q8_0-MTP.gguf",
        ),
        (
            ["gemma-4-E4B-it-assistant.Q4_K_M.gguf", "gemma-4-E4B-it-assistant.Q8_0.gguf"],
            "",
            "gemma-4-E4B-it-assistant.Q8_0.gguf",
        ),
        # Of two models, the target's own.
        (
            ["mtp-gemma-4-E2B-it.gguf", "mtp-gemma-4-E4B-it.gguf"],
            "gemma-4-E2B-it-Q4_0.gguf",
            "mtp-gemma-4-E2B-it.gguf",
        ),
        (["a.gguf"], "a.gguf", None),
    ],
)
def test_a_drafter_by_what_it_is(listed: list[str], target: str, chosen: str | None) -> None:
    choice = choose_drafter(files(*listed), target, "", "x/y")
    assert (choice.name if choice else None) == chosen


def test_drafters_of_two_models_are_a_list() -> None:
    listed = files("mtp-gemma-4-E2B-it.gguf", "mtp-gemma-4-E4B-it.gguf")
    with pytest.raises(UsageError, match="--drafter x/y:"):
        choose_drafter(listed, "gemma-4-31B-it.gguf", "", "x/y")
    choice = choose_drafter(listed, "gemma-4-31B-it.gguf", "mtp-gemma-4-E4B-it", "x/y")
    assert choice and choice.name == "mtp-gemma-4-E4B-it.gguf"


def test_strange_names_of_files_are_tags_all_the_same() -> None:
    (choice,) = choices(files("a/..  \x1b[31m[red]model..v2\n.gguf"))
    assert parse(f"x/y:{choice.tag}") == Reference("x/y", choice.tag)


def test_a_checkpoint_is_what_the_converter_reads() -> None:
    listed = files(
        *("config.json", "tokenizer.json", "model-00001-of-00002.safetensors", "README.md"),
        *("model-00002-of-00002.safetensors", "model.safetensors.index.json", "pytorch_model.bin"),
        *("original/model.safetensors", "run.py", "chat_template.jinja", "processor_config.json"),
    )
    assert [file.name for file in snapshot_files(listed)] == [
        *("config.json", "tokenizer.json", "model-00001-of-00002.safetensors", "README.md"),
        *("model-00002-of-00002.safetensors", "model.safetensors.index.json"),
        "chat_template.jinja",
    ]
    assert snapshot_files(files("config.json", "a.gguf")) == []


@pytest.mark.parametrize(
    "name", ["a", "a/b.gguf", "MTP/a b (1).gguf", "..a", "a..b", "\u00e9.gguf"]
)
def test_names_that_stay(tmp_path: Path, name: str) -> None:
    assert inside(tmp_path, name) == tmp_path / name


@pytest.mark.parametrize(
    "name",
    [
        *("", "..", "../a", "a/../../b", "/etc/passwd", "//a", "a\\b", "C:a", "a\0b", "a\nb"),
        *("a\x1b[31m", "a/" + "x" * 256, None, 7, ["a"], "link/a", "."),
    ],
)
def test_names_that_leave_are_refused(tmp_path: Path, name: object) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path)
    with pytest.raises(ModelError, match="refused") as caught:
        inside(tmp_path / "folder", name)
    assert "\x1b" not in str(caught.value) and "\n" not in str(caught.value)
