"""Who made a model and how to sample from it: the `general.*` keys."""

from __future__ import annotations

import re
from pathlib import Path

import gguf

from convert.errors import ConvertError
from convert.jsonfile import read_object

CACHE_REPOSITORY = re.compile(r"models--(.+)")


def snapshot_name(folder: Path) -> str:
    """What people call the model: the folder's name, or the repository's in the Hub's cache.

    The cache keeps a snapshot in `models--OWNER--NAME/snapshots/COMMIT`.
    """
    folder = folder.resolve()
    if folder.parent.name == "snapshots":
        match = CACHE_REPOSITORY.fullmatch(folder.parent.parent.name)
        if match:
            return match[1].split("--")[-1]
    return folder.name


def file_stem(folder: Path) -> str:
    """`snapshot_name`, safe as part of a file name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", snapshot_name(folder)).strip(".-") or "model"


def add_card(
    meta: gguf.GGUFWriter, folder: Path, parameters: int, of_experts: int = 0, experts: int = 0
) -> None:
    """Add name, licence, base models and the like from README.md, and the recommended sampling.

    Args:
        parameters: of the whole model; `of_experts` of them belong to one of `experts` experts.

    Raises:
        ConvertError: README.md or generation_config.json cannot be understood.
    """
    try:
        card = gguf.Metadata.load(None, folder, None, parameters)
    except Exception as error:  # a third-party reader of free-form files: any error is theirs
        raise ConvertError(
            f"{folder / 'README.md'}: no usable model card ({error!r}); mend it or take it away"
        ) from error
    name = snapshot_name(folder)
    if name != folder.resolve().name:  # the cache names folders by commit, which names no model
        parts = gguf.Metadata.get_model_id_components(name, parameters)
        card.name = gguf.Metadata.id_to_title(parts[0])
        _, _, card.basename, card.finetune, card.version, card.size_label = parts
    card.name = card.name or name
    card.size_label = card.size_label or gguf.size_label(
        parameters, parameters - of_experts, of_experts // max(experts, 1), experts
    )
    path = folder / "generation_config.json"
    if path.exists() and card.sampling_penalty_repeat is None:
        card.sampling_penalty_repeat = read_object(path).get("repetition_penalty")
    meta.add_type(gguf.GGUFType.MODEL)
    card.set_gguf_meta_model(meta)
    meta.add_quantization_version(gguf.GGML_QUANT_VERSION)
