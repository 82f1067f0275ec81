"""Full-size pairs of made-up weights, for measuring speed before there are real ones.

A matrix costs the same time whatever its values are. These are random, but for what makes the
target write a text and the drafter draft it with a chosen rate of acceptance.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mtpcli.errors import InputError, UsageError
from mtpcli.units import bytes_text

if TYPE_CHECKING:
    from mtpcli.synthetic.shapes import Shape

# Changes with what is built, so that a stale file is never used.
_FORMAT = 1
_SPARE = 1 << 28  # bytes to leave free on the disk
_WAY_OUT = "let XDG_CACHE_HOME name a folder that can be written and has room"

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class MadeUpPair:
    """Files of a target and of one drafter for each rate of acceptance."""

    shape: Shape
    target: Path
    drafters: dict[float, Path]

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(path.stat().st_size for path in (self.target, *self.drafters.values()))

    def remove(self) -> None:
        """Delete the files, and their folder if nothing else is in it."""
        for path in (self.target, *self.drafters.values()):
            path.unlink(missing_ok=True)
        if not any(self.target.parent.iterdir()):
            self.target.parent.rmdir()


def made_up_pair(
    shape: str | Shape,
    acceptances: Sequence[float],
    quant: str = "q4_0",
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> MadeUpPair:
    """Files of a made-up pair, built now if they are not there yet.

    Args:
        shape: which member of the family, `e2b`, or a shape of one's own.
        acceptances: for each a drafter that drafts this share of tokens rightly, 0 to 1; rounded
            to hundredths.
        quant: the target's type, one that `mtpcli convert` writes itself. Drafters are Q8_0.
        cache: folder to keep them in; None is the user's cache folder.
        progress: called with what is done of the build, and all of it, in bytes.

    Raises:
        UsageError: there is no such shape, type or acceptance.
        InputError: they cannot be written there.
    """
    from convert.errors import WriteError
    from convert.quantize import OUTTYPES

    shape = _known(shape)
    if quant not in OUTTYPES:
        raise UsageError(f"--quant {quant}: is not one of {', '.join(OUTTYPES)}")
    if not all(0 <= acceptance <= 1 for acceptance in acceptances):
        raise UsageError("--acceptance must be from 0 to 1")
    folder = (cache or _user_cache()) / f"{shape.name}-{_FORMAT}"
    name = f"made-up-gemma-4-{shape.name}-{quant.upper()}"
    wanted = [round(acceptance, 2) for acceptance in acceptances]
    pair = MadeUpPair(
        shape,
        folder / f"{name}.gguf",
        {share: folder / f"mtp-{name}-acceptance-{share:.2f}.gguf" for share in wanted},
    )
    try:
        _build(shape, quant, pair, progress or (lambda done, total: None))
    except WriteError as error:
        raise InputError(f"{error}; {_WAY_OUT}") from None
    return pair


def letter_tokens(letter: str) -> list[int]:
    """The tokens of a letter, with which a prompt ends."""
    from mtpcli.synthetic.vocabulary import FIRST_WORD, vocabulary

    return [vocabulary(FIRST_WORD).tokens.index(letter)]


def answer_tokens(size: int, letter: str, count: int) -> list[int]:
    """What a made-up target of `size` tokens writes behind a letter: its first `count` tokens."""
    from mtpcli.synthetic.vocabulary import FIRST_WORD
    from mtpcli.synthetic.weights import make_walk

    following, tokens = make_walk(size, FIRST_WORD).next, letter_tokens(letter)
    while len(tokens) <= count:
        tokens.append(int(following[tokens[-1]]))
    return tokens[1:]


def _known(shape: str | Shape) -> Shape:
    from mtpcli.synthetic.shapes import SHAPES, Shape

    if isinstance(shape, Shape):
        return shape
    if shape.lower() not in SHAPES:
        raise UsageError(f"--synthetic {shape}: is not one of {', '.join(SHAPES)}")
    return SHAPES[shape.lower()]


def _build(shape: Shape, quant: str, pair: MadeUpPair, progress: Progress) -> None:
    """Write the files that are missing."""
    from convert.writer import staged, write
    from mtpcli.synthetic.build import PairBuilder

    missing = [share for share, path in pair.drafters.items() if not path.exists()]
    has_target = pair.target.exists()
    if has_target and not missing:
        return
    done, total = 0, 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress(done, total)

    # What is prepared before a byte is written takes about as long as writing its size.
    per_token = 4 * shape.hidden
    total = shape.vocabulary * per_token
    builder = PairBuilder(shape, quant, lambda tokens: advance(tokens * per_token))
    jobs: list[tuple[float | None, Path]] = [] if has_target else [(None, pair.target)]
    jobs += [(share, pair.drafters[share]) for share in missing]
    tensors = {path: builder.tensors(share) for share, path in jobs}
    size = sum(tensor.nbytes for many in tensors.values() for tensor in many)
    _check_disk(pair.target.parent, size, shape)
    total += size
    builder.prepare()
    for share, path in jobs:
        # Another process may build at the same time: each writes whole files and renames them.
        with staged(path, force=True) as part:
            write(part, builder.keys(share), tensors[path], advance)


def _check_disk(folder: Path, size: int, shape: Shape) -> None:
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    if size + _SPARE > free:
        raise InputError(
            f"made-up {shape.name} files take {bytes_text(size)} in {folder}, "
            f"where {bytes_text(free)} are free; {_WAY_OUT}"
        )


def _user_cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("mtpcli", appauthor=False) / "synthetic"
