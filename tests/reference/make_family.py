"""Random checkpoints of all members of the family, made with transformers: tiny and sharded.

Usage: python make_family.py FOLDER. Not a test, and run by an interpreter of its own: the tests
themselves need no torch. Writes FOLDER/{E2B,E4B,12B,26B-A4B,31B}{,-assistant} without tokenizers.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import (
    Gemma4AssistantConfig,
    Gemma4AssistantForCausalLM,
    Gemma4Config,
    Gemma4ForConditionalGeneration,
    Gemma4TextConfig,
    Gemma4UnifiedAssistantConfig,
    Gemma4UnifiedAssistantForCausalLM,
    Gemma4UnifiedConfig,
    Gemma4UnifiedForConditionalGeneration,
    Gemma4UnifiedTextConfig,
)

VOCAB = 288  # that of tests/snapshots.py
LAYERS = ["sliding_attention"] * 2 + ["full_attention"]
TEXT: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 6,
    "layer_types": LAYERS * 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "global_head_dim": 32,
    "max_position_embeddings": 1024,
    "sliding_window": 32,
    "final_logit_softcapping": 30.0,
}
GEMMA: dict[str, Any] = TEXT | {"vocab_size_per_layer_input": VOCAB}
SMALL = GEMMA | {"hidden_size_per_layer_input": 32, "num_kv_shared_layers": 3}
LARGE = GEMMA | {"hidden_size_per_layer_input": 0, "attention_k_eq_v": True}
LARGE |= {"num_global_key_value_heads": 1}
EXPERTS = {"enable_moe_block": True, "num_experts": 4, "top_k_experts": 2}
EXPERTS |= {"moe_intermediate_size": 32}
TARGETS = {
    "E2B": SMALL | {"use_double_wide_mlp": True, "num_key_value_heads": 1},
    "E4B": SMALL,
    "26B-A4B": LARGE | EXPERTS,
    "31B": LARGE,
}
UNIFIED = TEXT | {"attention_k_eq_v": True, "num_global_key_value_heads": 1}
UNIFIED |= {"moe_intermediate_size": None}  # upstream's converter stumbles over its absence

DRAFTER: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 3, "layer_types": LAYERS}
DRAFTER |= {"final_logit_softcapping": None}
PLAIN: dict[str, Any] = {"hidden_size_per_layer_input": 0, "vocab_size_per_layer_input": 0}
PLAIN |= {"use_double_wide_mlp": False, "enable_moe_block": False, "num_kv_shared_layers": 0}
PLAIN |= {"num_experts": None, "top_k_experts": None, "moe_intermediate_size": None}

VISION = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "head_dim": 16}
VISION |= {"num_attention_heads": 2, "num_key_value_heads": 2}
AUDIO = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
AUDIO |= {"output_proj_dims": 32}


def save(model: Any, folder: Path) -> None:
    """Make every tensor random, so that no two can be taken for each other, and save shards."""
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn_like(parameter) * 0.05
            parameter.copy_(noise if parameter.dim() > 1 else 1 + noise)
        head = getattr(model, "masked_embedding", None)
        if head is not None:
            head.token_ordering.copy_(torch.randperm(VOCAB))
    model.to(torch.bfloat16).save_pretrained(folder, max_shard_size="60KB")


def save_drafter(name: str, text: dict[str, Any], folder: Path) -> None:
    if name == "12B":
        config = Gemma4UnifiedAssistantConfig(
            text_config=Gemma4UnifiedTextConfig(**text | DRAFTER), backbone_hidden_size=64
        )
        save(Gemma4UnifiedAssistantForCausalLM(config), folder)
        return
    config = Gemma4AssistantConfig(
        text_config=Gemma4TextConfig(**text | DRAFTER | PLAIN),
        backbone_hidden_size=64,
        use_ordered_embeddings=name in ("E2B", "E4B"),
        num_centroids=16,
        centroid_intermediate_top_k=4,
    )
    save(Gemma4AssistantForCausalLM(config), folder)


def main(root: Path) -> None:
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)  # for tiny models more of them only wait for each other
    torch.manual_seed(1)
    for name, text in TARGETS.items():
        audio = AUDIO if name in ("E2B", "E4B") else None
        config = Gemma4Config(text_config=text, vision_config=VISION, audio_config=audio)
        save(Gemma4ForConditionalGeneration(config), root / name)
        save_drafter(name, text, root / f"{name}-assistant")
    unified = Gemma4UnifiedConfig(
        text_config=UNIFIED,
        vision_config={"mm_embed_dim": 32, "mm_posemb_size": 16},
        audio_config={"audio_embed_dim": 32},
    )
    save(Gemma4UnifiedForConditionalGeneration(unified), root / "12B")
    save_drafter("12B", UNIFIED, root / "12B-assistant")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
