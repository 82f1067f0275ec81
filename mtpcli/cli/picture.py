"""A picture of the speculation: a real chat with `/drafts on`, drawn as SVG.

    python -m mtpcli.cli.picture drafts.svg [MODEL.gguf]

`make picture` draws the one in the README, with the embedded pair.
"""

from __future__ import annotations

import io
import re
import sys
from contextlib import closing
from pathlib import Path

from mtpcli.chat.conversation import Conversation
from mtpcli.chat.settings import Settings
from mtpcli.chat.talk import Talk
from mtpcli.cli.chat_loop import Chat
from mtpcli.cli.chat_screen import Screen
from mtpcli.config import DraftConfig, RuntimeConfig
from mtpcli.session import Session, choose_pair

_LINES = (
    "/drafts on",
    "/seed 7",
    "Write a short story about a curious fox named Mia who finds a lantern.",
    "Extract the data as JSON: Oscar, a pilot from Lisbon, is 41 years old.",
    "Echo: Bruno fixed the rusty compass in the tower. The brave seal painted a blue clock.",
    "/stats",
)
_WIDTH = 100
# rich's template loads fonts from a server; a picture should ask nobody for anything.
_FONTS = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)


class _Paper(io.StringIO):
    """Takes what a terminal would get, colours included."""

    def isatty(self) -> bool:
        return True


class _Script:
    """Types the lines of a script."""

    def __init__(self, lines: tuple[str, ...], paper: _Paper) -> None:
        self._lines = iter(lines)
        self._paper = paper

    def read(self, prefill: str = "") -> str | None:
        line = next(self._lines, None)
        if line is not None:
            self._paper.write(f"\x1b[1m> {line}\x1b[0m\n")
        return line


def record(model: Path | None, lines: tuple[str, ...] = _LINES) -> str:
    """What a chat of these lines looks like, as a terminal gets it."""
    paper = _Paper()
    paths = choose_pair(model, None, draft=True)
    with Session(paths, DraftConfig(), RuntimeConfig(swa_full=True)) as session:
        screen = Screen(paper, paper)
        settings = Settings(session.sampling, max_tokens=120)
        with closing(Talk(session, Conversation(), settings, screen.note)) as talk:
            chat = Chat(talk, screen, interactive=True, commands=True, state_folder=Path())
            chat.run(_Script(lines, paper))
    return paper.getvalue()


def svg(screen: str) -> str:
    """A picture of a terminal with this text, escape sequences obeyed."""
    from rich.console import Console
    from rich.terminal_theme import MONOKAI
    from rich.text import Text

    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(screen))
    picture = console.export_svg(title="mtpcli chat", theme=MONOKAI, unique_id="mtpcli")
    return _FONTS.sub("", picture)


def main() -> None:
    """Draw the picture that the arguments ask for."""
    target, *model = sys.argv[1:]
    Path(target).write_text(svg(record(Path(model[0]) if model else None)), "utf-8")


if __name__ == "__main__":
    main()
