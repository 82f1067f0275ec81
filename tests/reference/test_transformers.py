"""The embedded pair through llama.cpp and through transformers: logits and drafts agree."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from convert import convert_pair
from mtpcli.config import DraftConfig, RuntimeConfig, SamplingConfig
from mtpcli.decode.drafters.base import DraftRequest
from mtpcli.decode.drafters.mtp import MtpDrafter
from mtpcli.decode.drafters.ordered_head import load_ordered_head
from mtpcli.demo.pack import SNAPSHOTS
from mtpcli.llama.context import DrafterContext, TargetContext
from mtpcli.llama.gguf import read_metadata
from mtpcli.llama.model import Model
from mtpcli.session import PairPaths, Session

pytestmark = pytest.mark.reference

GREEDY = SamplingConfig(temperature=0)
# Past the sliding window transformers and llama.cpp let a drafter see different cells.
WINDOW = 128
STEPS = 4


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> PairPaths:
    """The embedded pair in F32, so that only the KV cache is rounded."""
    folder = tmp_path_factory.mktemp("f32")
    target, drafter = SNAPSHOTS / "target", SNAPSHOTS / "drafter"
    files = convert_pair(target, drafter, folder, "f32", "f32")
    return PairPaths(files[0], files[1])


@pytest.fixture(scope="module")
def prompts(pair: PairPaths) -> list[list[int]]:
    """Prompts of all workloads, each continued a little by the target itself."""
    workloads = json.loads((SNAPSHOTS / "heldout.json").read_text(encoding="utf-8"))
    found = []
    with Session(pair, DraftConfig(0), RuntimeConfig(n_ctx=512, threads=1)) as session:
        for items in workloads.values():
            for number, item in enumerate(items[:4]):
                prompt = session.chat_tokens([{"role": "user", "content": item["prompt"]}])
                request, _ = session.request(prompt, GREEDY, max_tokens=1 + 3 * number)
                (sequence,) = session.engine.generate([request])
                tokens = [*prompt, *sequence.tokens]
                if sequence.finish_reason == "length" and len(tokens) < WINDOW:
                    found.append(tokens)
    assert len(found) >= 12
    return found


def test_logits_and_drafts_agree(
    pair: PairPaths, prompts: list[list[int]], reference_python: str, tmp_path: Path
) -> None:
    (tmp_path / "prompts.json").write_text(json.dumps(prompts))
    script = Path(__file__).with_name("transformers_drafts.py")
    snapshots = [str(SNAPSHOTS / "target"), str(SNAPSHOTS / "drafter")]
    command = [reference_python, str(script), *snapshots, "prompts.json", "out.npz"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    expected = np.load(tmp_path / "out.npz")

    logits, drafts = through_llama(pair, prompts)
    _, ordered = through_llama(pair, prompts, ordered=True)
    # The target's probabilities are what text depends on; f16 keys and values cost this much.
    difference = np.abs(softmax(logits) - softmax(expected["logits"])).max(axis=1)
    assert difference.max() < 0.01, difference
    np.testing.assert_array_equal(drafts, expected["dense"])
    np.testing.assert_array_equal(ordered, expected["ordered"])


def through_llama(
    pair: PairPaths, prompts: list[list[int]], *, ordered: bool = False
) -> tuple[np.ndarray, list[list[int]]]:
    """Logits after each prompt; its next token and four drafted ones, all greedy."""
    assert pair.drafter
    logits, drafts = [], []
    head = load_ordered_head(read_metadata(pair.drafter)) if ordered else None
    assert bool(head) == ordered
    with (
        Model(pair.target) as target_model,
        Model(pair.drafter) as drafter_model,
        TargetContext(target_model, RuntimeConfig(n_ctx=512, threads=1)) as target,
        DrafterContext(drafter_model, target, stop_before_head=ordered) as context,
    ):
        drafter = MtpDrafter(context, head)
        for prompt in prompts:
            target.prefill(0, 0, prompt)
            row = target.logits(0).copy()
            token = int(row.argmax())
            hidden = target.hidden(-1).copy()
            request = DraftRequest(0, len(prompt), token, hidden, STEPS, GREEDY)
            logits.append(row)
            drafts.append([token, *drafter.draft([request], lambda _: True)[0].tokens])
            target.forget(0, 0)
    return np.stack(logits), drafts


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)
