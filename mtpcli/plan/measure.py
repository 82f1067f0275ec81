"""Times of a few layers made of random weights, and what they say about the whole model."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np
from platformdirs import user_cache_path

from mtpcli.config import RuntimeConfig, SamplingConfig
from mtpcli.decode import probe
from mtpcli.decode.depth import FixedDepth
from mtpcli.decode.drafters.mtp import MtpDrafter
from mtpcli.decode.drafters.ordered_head import load_ordered_head
from mtpcli.decode.engine import Engine
from mtpcli.decode.round_costs import Costs
from mtpcli.decode.sequence import Request
from mtpcli.errors import InputError
from mtpcli.llama.context import DrafterContext, TargetContext
from mtpcli.llama.gguf import read_metadata
from mtpcli.llama.model import Model
from mtpcli.plan import samples as small
from mtpcli.plan.blueprint import Subject
from mtpcli.units import bytes_text

_CONTEXT = 1024
_LAPS, _AT_LEAST = 3, 2
_BUDGET = 30.0  # seconds after which no further lap is begun
_PROMPT_BUDGET = 15.0
_PROMPT_ROWS = (512, 256, 128, 64)
_LEAST = 384 << 20  # bytes of layers in a sample
_CACHES = 8  # times the last cache's size
_USUAL_CACHE = 32 << 20
_SPARE = 1 << 28  # bytes to leave free on the disk
_DEPTH, _ROUNDS = 3, 12  # of the rounds that tell what happens between decodes

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class Measured:
    """Costs of a whole model.

    Attributes:
        costs: of its rounds, seconds; without a drafter no draft steps.
        prompt_rows, prompt_seconds: a decode of part of a prompt.
        parts: seconds of a decode of one row by part.
        sample_bytes: of the files that were made for it.
        layers: how many of the model's were measured.
        seconds: how long it took.
        spread: how much more the same decode took at another time, typically; 0.1 is a tenth.
    """

    costs: Costs
    prompt_rows: int
    prompt_seconds: float
    parts: dict[str, float]
    sample_bytes: int
    layers: int
    seconds: float
    spread: float


def measure(subject: Subject, threads: int = 0, progress: Progress | None = None) -> Measured:
    """Build samples of a model's layers, time them, and add up what the whole would cost.

    The files are gone when it returns, or is interrupted.

    Args:
        threads: for llama.cpp; 0 is one per core.
        progress: told what is under way, and which share of all is done.

    Raises:
        InputError: the samples cannot be kept anywhere.
    """
    started, say = perf_counter(), progress or (lambda what, share: None)
    target, drafter = subject.target, subject.drafter
    chosen = small.choose_samples(target, max(_LEAST, _CACHES * _last_cache()))
    jobs = [(target, sample) for sample in chosen]
    if drafter:
        jobs.append((drafter, small.whole(drafter)))
    total = sum(small.sample_size(*job) for job in jobs)
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(_folder(total))
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            done += count
            say("building", 0.3 * done / total)

        bench = _Bench(stack, threads)
        for number, (blueprint, sample) in enumerate(jobs):
            path = folder / f"{number}.gguf"
            small.write_sample(path, blueprint, sample, advance)
            bench.load(path, as_drafter=blueprint is drafter)
            # Where the system allows it the file is gone now, though it is still in use.
            with contextlib.suppress(OSError):
                path.unlink()
        small.forget_random_rows()
        say("measuring", 0.3)
        verify, spread = bench.verify(lambda share: say("measuring", 0.3 + 0.5 * share))
        rows, prompt = bench.prompt(verify[max(verify)], max(verify))
        say("measuring", 0.95)
        costs = bench.costs()
    design = np.array([small.design_row(target, sample) for sample in chosen])
    of_whole = np.array(small.design_row(target, small.whole(target)))
    for count, seconds in verify.items():
        costs.verify.seconds[count] = float(of_whole @ small.solve(design, seconds))
    parts = of_whole * small.solve(design, verify[1])
    say("measuring", 1.0)
    return Measured(
        costs,
        rows,
        float(of_whole @ small.solve(design, prompt)),
        dict(zip(("fixed", "layers", "sharing layers", "head"), parts.tolist(), strict=True)),
        total,
        len({layer for sample in chosen for layer in sample.layers}),
        perf_counter() - started,
        spread,
    )


class _Bench:
    """Loaded samples. The first one has the whole head, and the drafter reads it."""

    def __init__(self, stack: contextlib.ExitStack, threads: int) -> None:
        self._stack = stack
        self._threads = threads
        self._targets: list[TargetContext] = []
        self._drafter: MtpDrafter | None = None

    def load(self, path: Path, *, as_drafter: bool) -> None:
        model = self._stack.enter_context(Model(path))
        if as_drafter:
            head = load_ordered_head(read_metadata(path))
            if head and not head.pays:
                head = None
            context = DrafterContext(model, self._targets[0], stop_before_head=head is not None)
            self._stack.enter_context(context)
            self._drafter = MtpDrafter(context, head)
            return
        n_ctx = min(_CONTEXT, model.n_ctx_train)
        context_ = TargetContext(model, RuntimeConfig(n_ctx, 1, self._threads))
        self._targets.append(self._stack.enter_context(context_))

    def verify(
        self, progress: Callable[[float], None]
    ) -> tuple[dict[int, small.FloatArray], float]:
        """Usual seconds of decodes by rows, float64 `[samples]`, and how much laps differ.

        All samples take turns, so that a machine that gets slower or faster does not pass for
        layers that cost more or less.
        """
        laps = []
        started = perf_counter()
        for lap in range(_LAPS):
            if lap >= _AT_LEAST and perf_counter() - started > _BUDGET:
                break
            times = np.empty((len(probe.ROWS), len(self._targets)))
            for number, rows in enumerate(probe.ROWS):
                for index, target in enumerate(self._targets):
                    probe.verify_seconds(target, rows)  # another graph than the last one
                    pair = [probe.verify_seconds(target, rows) for _ in range(2)]
                    times[number, index] = sum(pair) / 2
                progress((lap + number / len(probe.ROWS)) / _LAPS)
            laps.append(times)
        # Not the least: a short decode finds a quiet moment more easily than a whole model's does.
        usual = np.median(laps, axis=0)
        spread = float(np.median(np.max(laps, axis=0) / np.min(laps, axis=0))) - 1
        return dict(zip(probe.ROWS, usual, strict=True)), spread

    def prompt(self, known: small.FloatArray, rows: int) -> tuple[int, small.FloatArray]:
        """Rows of a part of a prompt, as many as there is time for, and seconds by sample."""
        guess = float(known.sum()) / rows
        count = next(
            (count for count in _PROMPT_ROWS if count * guess <= _PROMPT_BUDGET), _PROMPT_ROWS[-1]
        )
        return count, np.array([_prompt_seconds(target, count) for target in self._targets])

    def costs(self) -> Costs:
        """Of draft steps, and of what happens between decodes; the verify is for others to add."""
        costs, target = Costs(), self._targets[0]
        if self._drafter:
            probe.verify_seconds(target, 1)
            steps = [probe.draft_step_seconds(target, self._drafter) for _ in range(3)]
            costs.draft.seconds[1] = min(steps)
        target.forget(0, 0)
        policy = _Watch(_DEPTH if self._drafter else 0)
        engine = Engine(target, self._drafter, policy, lambda token: False)
        tokens = _ROUNDS * (_DEPTH + 1)
        engine.generate([Request([2], SamplingConfig(seed=1), _Nobody(), tokens)])
        costs.rest = sorted(policy.rests)[len(policy.rests) // 2]
        return costs


class _Watch(FixedDepth):
    """A fixed depth that notes what happens outside of drafts and decodes."""

    rests: list[float]

    def __init__(self, depth: int) -> None:
        super().__init__(depth)
        object.__setattr__(self, "rests", [])

    def observe_rest(self, seconds: float) -> None:
        """Note it."""
        self.rests.append(seconds)


class _Nobody:
    """Reads tokens and makes nothing of them."""

    stopped = False

    def feed(self, token: int) -> None:
        """Take the next token."""

    def finish(self) -> None:
        """No token follows."""


def _prompt_seconds(target: TargetContext, rows: int) -> float:
    vocabulary = target.model.n_vocab
    tokens = [2 + index * 7919 % (vocabulary - 2) for index in range(rows)]
    target.forget(0, 0)
    target.prefill(0, 0, tokens[: rows // 8])  # allocates, and warms up
    target.forget(0, 0)
    started = perf_counter()
    target.prefill(0, 0, tokens)
    seconds = perf_counter() - started
    target.forget(0, 0)
    return seconds


@contextlib.contextmanager
def _folder(size: int) -> Iterator[Path]:
    """A folder of its own for that many bytes, gone afterwards.

    In the user's cache rather than in the system's folder for such files, which may be in memory.
    """
    cache = user_cache_path("mtpcli", appauthor=False)
    way_out = "let XDG_CACHE_HOME name another folder, or use --no-measure"
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix="plan-", dir=cache)
    except OSError as error:
        raise InputError(f"cannot measure in {cache}: {error.strerror}; {way_out}") from None
    with folder as name:
        free = shutil.disk_usage(name).free
        if size + _SPARE > free:
            raise InputError(
                f"measuring takes {bytes_text(size)} in {cache}, "
                f"where {bytes_text(free)} are free; {way_out}"
            )
        yield Path(name)


def _last_cache() -> int:
    """Bytes of the processor's largest cache."""
    sizes = []
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        with contextlib.suppress(OSError, ValueError):
            sizes.append(int(path.read_text().strip().removesuffix("K")) << 10)
    return max(sizes, default=_USUAL_CACHE)
