"""Damaged snapshots through the converter, and what comes out through llama.cpp."""

from __future__ import annotations

import json
import random
import shutil
import struct
from pathlib import Path

from tests import snapshots
from tests.fuzz.json_mutations import dump, mutate, mutate_bytes, mutate_value

JSON_FILES = ["config.json"] * 4 + ["tokenizer.json"] * 3 + ["tokenizer_config.json"]
JSON_FILES += ["generation_config.json"]


class Checkpoints:
    """Sound tiny snapshots, and damaged copies of them by number."""

    def __init__(self, folder: Path) -> None:
        """Write the snapshots, into a folder of their own."""
        self.folder, self.out = folder, folder / "out"
        sound = folder / "sound"
        tensors = snapshots.target_tensors(snapshots.EXPERTS_CONFIG)
        self.targets = [
            snapshots.write_target(sound / "small"),
            snapshots.write_snapshot(sound / "experts", snapshots.EXPERTS_CONFIG, tensors),
            snapshots.write_snapshot(
                sound / "shards", snapshots.TARGET_CONFIG, snapshots.target_tensors(), shards=3
            ),
        ]
        self.drafter = snapshots.write_drafter(sound / "drafter")

    def write(self, seed: int) -> None:
        """Write the damaged snapshots of that number."""
        rng = random.Random(seed)
        self.outtype = rng.choice(("auto", "q8_0", "q4_0", "f32"))
        folders = self.folder / "target", self.folder / "drafter"
        for folder, source in zip(folders, (rng.choice(self.targets), self.drafter), strict=True):
            shutil.rmtree(folder, ignore_errors=True)
            shutil.copytree(source, folder)
        shutil.rmtree(self.out, ignore_errors=True)
        for _ in range(rng.choice((1, 1, 2))):
            _damage(rng.choice(folders), rng)

    def use(self) -> None:
        """Convert, then generate with what came out."""
        from convert import ConvertError, convert_pair
        from mtpcli.config import DraftConfig, RuntimeConfig
        from mtpcli.errors import ModelError
        from mtpcli.session import PairPaths, Session

        try:
            target, drafter = convert_pair(
                self.folder / "target", self.folder / "drafter", self.out, self.outtype
            )
        except ConvertError as error:
            assert not self.out.exists(), list(self.out.iterdir())
            assert "\n" not in str(error) and len(str(error)) < 1000, str(error)
            raise ModelError(str(error)) from None
        assert sorted(self.out.iterdir()) == sorted((target, drafter))
        with Session(
            PairPaths(target, drafter), DraftConfig(3), RuntimeConfig(64, 1, 1)
        ) as session:
            tokens = session.raw_tokens("a b caf\u00e9")[:30]
            request, stream = session.request(tokens, session.sampling, max_tokens=9)
            for _ in session.engine.rounds([request]):
                stream.take()


def _damage(folder: Path, rng: random.Random) -> None:
    kind = rng.randrange(10)
    weights = [path for path in folder.glob("*.safetensors") if path.is_file()]
    if kind < 5:
        path = folder / rng.choice(JSON_FILES)
        if path.is_file():
            path.write_bytes(mutate(path.read_bytes(), rng))
    elif kind < 8 and weights:
        path = rng.choice(sorted(weights))
        raw = path.read_bytes()
        try:
            path.write_bytes(_safetensors(raw, rng))
        except (ValueError, struct.error):  # damaged before
            path.write_bytes(mutate_bytes(raw, rng))
    elif kind == 8 and (index := folder / "model.safetensors.index.json").is_file():
        index.write_bytes(mutate(index.read_bytes(), rng))
    elif files := sorted(path for path in folder.iterdir() if path.is_file()):
        path = rng.choice(files)
        way = rng.randrange(4)
        if way == 0:
            path.unlink()
        elif way == 1:
            path.write_bytes(b"")
        elif way == 2:
            path.unlink()
            path.mkdir()
        else:
            path.write_bytes(mutate_bytes(path.read_bytes(), rng))


def _safetensors(raw: bytes, rng: random.Random) -> bytes:
    (size,) = struct.unpack_from("<Q", raw)
    way = rng.randrange(6)
    if way == 0:
        return raw[: rng.randrange(len(raw))]
    if way == 1:
        return struct.pack("<Q", rng.choice((0, 1, size - 1, size + 1, 2**40, 2**64 - 1))) + raw[8:]
    if way == 2:
        data = bytearray(raw)
        for _ in range(rng.choice((1, 8, 200))):
            data[rng.randrange(8 if rng.random() < 0.5 else 8 + size, len(data))] ^= 1 << 6
        return bytes(data)
    header = json.loads(raw[8 : 8 + size])
    if way == 3:  # two tensors change places
        one, two = rng.sample([name for name in header if name != "__metadata__"], 2)
        header[one], header[two] = header[two], header[one]
    else:
        header = mutate_value(header, rng)
    text = dump(header)
    return struct.pack("<Q", len(text)) + text + raw[8 + size :]
