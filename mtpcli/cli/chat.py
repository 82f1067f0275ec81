"""`mtpcli chat`: a conversation."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mtpcli.cli import options
from mtpcli.cli.runtime import RUNTIME, with_runtime
from mtpcli.config import RuntimeConfig


@with_runtime
def chat(
    system: options.System = None,
    thinking: options.Thinking = False,
    load: Annotated[
        Path | None,
        typer.Option(
            "--load",
            parser=options.path,
            help="Go on with a conversation from /save.",
            autocompletion=options.files(".json"),
        ),
    ] = None,
    commands: Annotated[
        bool,
        typer.Option("--commands", help="Obey slash commands without a terminal too."),
    ] = False,
    max_tokens: options.MaxTokens = None,
    temperature: options.Temperature = None,
    top_k: options.TopK = None,
    top_p: options.TopP = None,
    min_p: options.MinP = None,
    repeat_penalty: options.RepeatPenalty = None,
    presence_penalty: options.PresencePenalty = None,
    frequency_penalty: options.FrequencyPenalty = None,
    seed: options.Seed = None,
    model: options.Model = None,
    ctx: options.Context = 0,
    drafter: options.Drafter = None,
    no_draft: options.NoDraft = False,
    draft_depth: options.DraftDepth = options.DEPTH,
    verify: options.Verify = options.Verification.COUPLED,
    exact: options.Exact = False,
    runtime: RuntimeConfig = RUNTIME,
) -> None:
    """Talk with the model. Ctrl-C stops an answer, Ctrl-D leaves, /help lists commands.

    Without a terminal every line of standard input is a turn, and answers go to standard output.
    Exit code: that of the first line that could not be answered.

    Examples:

        mtpcli chat --system "Answer in one sentence."
        mtpcli chat --load yesterday.json
        printf 'Hello!\\n/stats\\n' | mtpcli chat --commands
    """
    from contextlib import closing

    from platformdirs import user_state_path

    from mtpcli.chat.conversation import Conversation
    from mtpcli.chat.settings import Settings
    from mtpcli.chat.talk import Talk
    from mtpcli.cli.chat_input import open_input
    from mtpcli.cli.chat_loop import Chat
    from mtpcli.cli.chat_screen import Screen
    from mtpcli.config import DraftConfig
    from mtpcli.session import Session, choose_pair

    options.check_exact(exact, verify)
    paths = choose_pair(model, drafter, draft=not no_draft)
    options.say_which_model(paths)
    typed = sys.stdin.isatty()
    folder = user_state_path("mtpcli", appauthor=False)
    rejection = verify is options.Verification.REJECTION
    draft = DraftConfig(draft_depth, rejection=rejection, exact=exact)
    wanted: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition": repeat_penalty,
        "presence": presence_penalty,
        "frequency": frequency_penalty,
    }
    with Session(
        paths, draft, replace(runtime, n_ctx=ctx, swa_full=True), options.progress()
    ) as session:
        options.say_exact_rows(session)
        screen = Screen()
        settings = Settings(session.sampling, max_tokens=max_tokens)
        with closing(Talk(session, Conversation(), settings, screen.note)) as talk:
            if load:
                screen.note(talk.load(load, key_folder=folder))
            # What is asked for here goes before what the file says.
            settings.sampling = options.sampling(settings.sampling, seed=seed, **wanted)
            settings.seed = settings.seed if seed is None else seed
            settings.thinking = settings.thinking or thinking
            talk.conversation.system = system or talk.conversation.system
            loop = Chat(
                talk, screen, interactive=typed, commands=typed or commands, state_folder=folder
            )
            history = folder / "history"
            with open_input(history, loop.status, colour=screen.colour) as source:
                loop.run(source)
    raise typer.Exit(loop.exit_code)
