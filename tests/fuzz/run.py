"""Run a campaign: python -m tests.fuzz.run {pairs,checkpoints,commands} [-n CASES] [--first SEED].

Every case is made from its number alone, so a failure is repeated with `--first SEED -n 1`. A case
is good if it runs or is refused with a known error: not by an abort, a traceback, a hang, or files
left behind. Pairs that end llama.cpp in spite of all checks are then given to the program itself,
which has to notice it in its trial process. Prints one JSON object; exit code 1 if a case failed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from tests.fuzz.checkpoints import Checkpoints
from tests.fuzz.commands import Commands
from tests.fuzz.forked import Outcome, leftovers, run_case
from tests.fuzz.pairs import Pairs

CAMPAIGNS: dict[str, Any] = {"pairs": Pairs, "checkpoints": Checkpoints, "commands": Commands}
FILES = {"sound", "target", "drafter", "out", "target.gguf", "drafter.gguf", "stdin", "said"}
FILES |= {"in.bin", "config.toml", "out.jsonl", "cache", "out.jsonl.part"}
SECONDS = 60


def main() -> int:
    """Run the campaign that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.run")
    parser.add_argument("campaign", choices=CAMPAIGNS)
    parser.add_argument("-n", type=int, help="default: 2000, of commands 1000")
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    shared = Path("/dev/shm")
    base = shared if shared.is_dir() else None
    folder = Path(tempfile.mkdtemp(prefix="mtpcli-fuzz-", dir=base))
    try:
        count = options.n or (1000 if options.campaign == "commands" else 2000)
        return run(options.campaign, folder, options.first, count)
    finally:
        shutil.rmtree(folder)


def run(name: str, folder: Path, first: int, count: int) -> int:
    """Run cases `first` to `first + count`; 1 if one of them failed."""
    from mtpcli.errors import MtpError

    _warm(folder)
    (folder / "sound").mkdir()
    campaign = CAMPAIGNS[name](folder)
    started = time.monotonic()
    kinds: Counter[str] = Counter()
    failed: list[int] = []
    for seed in range(first, first + count):
        campaign.write(seed)
        outcome = run_case(campaign.use, MtpError, SECONDS)
        if name == "pairs" and outcome.kind.startswith(("signal", "hang")):
            _say(seed, Outcome("caught in the trial", f"{outcome.kind}: {outcome.text}"))
            outcome = _by_the_program(folder)
        extra = leftovers(folder, FILES)
        if extra:
            outcome = Outcome("left behind", " ".join(extra))
        kinds[outcome.kind] += 1
        if not outcome.is_good and outcome.kind != "trial":
            failed.append(seed)
            _say(seed, outcome)
    seconds = round(time.monotonic() - started, 1)
    summary = {"campaign": name, "first": first, "cases": count, **kinds, "failed": failed}
    print(json.dumps({**summary, "seconds": seconds}))
    return 1 if failed else 0


def _warm(folder: Path) -> None:
    """Load everything that cases need, once, and keep them from the user's folders."""
    for kind in ("CACHE", "CONFIG", "STATE", "DATA"):
        os.environ[f"XDG_{kind}_HOME"] = str(folder / "cache")
    for name in [name for name in os.environ if name.startswith("MTPCLI_")]:
        del os.environ[name]
    os.environ["MTPCLI_TRUST_FILES"] = "1"

    from mtpcli.llama.lib import load_ext

    load_ext()


def _by_the_program(folder: Path) -> Outcome:
    """What a user sees of a pair that ends llama.cpp: it has to be one line and exit code 3."""
    environment = {**os.environ, "MTPCLI_TRUST_FILES": ""}
    target, drafter = str(folder / "target.gguf"), str(folder / "drafter.gguf")
    command = [sys.executable, "-m", "mtpcli", "generate", "-m", target, "--drafter", drafter]
    done = subprocess.run(
        [*command, "--ctx", "64", "--max-tokens", "9", "a"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=environment,
        timeout=120,
        check=False,
    )
    said = done.stderr.decode("utf-8", "replace")
    one_line = said.startswith("error: ") and said.count("\n") == 1
    good = done.returncode == 3 and one_line and not done.stdout
    return Outcome("trial" if good else f"exit {done.returncode}", said[-1500:])


def _say(seed: int, outcome: Outcome) -> None:
    print(f"{seed}: {outcome.kind}: {outcome.text.strip()[-1500:]}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
