"""The demo pair's corpus: procedural, deterministic, and all of it our own text."""

from __future__ import annotations

from .conversation import (
    MIX,
    WORKLOADS,
    Conversation,
    conversation,
    held_out,
    render,
    sample,
    stream,
)
from .exchange import Exchange

__all__ = [
    "MIX",
    "WORKLOADS",
    "Conversation",
    "Exchange",
    "conversation",
    "held_out",
    "render",
    "sample",
    "stream",
]
