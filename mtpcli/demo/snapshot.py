"""Writing the pair as Hugging Face snapshots."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from .tokenizer import BOS, EOS, PAD, TURN_CLOSE, save_tokenizer

# What Google recommends for Gemma 4.
GENERATION: dict[str, Any] = {
    "bos_token_id": BOS, "do_sample": True, "eos_token_id": [EOS, TURN_CLOSE], "pad_token_id": PAD,
    "temperature": 1.0, "top_k": 64, "top_p": 0.95,
}  # fmt: skip


def save_snapshot(
    module: Any, tokenizer: dict[str, Any], directory: Path, template: Path | None
) -> None:
    """BF16 weights, config, tokenizer, and for a target the chat template."""
    directory.mkdir(parents=True, exist_ok=True)
    module.to(torch.bfloat16).save_pretrained(directory)
    (directory / "model.safetensors").chmod(0o644)  # the writer makes it private
    save_tokenizer(tokenizer, directory)
    (directory / "generation_config.json").write_text(
        json.dumps(GENERATION, indent=2) + "\n", encoding="utf-8"
    )
    if template and template.resolve() != (directory / template.name).resolve():
        shutil.copyfile(template, directory / template.name)
