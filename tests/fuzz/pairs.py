"""Damaged GGUF pairs through all that `generate` does with two files."""

from __future__ import annotations

import random
from pathlib import Path

from tests import snapshots
from tests.fuzz.gguf_mutations import mutate


class Pairs:
    """Sound tiny pairs, and damaged copies of them by number."""

    def __init__(self, folder: Path) -> None:
        """Convert the pairs, into a folder of their own."""
        self.target, self.drafter = folder / "target.gguf", folder / "drafter.gguf"
        self.sound = _sound_pairs(folder / "sound")

    def write(self, seed: int) -> None:
        """Write the damaged pair of that number."""
        rng = random.Random(seed)
        target, drafter = rng.choice(self.sound)
        if rng.random() < 0.05:
            drafter = rng.choice(self.sound)[rng.randrange(2)]
        which = rng.choice(("target", "target", "drafter", "drafter", "both"))
        if which != "drafter":
            target = mutate(target, rng)
        if which != "target":
            drafter = mutate(drafter, rng)
        self.target.write_bytes(target)
        self.drafter.write_bytes(drafter)

    def use(self) -> None:
        """Look at the two files as `inspect` does, then generate with them."""
        from mtpcli.config import DraftConfig, RuntimeConfig
        from mtpcli.errors import ModelError
        from mtpcli.llama.gguf import read_metadata
        from mtpcli.session import PairPaths, Session
        from mtpcli.summary import summarize, summarize_pair

        try:
            headers = [read_metadata(path) for path in (self.target, self.drafter)]
            _ = [summarize(header) for header in headers], summarize_pair(headers)
        except ModelError:
            pass
        paths = PairPaths(self.target, self.drafter)
        with Session(paths, DraftConfig(3), RuntimeConfig(64, 1, 1)) as session:
            messages = [{"role": "user", "content": "a b caf\u00e9"}]
            tokens = session.chat_tokens(messages)  # type: ignore[arg-type]
            request, stream = session.request(tokens[:30], session.sampling, max_tokens=12)
            for _ in session.engine.rounds([request]):
                stream.take()


def _sound_pairs(folder: Path) -> list[tuple[bytes, bytes]]:
    """Pairs like E2B's in three types, and one like 26B-A4B's."""
    from convert import convert_model

    small = snapshots.write_target(folder / "small"), snapshots.write_drafter(folder / "for-small")
    tensors = snapshots.target_tensors(snapshots.EXPERTS_CONFIG)
    experts = snapshots.write_snapshot(folder / "experts", snapshots.EXPERTS_CONFIG, tensors)
    heads = {"num_key_value_heads": 2, "num_global_key_value_heads": 1, "attention_k_eq_v": True}
    for_experts = snapshots.write_drafter(folder / "for-experts", **heads)
    pairs = []
    kinds = [(small, kind) for kind in ("q8_0", "f16", "f32")] + [((experts, for_experts), "q4_0")]
    for sources, kind in kinds:
        files = [convert_model(one, folder / f"{one.name}-{kind}.gguf", kind) for one in sources]
        pairs.append((files[0].read_bytes(), files[1].read_bytes()))
    return pairs
