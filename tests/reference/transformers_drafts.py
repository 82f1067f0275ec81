"""Run by test_transformers.py in an interpreter with torch: logits and drafts of a pair.

Arguments: target snapshot, drafter snapshot, a JSON file with lists of token ids, an output file.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Gemma4AssistantForCausalLM, Gemma4ForCausalLM

STEPS = 4


def main(target_dir: str, drafter_dir: str, prompts: str, output: str) -> None:
    torch.set_num_threads(1)  # for tiny models more of them only wait for each other
    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    target = Gemma4ForCausalLM.from_pretrained(target_dir, **options).eval()
    drafter = Gemma4AssistantForCausalLM.from_pretrained(drafter_dir, **options).eval()
    logits: list[np.ndarray] = []
    drafts: dict[str, list[list[int]]] = {"dense": [], "ordered": []}
    for tokens in json.loads(Path(prompts).read_text()):
        with torch.no_grad():
            seen = target(
                torch.tensor([tokens]), output_hidden_states=True, return_shared_kv_states=True
            )
            logits.append(seen.logits[0, -1].numpy())
            for head in drafts:
                drafter.config.use_ordered_embeddings = head == "ordered"
                drafts[head].append(draft(target, drafter, seen, len(tokens)))
    np.savez(output, logits=np.stack(logits), dense=drafts["dense"], ordered=drafts["ordered"])


def draft(target: Any, drafter: Any, seen: Any, length: int) -> list[int]:
    """The token after the prompt, then the drafted ones, all steps at the same position."""
    token = seen.logits[:, -1:].argmax(-1)
    hidden = seen.hidden_states[-1][:, -1:]
    tokens = [int(token)]
    for _ in range(STEPS):
        embedding = target.get_input_embeddings()(token)
        out = drafter(
            inputs_embeds=torch.cat([embedding, hidden], -1),
            position_ids=torch.tensor([[length]]),
            shared_kv_states=seen.shared_kv_states,
            attention_mask=torch.ones(1, length + 1, dtype=torch.long),
        )
        token, hidden = out.logits.argmax(-1), out.last_hidden_state
        tokens.append(int(token))
    return tokens


if __name__ == "__main__":
    main(*sys.argv[1:])
