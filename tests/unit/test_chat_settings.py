"""Settings of a chat: limits, and lines about what is wrong."""

from __future__ import annotations

import pytest

from mtpcli.chat.settings import KNOBS, Settings
from mtpcli.config import SamplingConfig
from mtpcli.errors import UsageError


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("temperature", "0.5", "temperature 0.5 · top-k 64 · top-p 0.95 · seed 3 · max-tokens 9"),
        ("top-k", "0", "temperature 1 · top-k 0 · top-p 0.95 · seed 3 · max-tokens 9"),
        (
            "repeat-penalty",
            "1.1",
            "temperature 1 · top-k 64 · top-p 0.95 · repeat-penalty 1.1 · seed 3 · max-tokens 9",
        ),
        ("seed", "random", "temperature 1 · top-k 64 · top-p 0.95 · seed random · max-tokens 9"),
        ("max-tokens", "none", "temperature 1 · top-k 64 · top-p 0.95 · seed 3 · max-tokens none"),
    ],
)
def test_set(name: str, text: str, line: str) -> None:
    settings = Settings(SamplingConfig(), seed=3, max_tokens=9)
    settings.set(name, text)
    assert settings.line() == line


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("temperature", ""),
        ("temperature", "-1"),
        ("temperature", "nan"),
        ("temperature", "inf"),
        ("top-k", "1.5"),
        ("top-k", "-1"),
        ("top-p", "0"),
        ("top-p", "1.01"),
        ("min-p", "2"),
        ("repeat-penalty", "0"),
        ("presence-penalty", "much"),
        ("seed", "-1"),
        ("seed", str(2**64)),
        ("seed", "9" * 5000),
        ("seed", "0" * 5000),
        ("seed", "²"),
        ("max-tokens", "0"),
        ("colour", "red"),
    ],
)
def test_what_cannot_be_set(name: str, text: str) -> None:
    settings = Settings(SamplingConfig(), seed=3)
    with pytest.raises(UsageError) as caught:
        settings.set(name, text)
    assert name in str(caught.value)
    assert settings == Settings(SamplingConfig(), seed=3)


def test_defaults_are_within_the_limits() -> None:
    default = SamplingConfig()
    assert all(knob.allows(getattr(default, knob.field)) for knob in KNOBS.values())
