"""Run by test_family.py in an interpreter with torch: logits and drafts of a pair of the family.

Arguments: target snapshot, drafter snapshot, a JSON file with lists of token ids, an output file.
The output holds `logits` [prompts, vocab], `tokens` [prompts, steps + 1] (the token after each
prompt, then the drafted ones) and `gaps`, by how much each of them beat the runner-up.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

STEPS = 4


def load(folder: Path) -> Any:
    name = json.loads((folder / "config.json").read_text())["architectures"][0]
    options = {"dtype": torch.float32, "attn_implementation": "eager"}
    return getattr(transformers, name).from_pretrained(folder, **options).eval()


def run(target: Any, drafter: Any, prompt: list[int]) -> tuple[np.ndarray, list[int], list[float]]:
    """Logits after the prompt, the token they choose, and four drafts at its position."""
    seen = target(
        input_ids=torch.tensor([prompt]), output_hidden_states=True, return_shared_kv_states=True
    )
    logits, hidden = seen.logits[:, -1:], seen.hidden_states[-1][:, -1:]
    tokens, gaps = [], []
    for step in range(STEPS + 1):
        best = logits[0, -1].topk(2).values
        token = logits.argmax(-1)
        tokens.append(int(token))
        gaps.append(float(best[0] - best[1]))
        if step < STEPS:
            embedding = target.get_input_embeddings()(token)
            out = drafter(
                inputs_embeds=torch.cat([embedding, hidden], -1),
                position_ids=torch.tensor([[len(prompt)]]),
                shared_kv_states=seen.shared_kv_states,
                attention_mask=torch.ones(1, len(prompt) + 1, dtype=torch.long),
            )
            logits, hidden = out.logits, out.last_hidden_state
    return seen.logits[0, -1].numpy(), tokens, gaps


def main(target_dir: str, drafter_dir: str, prompts: str, output: str) -> None:
    torch.set_num_threads(1)  # for tiny models more of them only wait for each other
    target, drafter = load(Path(target_dir)), load(Path(drafter_dir))
    # llama.cpp multiplies by the whole vocabulary: compare with the dense head.
    drafter.config.use_ordered_embeddings = False
    with torch.no_grad():
        runs = [run(target, drafter, prompt) for prompt in json.loads(Path(prompts).read_text())]
    logits, tokens, gaps = zip(*runs, strict=True)
    np.savez(output, logits=np.stack(logits), tokens=tokens, gaps=gaps)


if __name__ == "__main__":
    main(*sys.argv[1:])
