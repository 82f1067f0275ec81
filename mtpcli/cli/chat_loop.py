"""The loop of a chat: read a line, run the command or show the answer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mtpcli.chat.talk import Pieces, Talk
from mtpcli.cli import chat_commands
from mtpcli.cli.chat_screen import Interruptible, Screen, deaf_to_interrupts
from mtpcli.errors import InputError, MtpError, UsageError
from mtpcli.llama import abort

if TYPE_CHECKING:
    from mtpcli.cli.chat_input import Input

Answer = Callable[[Callable[[], bool]], Pieces]


class Chat:
    """A conversation between a person and a model.

    Attributes:
        talk: the conversation.
        screen: shows it.
        interactive: somebody types, so that lines can be commands.
        exit_code: of the first line that could not be obeyed, unless somebody types.
        state_folder: where the user's own files are kept.
    """

    def __init__(
        self, talk: Talk, screen: Screen, *, interactive: bool, commands: bool, state_folder: Path
    ) -> None:
        self.talk = talk
        self.screen = screen
        self.interactive = interactive
        self.state_folder = state_folder
        self.exit_code = 0
        self._commands = commands
        self._prefill = ""
        self._editing = False

    def run(self, source: Input) -> None:
        """Until the end of input, or until the user leaves."""
        self._warn()
        try:
            with (
                deaf_to_interrupts() if self.interactive else nullcontext(),
                abort.before_end(self._keep),
            ):
                self._run(source)
        except (SystemExit, Exception):  # a signal, a terminal that is gone, or a bug
            self._keep()
            raise

    def _keep(self) -> None:
        """Save a conversation that somebody has typed and can save no more."""
        self.talk.keep_half()
        if not self.interactive or not self.talk.conversation.turns:
            return
        path = self.state_folder / "interrupted.json"
        with suppress(MtpError, OSError):
            self.state_folder.mkdir(parents=True, exist_ok=True)
            self.talk.save(path, state=False, key_folder=self.state_folder)
            self.screen.end()
            self.screen.note(f"to go on with this conversation: mtpcli chat --load {path}")

    def _run(self, source: Input) -> None:
        while True:
            if self.interactive:
                self.talk.ahead()
            prefill, self._prefill = self._prefill, ""
            line = source.read(prefill)
            if line is None:
                return
            editing, self._editing = self._editing, False
            if not line:
                continue
            try:
                self._handle(line, editing=editing)
            except MtpError as error:
                # A person keeps the conversation whatever happens; a script wants to know.
                if not self.interactive:
                    if not isinstance(error, InputError | UsageError):
                        raise
                    self.exit_code = self.exit_code or error.exit_code
                self.screen.error(str(error))
            except chat_commands.Leave:
                return

    def status(self) -> str:
        """A line about the last answer, or about how to begin."""
        reports = self.talk.totals.reports
        if reports:
            return reports[-1].line(self.talk.n_ctx)
        return "/help lists the commands · Alt-Enter: new line · Ctrl-C: stop · Ctrl-D: leave"

    def edit(self, message: str) -> None:
        """Let the user edit the last message; the next line takes its place."""
        self._prefill, self._editing = message, True

    def answer_again(self, message: str | None) -> None:
        """Show another answer to the last message, or to `message` in its place."""
        self._show(lambda stopped: self.talk.again(message, stopped), message or "")
        self._editing = bool(self._prefill)  # it was stopped: the next line is for the same place

    def _handle(self, line: str, *, editing: bool) -> None:
        if self._commands and line.startswith("/") and not line.startswith("//"):
            chat_commands.run(self, line)
            return
        message = line[1:] if self._commands and line.startswith("//") else line
        if editing:
            self.answer_again(message)
        else:
            self._show(lambda stopped: self.talk.answer(message, stopped), message)

    def _warn(self) -> None:
        for news in self.talk.news():
            self.screen.note(f"warning: {news}")

    def _show(self, answer: Answer, message: str) -> None:
        reports = self.talk.totals.reports
        before = len(reports)
        try:
            with (
                Interruptible() as interruptible,
                closing(answer(interruptible.asked)) as pieces,
            ):
                for part in pieces:
                    interruptible.begun = True
                    self.screen.write(part)
        except KeyboardInterrupt:
            if not self.interactive:
                raise
        self.screen.end()
        self._warn()
        report = reports[-1] if len(reports) > before else None
        if report is None or not report.kept:
            # Nothing was answered: as if it had not been asked, but there to be asked better.
            self.screen.note("stopped before an answer began")
            self._prefill = message
        elif report.finish == "interrupted":
            self.screen.note("stopped: the half answer stays")
        elif report.finish == "context":
            self.screen.note("the context is full: the answer ends here")
        if report and self.screen.show_drafts:
            self.screen.note(report.line(self.talk.n_ctx))
