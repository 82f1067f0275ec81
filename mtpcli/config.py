"""Settings of a run, as frozen dataclasses: no I/O, no defaults hidden elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MAX_DRAFT_DEPTH = 15
CPU = ("cpu",)  # `RuntimeConfig.devices` for no device but the CPU

KvType = Literal["f32", "f16", "bf16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl"]
FlashAttention = Literal["auto", "on", "off"]


@dataclass(frozen=True)
class SamplingConfig:
    """How a token is chosen from logits.

    Attributes:
        temperature: 0 is greedy; otherwise logits are divided by it.
        top_k: keep the k most likely tokens; 0 keeps all that top_p leaves.
        top_p: keep the smallest set of tokens whose probability reaches it, in (0, 1].
        min_p: keep tokens at least this times as likely as the best, in [0, 1].
        repetition: divide (or multiply, below 0) the logits of recent tokens by it; 1 is off.
        presence, frequency: subtract from the logits of recent tokens, once and per occurrence.
        recent: how many of the last tokens the three penalties look at, prompt included.
        seed: noise is a function of (seed, absolute position, token id), so that a seed gives
            one text whatever was drafted.
    """

    temperature: float = 1.0
    top_k: int = 64
    top_p: float = 0.95
    seed: int = 0
    min_p: float = 0.0
    repetition: float = 1.0
    presence: float = 0.0
    frequency: float = 0.0
    recent: int = 64

    @property
    def penalises(self) -> bool:
        """Whether recent tokens matter."""
        return self.repetition != 1.0 or self.presence != 0.0 or self.frequency != 0.0


# The reals of `SamplingConfig` by field: the option's name, and the range, both ends included. Far
# beyond what is of use, and within what 32 bits hold when logits are divided and added up.
SAMPLING_RANGES: dict[str, tuple[str, float, float]] = {
    "temperature": ("temperature", 0.0, 1e6),
    "top_p": ("top-p", 1e-6, 1.0),
    "min_p": ("min-p", 0.0, 1.0),
    "repetition": ("repeat-penalty", 0.01, 1e6),
    "presence": ("presence-penalty", -1e6, 1e6),
    "frequency": ("frequency-penalty", -1e6, 1e6),
}


@dataclass(frozen=True)
class DraftConfig:
    """How to draft; the text does not depend on it, unless by rejection.

    Attributes:
        depth: how many tokens the drafter proposes per round (0..15); 0 is plain decoding, None
            is what pays best, round by round.
        ordered_head: use the drafter's ordered head where its file has one; None is where it is
            faster than scoring the whole vocabulary.
        rejection: verify sampled text by rejection instead of by coupling: more drafts are
            accepted, and the text is as likely as without a drafter, but not the same.
        exact: decode only by numbers of rows that give the same bits, so that the text does not
            depend on the draft where rounding does; with a single sequence.
    """

    depth: int | None = None
    ordered_head: bool | None = None
    rejection: bool = False
    exact: bool = False


@dataclass(frozen=True)
class RuntimeConfig:
    """Where and how llama.cpp runs.

    Attributes:
        n_ctx: tokens of context per sequence; 0 takes the model's own, at most 8192.
        n_seq: sequences that share the context.
        threads: CPU threads; 0 takes the physical cores.
        swa_full: sliding-window layers keep every cell, not only the window's: a conversation can
            go back to any place, at the price of gigabytes for the large models.
        devices: names of devices that take layers, as `mtpcli devices` lists them; none takes all
            GPUs that are there, and `("cpu",)` takes none of them.
        gpu_layers: how many layers the devices take, from the last one on, the output among them;
            None is what fits. The drafter follows the layers whose cells it reads.
        cpu_moe: experts stay in main memory, whatever the devices take.
        kv_type: type of the cells of the KV cache.
        flash_attn: fused attention; `auto` is where the device can.
        mmap: map the files instead of reading them.
        repack: keep weights in memory as the CPU's fastest kernels want them, beside the file.
        rpc: HOST:PORT of servers of llama.cpp's RPC backend: their devices take layers, too.
        keeper: one sequence more, for the cells that many prompts begin with; what has no room for
            it goes without.
    """

    n_ctx: int = 0
    n_seq: int = 1
    threads: int = 0
    swa_full: bool = False
    devices: tuple[str, ...] = ()
    gpu_layers: int | None = None
    cpu_moe: bool = False
    kv_type: KvType = "f16"
    flash_attn: FlashAttention = "auto"
    mmap: bool = True
    repack: bool = True
    rpc: tuple[str, ...] = ()
    keeper: bool = False
