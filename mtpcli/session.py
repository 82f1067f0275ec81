"""A target, its drafter and an engine over them, opened together and closed together."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from mtpcli.config import CPU, MAX_DRAFT_DEPTH, DraftConfig, RuntimeConfig, SamplingConfig
from mtpcli.errors import ModelError
from mtpcli.prompt.stream import TextStream
from mtpcli.prompt.thinking import ChannelSplitter
from mtpcli.sanitize import visible

if TYPE_CHECKING:
    from mtpcli.decode.constraint import Constraint
    from mtpcli.decode.depth import AutoDepth, DepthPolicy
    from mtpcli.decode.drafters.base import Drafter
    from mtpcli.decode.engine import Engine
    from mtpcli.decode.exact import RowReport
    from mtpcli.decode.round_costs import Costs
    from mtpcli.decode.sequence import Request
    from mtpcli.llama.context import TargetContext
    from mtpcli.llama.gguf import GgufFile
    from mtpcli.prompt.template import ChatTemplate, Message


@dataclass(frozen=True)
class PairPaths:
    """Files to use.

    Attributes:
        target: the target's GGUF file.
        drafter: the drafter's, or None.
        embedded: it is the pair that comes with mtpcli.
    """

    target: Path
    drafter: Path | None
    embedded: bool = False


def choose_pair(model: Path | None, drafter: Path | None, *, draft: bool) -> PairPaths:
    """Which files a command means.

    Args:
        model: the user's choice, a file or the name of a model that was pulled; None is
            `MTPCLI_MODEL`, else the embedded pair.
        drafter: the user's choice; None is the one that fits among the files beside the target.
        draft: False for no drafter at all.
    """
    from mtpcli.hub.store import look_up
    from mtpcli.pair import find_drafter

    if model is None and (name := os.environ.get("MTPCLI_MODEL")):
        model = Path(name)
    if draft and drafter and (its := look_up(drafter)):
        # A pair's name means the half that is asked for; a drafter alone is the file it has.
        drafter = its.drafter_path or its.target_path
    if model and (pulled := look_up(model)):
        model = pulled.target_path
        drafter = drafter or pulled.drafter_path
    if model is None:
        from mtpcli.demo.pack import embedded_pair

        target, packed = embedded_pair()
        return PairPaths(target, (drafter or packed) if draft else None, embedded=True)
    if model.is_dir() and (model / "config.json").is_file():
        raise ModelError(
            f"{model} is a checkpoint, not a GGUF file: pack it with "
            f"`mtpcli convert {model} -o FOLDER`"
        )
    return PairPaths(model, (drafter or find_drafter(model)) if draft else None)


class Session:
    """Owns models and engine. Closing it twice is harmless.

    Attributes:
        paths: the files in use.
        engine: generates.
        sampling: the target's recommended sampling.
        drafter_name: who drafts, or did until it failed; None for nobody.
        runtime: how it runs: as asked for, with the layers that fit; on the CPU if a device failed.
        load_seconds: time to load files and create contexts.
        n_ctx: tokens of context per sequence.
        rows: what is known of row counts, where the draft is to be exact.
        threads: that llama.cpp uses.
    """

    def __init__(
        self,
        paths: PairPaths,
        draft: DraftConfig,
        runtime: RuntimeConfig,
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        """Check the files, then load them: where a device fails, on the CPU, with a warning.

        Args:
            progress: told what takes long.

        Raises:
            ModelError: a file is missing or damaged, or the two do not fit each other.
            UsageError: there is no such device.
        """
        from mtpcli.decode.exact import has_float_matrices
        from mtpcli.llama.devices import choose_devices
        from mtpcli.llama.gguf import read_metadata
        from mtpcli.llama.rpc import add_servers
        from mtpcli.pair import check_pair, check_target
        from mtpcli.placement import place
        from mtpcli.trial import ensure_tried

        started = perf_counter()
        self.paths = paths
        self._open: list[Any] = []
        self._on_close: list[Callable[[], None]] = []
        self._progress = progress
        target_file = read_metadata(paths.target)
        check_target(target_file)
        self._float_matrices = has_float_matrices(target_file.tensors)
        drafter_file = None
        if paths.drafter:
            # Before llama.cpp sees them: it would end the process on a pair that does not fit.
            drafter_file = read_metadata(paths.drafter)
            check_pair(target_file, drafter_file)
        if not paths.embedded and not runtime.rpc:  # those may be too large for this machine
            ensure_tried(paths.target, paths.drafter)
        self.sampling = recommended_sampling(target_file.metadata)
        self._template_source = target_file.metadata.get("tokenizer.chat_template")
        add_servers(runtime.rpc)
        if draft.depth == 0:
            drafter_file = None
        chosen = choose_devices(runtime.devices)
        if chosen:
            free = [device.free for device in chosen]
            runtime = place(target_file, drafter_file, runtime, free)
        if not chosen or not runtime.gpu_layers:
            runtime = replace(runtime, devices=CPU)
        try:
            self._load(target_file, drafter_file, draft, runtime)
        except ModelError as error:
            if runtime.devices == CPU:
                raise
            self._load(target_file, drafter_file, draft, replace(runtime, devices=CPU))
            names = ", ".join(device.name for device in chosen)
            _warn(f"{names} failed, and the CPU does it all: {error}")
        self.load_seconds = perf_counter() - started

    def _load(
        self,
        target_file: GgufFile,
        drafter_file: GgufFile | None,
        draft: DraftConfig,
        runtime: RuntimeConfig,
    ) -> None:
        """Load the files and put an engine over them; nothing is left open if that fails."""
        from mtpcli.decode.probe import try_out
        from mtpcli.llama.context import TargetContext
        from mtpcli.llama.model import Model
        from mtpcli.machine import machine_memory
        from mtpcli.placement import check_memory, drafter_layers

        memory = machine_memory()
        if memory and runtime.devices == CPU:  # llama.cpp sees to the devices' own
            runtime = check_memory(target_file, runtime, memory)
        self.runtime = runtime
        try:
            self.model = Model(self.paths.target, runtime)
            self._open.append(self.model)
            context = TargetContext(self.model, runtime)
            self._open.append(context)
            if self.model.devices:
                try_out(context)
            self._context, self.threads = context, context.threads
            self.rows = self.compare_rows(self._progress) if draft.exact else None
            if runtime.gpu_layers is not None:
                layers = drafter_layers(target_file, runtime.gpu_layers)
                runtime = replace(runtime, gpu_layers=layers)
            self.engine = self._make_engine(context, drafter_file, draft, runtime)
            self._open.append(self.engine)
        except BaseException:
            self.close()
            raise
        self.n_ctx = self.engine.n_ctx

    def _make_engine(
        self,
        context: TargetContext,
        drafter_file: GgufFile | None,
        draft: DraftConfig,
        runtime: RuntimeConfig,
    ) -> Engine:
        """An engine that drafts, or plainly where nobody is to draft or llama.cpp cannot.

        Raises:
            ModelError: the drafter's file is damaged, or a device fails.
        """
        from mtpcli.costs import costs_file, load_costs
        from mtpcli.decode.depth import FixedDepth
        from mtpcli.decode.drafters.mtp import MtpDrafter
        from mtpcli.decode.drafters.ordered_head import load_ordered_head
        from mtpcli.decode.engine import Engine
        from mtpcli.decode.probe import measure, try_out
        from mtpcli.llama.context import DrafterContext
        from mtpcli.llama.devices import features
        from mtpcli.llama.lib import versions
        from mtpcli.llama.model import Model

        drafter: Drafter | None = None
        policy: DepthPolicy = FixedDepth(draft.depth or 0)
        exact_rows = self.rows.exact_rows() if self.rows else ()
        failure: Exception | None = None
        if drafter_file and exact_rows != (1,):
            head = load_ordered_head(drafter_file) if draft.ordered_head is not False else None
            if head and draft.ordered_head is None and not head.pays:
                head = None
            model = Model(drafter_file.path, runtime)
            self._open.append(model)
            try:
                made = DrafterContext(model, context, stop_before_head=head is not None)
                self._open.append(made)
                drafter = MtpDrafter(made, head)
                if self.model.devices:
                    try_out(context, drafter)
                files = [self.paths.target, drafter_file.path]
                settings = replace(self.runtime, threads=context.threads, n_ctx=0, keeper=False)
                place = (versions(), features(), settings, self.model.devices, head is not None)
                file = costs_file(files, *place, *exact_rows)
                costs = load_costs(file)
                if costs is None and draft.depth is None:
                    costs = measure(context, drafter)
                if costs:
                    drafter.set_threads(costs.draft_threads)
                if costs and draft.depth is None:
                    policy = self._auto(file, costs, exact_rows, watch=not draft.rejection)
            except (ModelError, MemoryError) as error:
                if self.model.devices:
                    raise  # the CPU may do it
                failure = error
        self.drafter_name = drafter.name if drafter else None
        engine = Engine(
            context,
            drafter,
            policy,
            self.model.is_end,
            rejection=draft.rejection,
            exact_rows=exact_rows,
        )
        if failure:
            engine.give_up_drafter(failure)
        return engine

    def compare_rows(self, progress: Callable[[str], None] = lambda text: None) -> RowReport:
        """Which row counts are exact with this file here, from an earlier run or found out now.

        Between generations only: it takes the cells.
        """
        from mtpcli.costs import costs_file, load_rows, save_rows
        from mtpcli.decode.exact import compare_rows
        from mtpcli.llama.devices import features
        from mtpcli.llama.lib import versions

        context = self._context
        settings = ("rows", versions(), features(), context.threads, context.n_ctx, self.runtime)
        file = costs_file([self.paths.target], *settings)
        report = load_rows(file)
        if report is None:
            report = compare_rows(context, progress)
            save_rows(file, report)
        return report.with_single_apart() if self._float_matrices else report

    def _auto(
        self, file: Path, costs: Costs, exact_rows: Sequence[int], *, watch: bool
    ) -> AutoDepth:
        """A policy that knows what rounds cost here, and keeps what it learns in a file."""
        from mtpcli.costs import save_costs
        from mtpcli.decode.depth import AutoDepth

        deepest = MAX_DRAFT_DEPTH
        if exact_rows:
            deepest = max(exact_rows) - 1
            # A round of one row costs as much as the rows that it is filled up to.
            costs.verify.seconds[1] = costs.verify.at(min(exact_rows))
        policy = AutoDepth(costs, deepest, watch=watch)
        self._on_close.append(lambda: save_costs(file, policy.costs))
        return policy

    def close(self) -> None:
        """Free everything, the last opened first, and keep what was learnt of costs."""
        while self._on_close:
            self._on_close.pop()()
        while self._open:
            self._open.pop().close()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_exc: Any) -> None:
        self.close()

    def chat_tokens(
        self, messages: Sequence[Message], *, thinking: bool = False, answer: bool = True
    ) -> list[int]:
        """Token ids of a conversation, rendered by the model's own template.

        With `answer` False they end with the last message, and nobody is asked to go on.
        """
        text = self._template.render(messages, thinking=thinking, add_generation_prompt=answer)
        return self.model.tokenize(text, special=True)

    @cached_property
    def _template(self) -> ChatTemplate:
        from mtpcli.prompt.template import ChatTemplate

        if not isinstance(self._template_source, str):
            raise ModelError(f"{self.paths.target} has no chat template: use --raw")
        return ChatTemplate(self._template_source, self.model.bos_text, self.model.eos_text)

    def raw_tokens(self, text: str) -> list[int]:
        """Token ids of a text as it is, after the beginning-of-sequence token."""
        bos = self.model.bos_text
        has_bos = bool(bos) and text.startswith(bos)
        return self.model.tokenize(text, special=True, add_bos=not has_bos)

    def constraint(self, grammar: str) -> Callable[[], Constraint]:
        """What makes an answer keep to a grammar in GBNF, for any number of requests.

        Raises:
            InputError: the grammar has a mistake, or is one that llama.cpp cannot follow.
        """
        from mtpcli.llama.grammar import Grammar

        Grammar(self.model, grammar).close()
        return partial(Grammar, self.model, grammar)

    def request(
        self,
        prompt: list[int],
        sampling: SamplingConfig,
        *,
        max_tokens: int | None = None,
        stops: Sequence[str] = (),
        raw: bool = False,
        reuse: bool = False,
        constraint: Callable[[], Constraint] | None = None,
    ) -> tuple[Request, TextStream]:
        """A request to the engine and the stream that its text will come from.

        With `reuse` the KV cells of an earlier request are kept as far as this one begins alike.
        With a `constraint` all text is answer, exactly as the grammar has seen it.
        """
        from mtpcli.decode.sequence import Request

        splitter = None if raw or constraint else ChannelSplitter()
        stream = TextStream(self.model.detokenizer(), stops=stops, splitter=splitter)
        return Request(prompt, sampling, stream, max_tokens, reuse, constraint), stream


def _warn(message: str) -> None:
    print(f"mtpcli: {visible(message)}", file=sys.stderr, flush=True)


def recommended_sampling(metadata: Any) -> SamplingConfig:
    """The sampling that a file recommends, Gemma 4's own where it says nothing."""
    default = SamplingConfig()
    return SamplingConfig(
        temperature=_meant(metadata.get("general.sampling.temp", default.temperature)),
        top_k=int(metadata.get("general.sampling.top_k", default.top_k)),
        top_p=_meant(metadata.get("general.sampling.top_p", default.top_p)),
    )


def _meant(number: float) -> float:
    """The decimal number that was rounded to a file's single precision: .95, not .949999988."""
    return float(f"{number:.7g}")
