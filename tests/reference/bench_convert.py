"""Wall time and peak memory of converting an E2B-shaped checkpoint, ours against upstream's.

    python -m tests.reference.bench_convert FOLDER [--layers 35] [--outtype q8_0] [--rounds 2]

Builds a BF16 checkpoint of E2B's widths and vocabulary in FOLDER (35 layers: 10.2 GB) unless it is
there already, and converts it with both in turn. MTPCLI_LLAMA_SRC and MTPCLI_REFERENCE_PYTHON are
those of the reference tests. Not a test: it takes minutes and disk.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from convert.hf_config import read_config
from convert.model import tensor_specs
from tests import snapshots

VOCAB = 262144
TILE = 1 << 20
OURS = """
import sys
from pathlib import Path
from convert import convert_model
convert_model(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], force=True)
"""


def config(layers: int) -> dict[str, Any]:
    kinds = ["full_attention" if layer % 5 == 4 else "sliding_attention" for layer in range(layers)]
    return {
        **snapshots.TARGET_CONFIG,
        "vocab_size": VOCAB,
        "vocab_size_per_layer_input": VOCAB,
        "hidden_size": 1536,
        "intermediate_size": 6144,
        "num_attention_heads": 8,
        "head_dim": 256,
        "global_head_dim": 512,
        "hidden_size_per_layer_input": 256,
        "num_hidden_layers": layers,
        "num_kv_shared_layers": layers * 20 // 35,
        "layer_types": [*kinds[:-1], "full_attention"],
        "sliding_window": 512,
        "max_position_embeddings": 131072,
    }


def build(folder: Path, layers: int) -> Path:
    """Write the snapshot, or keep the one that is there."""
    snapshot = folder / f"gemma-4-E2B-{layers}-layers"
    if (snapshot / "model.safetensors").exists():
        return snapshot
    snapshot.mkdir(parents=True)
    snapshots.write_json(snapshot / "config.json", config(layers))
    snapshots.write_tokenizer(snapshot)
    tokenizer = snapshots.tokenizer()
    vocab = tokenizer["model"]["vocab"]
    tokenizer["added_tokens"].pop()
    vocab |= {f"w{token}": token for token in range(len(vocab), VOCAB)}
    snapshots.write_json(snapshot / "tokenizer.json", tokenizer)
    header, offset = {}, 0
    for spec in tensor_specs(read_config(snapshot)):
        if spec.required:
            end = offset + 2 * math.prod(spec.shape)
            header[spec.hf] = {"dtype": "BF16", "shape": spec.shape, "data_offsets": [offset, end]}
            offset = end
    tile = snapshots.bfloat16(np.random.default_rng(1).normal(0, 0.02, TILE)).tobytes()
    part = snapshot / "part"
    with part.open("wb") as file:
        text = json.dumps(header).encode()
        file.write(struct.pack("<Q", len(text)) + text)
        for start in range(0, offset, len(tile)):
            file.write(tile[: offset - start])
    part.rename(snapshot / "model.safetensors")
    return snapshot


def timed(command: list[str], **env: str) -> tuple[float, float]:
    """Seconds and peak GB of a command's process."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, env=os.environ | env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(f"failed: {' '.join(command)}")
    return time.perf_counter() - begin, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--layers", type=int, default=35)
    parser.add_argument("--outtype", default="q8_0")
    parser.add_argument("--rounds", type=int, default=2)
    args = parser.parse_args()
    snapshot = build(args.folder, args.layers)
    size = (snapshot / "model.safetensors").stat().st_size / 1e9
    print(f"{snapshot.name}: {size:.1f} GB BF16 to {args.outtype}")
    script = Path(os.environ["MTPCLI_LLAMA_SRC"]) / "vendor/llama.cpp/convert_hf_to_gguf.py"
    python = os.environ.get("MTPCLI_REFERENCE_PYTHON", sys.executable)
    output = str(args.folder / "out.gguf")
    upstream = [python, str(script), str(snapshot), "--outtype", args.outtype, "--outfile", output]
    ours = [sys.executable, "-c", OURS, str(snapshot), output, args.outtype]
    for _ in range(args.rounds):
        for name, command in (("ours", ours), ("upstream", upstream)):
            seconds, peak = timed(command, HF_HUB_OFFLINE="1")
            print(f"{name:8} {seconds:7.1f} s, peak {peak:.2f} GB", flush=True)
            Path(output).unlink()


if __name__ == "__main__":
    main()
