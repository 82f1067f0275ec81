"""`mtpcli chat`, driven by lines on standard input."""

from __future__ import annotations

from collections.abc import Callable

from tests.conftest import Pair, Result

Run = Callable[..., Result]


def test_every_line_is_a_turn(run_cli: Run, demo_pair: Pair) -> None:
    turns = "What is the capital of France?\n\nWhat is the capital of Italy?\n"
    result = run_cli("chat", "-m", demo_pair.target, "--temperature", "0", stdin=turns)
    assert result.exit_code == 0
    assert result.stderr == ""
    answers = result.stdout.splitlines()
    assert len(answers) == 2
    assert "<" not in result.stdout


def test_the_conversation_is_remembered(run_cli: Run, demo_pair: Pair) -> None:
    arguments = ["chat", "-m", demo_pair.target, "--temperature", "0"]
    alone = run_cli(*arguments, stdin="Thank you!\n").stdout
    after = run_cli(*arguments, stdin="Repeat this text: A red box.\nThank you!\n").stdout
    # Not a proof that it understands, but the first turn is part of the second one's prompt.
    assert after.splitlines()[0] == "A red box."
    assert alone.strip() and after.splitlines()[1].strip()


def test_drafts_do_not_change_a_conversation(run_cli: Run, demo_pair: Pair) -> None:
    turns = "Tell me a story about Mia, a small fox.\nThank you!\n"
    arguments = ["chat", "-m", demo_pair.target, "--seed", "3"]
    drafted = run_cli(*arguments, stdin=turns)
    assert run_cli(*arguments, "--no-draft", stdin=turns).stdout == drafted.stdout


def test_a_turn_that_does_not_fit_is_refused_and_the_rest_goes_on(
    run_cli: Run, demo_pair: Pair
) -> None:
    turns = "word " * 200 + "\nHello!\n"
    result = run_cli("chat", "-m", demo_pair.target, "--ctx", "128", stdin=turns)
    assert result.exit_code == 0
    assert result.stderr.count("\n") == 1 and "the context" in result.stderr
    assert len(result.stdout.splitlines()) >= 1
