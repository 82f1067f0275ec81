"""All members of the family, random and tiny, through llama.cpp and through transformers."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from convert import convert_pair
from mtpcli.config import RuntimeConfig, SamplingConfig
from mtpcli.decode.drafters.base import DraftRequest
from mtpcli.decode.drafters.mtp import MtpDrafter
from mtpcli.llama.context import DrafterContext, TargetContext
from mtpcli.llama.model import Model
from tests import snapshots

pytestmark = pytest.mark.reference

STEPS = 4
# The sliding window is 32: past it the two let a drafter see different cells.
LENGTHS = (3, 8, 13, 18, 23, 27)
# ggml looks GELU up in a table of f16. Logits of these models have a deviation of about 0.4.
TOLERANCE = 0.006
# Random experts are chosen by a hair, and cells in f16 move hairs.
PRECISE = RuntimeConfig(n_ctx=256, threads=1, kv_type="f32", flash_attn="off")


@pytest.fixture
def prompts() -> list[list[int]]:
    rng = np.random.default_rng(3)
    return [[2, *rng.integers(5, snapshots.VOCAB, length).tolist()] for length in LENGTHS]


@pytest.mark.parametrize("member", ["E2B", "E4B", "12B", "26B-A4B", "31B"])
def test_logits_and_drafts_agree(
    member: str, family: Path, prompts: list[list[int]], reference_python: str, tmp_path: Path
) -> None:
    target, drafter = family / member, family / f"{member}-assistant"
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    script = Path(__file__).with_name("family_drafts.py")
    command = [reference_python, str(script), str(target), str(drafter), "prompts.json", "out.npz"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    expected = np.load(tmp_path / "out.npz")

    files = convert_pair(target, drafter, tmp_path / "files", "f32", "f32")
    logits, tokens = through_llama(files, prompts)
    assert np.abs(logits - expected["logits"]).max() < TOLERANCE
    assert expected["logits"].std() > 10 * TOLERANCE
    compared = 0
    for mine, wanted, gaps in zip(tokens, expected["tokens"], expected["gaps"], strict=True):
        # A near tie may fall either way, and what follows it hangs on it.
        clear = int(np.argmax(gaps < 2 * TOLERANCE)) if (gaps < 2 * TOLERANCE).any() else len(gaps)
        assert mine[:clear] == wanted[:clear].tolist()
        compared += clear
    assert compared > len(prompts)


def through_llama(
    files: list[Path], prompts: list[list[int]]
) -> tuple[np.ndarray, list[list[int]]]:
    """Logits after each prompt; the token they choose, and four drafts, all greedy."""
    greedy = SamplingConfig(temperature=0)
    logits, tokens = [], []
    with (
        Model(files[0]) as target_model,
        Model(files[1]) as drafter_model,
        TargetContext(target_model, PRECISE) as target,
        DrafterContext(drafter_model, target) as context,
    ):
        drafter = MtpDrafter(context)
        for prompt in prompts:
            target.prefill(0, 0, prompt)
            row = target.logits(0).copy()
            token = int(row.argmax())
            hidden = target.hidden(-1).copy()
            request = DraftRequest(0, len(prompt), token, hidden, STEPS, greedy)
            logits.append(row)
            tokens.append([token, *drafter.draft([request], lambda _: True)[0].tokens])
            target.forget(0, 0)
    return np.stack(logits), tokens
