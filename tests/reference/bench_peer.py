"""mtpcli against llama-server: the same files, prompts, threads and sampling, in turn.

    python -m tests.reference.bench_peer [--model FILE --drafter FILE | --synthetic e2b] ...

Without a model: the embedded pair. All contestants are loaded at once and answer one after the
other, so that a machine that slows down slows down all of them. Speeds are of decoding only, by
each one's own clock: tokens after the first by the time since the first. With --parallel N they
get all prompts, N at once and the next as soon as one is answered, and speeds are of all tokens by
the whole time, prompts included; mtpcli answers them one after another too. With --shared N all
prompts begin with the same N tokens: the server keeps what its slots hold, and mtpcli answers with
that beginning decoded once, and with each prompt decoded whole.
Not a test: it takes minutes, and memory for each contestant.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter, sleep

from mtpcli import bench
from mtpcli.config import DraftConfig, RuntimeConfig, SamplingConfig
from mtpcli.decode.depth import AutoDepth, DepthPolicy, FixedDepth
from mtpcli.decode.metrics import Timings
from mtpcli.errors import MtpError
from mtpcli.llama.lib import default_threads
from mtpcli.session import PairPaths, Session, choose_pair
from tests.reference import llama_server, upstream

SERVER, OURS = "llama-server", "mtpcli"
ALONE, WHOLE = "one by one", "whole prompts"
SYSTEM = "You are a careful assistant who answers in few words and says what is unclear. "
# Threads look out for work for a while after a decode: seconds until the next one has the cores.
REST = 0.03
SERVER_DEFAULT = 3  # of --spec-draft-n-max


@dataclass(frozen=True)
class Answer:
    """Tokens of an answer, or of several at once, and the seconds they took."""

    tokens: list[list[int]]
    counted: int
    seconds: float


Contestant = Callable[[Sequence[list[int]], SamplingConfig], Answer]


@dataclass
class Row:
    """One contestant with one sampling: tokens per second by round, and whether all was equal."""

    name: str
    temperature: float
    speeds: list[float] = field(default_factory=list)
    equal: bool = True

    @property
    def speed(self) -> float:
        return statistics.median(self.speeds)

    def against(self, other: Row) -> float:
        """Median of the ratios, round by round."""
        return statistics.median(a / b for a, b in zip(self.speeds, other.speeds, strict=True))


def ask_server(
    address: str,
    max_tokens: int,
    at_once: int,
    cached: bool,
    prompts: Sequence[list[int]],
    sampling: SamplingConfig,
) -> Answer:
    """Ask a server for all prompts, so many at once."""
    settings = {
        "temperature": sampling.temperature,
        "top_k": sampling.top_k,
        "top_p": sampling.top_p,
        "min_p": 0.0,
        "seed": sampling.seed,
        "n_predict": max_tokens,
        "cache_prompt": cached,
    }
    started = perf_counter()
    with ThreadPoolExecutor(at_once) as pool:
        answers = list(
            pool.map(lambda tokens: llama_server.complete(address, tokens, **settings), prompts)
        )
    wall = perf_counter() - started
    tokens = [answer["tokens"] for answer in answers]
    if len(prompts) > 1:
        return Answer(tokens, sum(map(len, tokens)), wall)
    timings = answers[0]["timings"]
    return Answer(tokens, timings["predicted_n"] - 1, timings["predicted_ms"] / 1e3)


def ask_ours(
    session: Session,
    policy: DepthPolicy,
    max_tokens: int,
    shared: list[int],
    prompts: Sequence[list[int]],
    sampling: SamplingConfig,
) -> Answer:
    """Ask our engine for all prompts, as many at once as it has room for."""
    requests = [session.request(tokens, sampling, max_tokens=max_tokens)[0] for tokens in prompts]
    session.engine.policy = policy
    session.engine.share(shared)
    session.engine.timings = Timings()
    started = perf_counter()
    tokens = [sequence.tokens for sequence in session.engine.generate(requests)]
    wall = perf_counter() - started
    if len(prompts) > 1:
        return Answer(tokens, sum(map(len, tokens)), wall)
    return Answer(tokens, len(tokens[0]) - 1, session.engine.timings.decode)


def measure(
    contestants: dict[str, Contestant],
    prompts: Sequence[list[int]],
    args: argparse.Namespace,
    temperature: float,
) -> list[Row]:
    """All contestants on all prompts, round by round, one round of warming up before."""
    rows = {name: Row(name, temperature) for name in contestants}
    names = list(contestants)
    sampling = SamplingConfig(temperature=temperature, top_k=64, top_p=0.95)
    groups = [prompts] if args.parallel > 1 else [[prompt] for prompt in prompts]
    for number in range(args.rounds + 1):
        spent = {name: [0, 0.0] for name in names}
        for place, group in enumerate(groups):
            expected: dict[bool, list[list[int]]] = {}
            for name in bench.in_turn(names, number + place):
                sleep(REST)
                answer = contestants[name](group, sampling)
                spent[name][0] += answer.counted
                spent[name][1] += answer.seconds
                # Sampled text is a different one for each of the two programs.
                side = temperature > 0 and name.startswith(SERVER)
                rows[name].equal &= answer.tokens == expected.setdefault(side, answer.tokens)
        print(f"temperature {temperature:g}, round {number} of {args.rounds}", file=sys.stderr)
        if number:
            for name, (count, seconds) in spent.items():
                rows[name].speeds.append(count / seconds)
    return list(rows.values())


def report(rows: list[Row]) -> list[str]:
    """A table in Markdown, and what it means."""
    lines = [
        "| temperature | | tokens/s | range | against its plain decoding | text |",
        "|---|---|---|---|---|---|",
    ]
    plain = {row.name.split()[0]: row for row in rows if row.name.endswith(bench.PLAIN)}
    for row in rows:
        ratio = row.against(plain[row.name.split()[0]])
        text = "equal" if row.equal else "differs"
        lines.append(
            f"| {row.temperature:g} | {row.name} | {row.speed:.1f} "
            f"| {min(row.speeds):.1f}-{max(row.speeds):.1f} | {ratio:.2f}x | {text} |"
        )
    ours = next(row for row in rows if row.name == f"{OURS} {bench.AUTO}")
    servers = [row for row in rows if row.name.startswith(SERVER) and row not in plain.values()]
    best = max(servers, key=lambda row: row.speed)
    alone = [row for row in rows if row.name.endswith(ALONE)]
    whole = [row for row in rows if row.name.endswith(WHOLE)]
    fixed = [row for row in rows if row.name.startswith(OURS) and row not in (ours, *alone, *whole)]
    best_fixed = max(fixed, key=lambda row: row.speed)
    lines.append("")
    for what, other in (
        *((f"{SERVER} at its default", row) for row in servers if row.name.endswith(" 3")),
        (f"the best drafting {SERVER}", best),
        (f"plain {SERVER}", plain[SERVER]),
        (f"the best fixed depth of {OURS} itself", best_fixed),
        *(("its prompts one after another", row) for row in alone),
        *(("its prompts decoded whole", row) for row in whole),
    ):
        lines.append(f"{OURS} auto against {what} ({other.name}): {ours.against(other):.2f}x")
    return lines


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--drafter", type=Path)
    parser.add_argument("--synthetic", help="a made-up pair of this shape, in place of a model")
    parser.add_argument("--acceptance", type=float, default=0.8)
    parser.add_argument("--quant", default="q4_0")
    parser.add_argument("--prompts", type=Path, help="as for `mtpcli bench`")
    parser.add_argument("--per-workload", type=int, default=1)
    parser.add_argument("--temperatures", default="0,1")
    parser.add_argument("--depths", default="1,3,7")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--parallel", type=int, default=1, help="prompts at once")
    parser.add_argument("--shared", type=int, default=0, help="tokens that all prompts begin with")
    parser.add_argument("--max-tokens", "-n", type=int, default=128)
    parser.add_argument("--ctx", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=default_threads())
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def files_and_prompts(args: argparse.Namespace) -> tuple[PairPaths, list[bench.Prompt]]:
    """What the contestants run, and what they are asked."""
    from mtpcli.cli.bench_synthetic import workloads as made_up_workloads
    from mtpcli.demo.pack import SNAPSHOTS
    from mtpcli.synthetic import made_up_pair

    workloads = bench.load_prompts(args.prompts or SNAPSHOTS / "heldout.json")
    if args.synthetic:
        pair = made_up_pair(args.synthetic, [args.acceptance], args.quant)
        paths = PairPaths(pair.target, pair.drafters[round(args.acceptance, 2)])
        own = workloads if args.prompts else None
        workloads = made_up_workloads(pair, args.acceptance, own)
        workloads = workloads if own else workloads[:1]
    else:
        paths = choose_pair(args.model, args.drafter, draft=True)
    return paths, [text for load in workloads for text in load.prompts[: args.per_workload]]


def main() -> None:
    args = arguments()
    paths, texts = files_and_prompts(args)
    print("llama-server is built first, if it is not yet: minutes", file=sys.stderr)
    server = upstream.llama_server()
    depths = [int(depth) for depth in args.depths.split(",")]
    size = ["-c", str(args.ctx * args.parallel), "-np", str(args.parallel)]
    size += ["-t", str(args.threads), "-td", str(args.threads)]
    contestants: dict[str, Contestant] = {}
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))

        def add_server(name: str, *drafting: str | Path) -> None:
            address = stack.enter_context(
                llama_server.running(server, folder / name, "-m", paths.target, *drafting, *size)
            )
            contestants[f"{SERVER} {name}"] = partial(
                ask_server, address, args.max_tokens, args.parallel, args.shared > 0
            )

        add_server(bench.PLAIN)
        for depth in depths:
            drafting = "--spec-type", "draft-mtp", "--spec-draft-n-max", str(depth)
            add_server(str(depth), "-md", str(paths.drafter), *drafting)

        def open_session(n_seq: int) -> Session:
            runtime = RuntimeConfig(args.ctx, n_seq, args.threads, keeper=args.shared > 0)
            return stack.enter_context(Session(paths, DraftConfig(), runtime))

        def add_ours(name: str, session: Session, policy: DepthPolicy) -> None:
            beginning = [] if name.endswith(WHOLE) else shared
            contestants[f"{OURS} {name}"] = partial(
                ask_ours, session, policy, args.max_tokens, beginning
            )

        session = open_session(args.parallel)
        shared = session.raw_tokens(SYSTEM * args.shared)[: args.shared]
        auto = session.engine.policy
        assert isinstance(auto, AutoDepth)
        add_ours(bench.PLAIN, session, FixedDepth(0))
        add_ours(bench.AUTO, session, auto)
        for depth in depths:
            add_ours(str(depth), session, FixedDepth(depth))
        if args.parallel > 1:
            single = open_session(1)
            for name, policy in ((bench.PLAIN, FixedDepth(0)), (bench.AUTO, single.engine.policy)):
                add_ours(f"{name}, {ALONE}", single, policy)
        prompts = [bench.prompt_tokens(session, text) for text in texts]
        if shared:
            add_ours(f"{bench.AUTO}, {WHOLE}", session, auto)
            prompts = [[*shared, *prompt[1:]] for prompt in prompts]
        rows = [
            measure(contestants, prompts, args, float(temperature))
            for temperature in args.temperatures.split(",")
        ]
    if args.json:
        found = [{**asdict(row), "tokens_per_second": row.speed} for part in rows for row in part]
        print(json.dumps({"model": str(paths.target), "rows": found}))
        return
    print(
        f"{paths.target.name}, {args.threads} threads, {len(texts)} prompts at most "
        f"{args.parallel} at once, {args.max_tokens} tokens, {args.rounds} rounds\n"
    )
    for part in rows:
        print("\n".join(report(part)), end="\n\n")


if __name__ == "__main__":
    try:
        main()
    except (MtpError, upstream.Unavailable) as error:
        sys.exit(f"error: {error}")
