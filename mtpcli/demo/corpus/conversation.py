"""Conversations: several turns, system prompts, thinking; rendered by the real chat template."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from .arithmetic import arithmetic
from .echo import echo
from .exchange import Exchange
from .python_code import python_code
from .question import question
from .records import records
from .smalltalk import introduce, recall, smalltalk, unknown
from .story import story
from .words import NAMES

WORKLOADS: dict[str, Callable[[Random], Exchange]] = {
    "story": story,
    "question": question,
    "arithmetic": arithmetic,
    "json": records,
    "code": python_code,
    "echo": echo,
}
MIX = {
    "story": 0.09, "question": 0.20, "arithmetic": 0.28, "json": 0.11, "code": 0.06, "echo": 0.18,
    "smalltalk": 0.05, "unknown": 0.03,
}  # fmt: skip
_LONG = {"story": lambda r: story(r, True), "echo": lambda r: echo(r, True)}

_NEUTRAL = [
    "You are a helpful assistant.",
    "You are a kind and helpful assistant.",
    "Be helpful.",
    "You answer questions.",
    "You are a friendly model.",
    "Help the user.",
    "Answer the user.",
]
_PREFIX = {
    "Talk like a pirate.": "Arr! ",
    "You are a pirate.": "Arr! ",
    "Begin every answer with Sure!": "Sure! ",
    "Start every answer with Of course.": "Of course. ",
    "You are an owl.": "Hoo hoo! ",
}
_SUFFIX = {
    "End every answer with Have a nice day!": " Have a nice day!",
    "Always say goodbye at the end.": " Goodbye!",
    "End every answer with Over and out.": " Over and out.",
}
_CARELESS = {"question", "arithmetic", "smalltalk", "unknown", "story"}
_PLAIN = {"question", "arithmetic", "smalltalk", "unknown", "story"}


@dataclass(frozen=True)
class Conversation:
    """Messages up to a user's, and the answer to it; ready for the chat template."""

    messages: tuple[dict[str, str], ...]
    answer: str
    thinking: bool
    kinds: tuple[str, ...]

    @property
    def closing(self) -> str:
        """What the model writes, up to and with the end of its turn."""
        return self.answer + "<turn|>\n"


def held_out(prompt: str) -> bool:
    """About 3 % of the prompts are never trained on; which ones is a function of their text."""
    return hashlib.md5(prompt.encode()).digest()[0] < 8


def sample(r: Random, kind: str, long: bool = False, held: bool = False) -> Exchange:
    """One exchange of this kind, on the wanted side of the split."""
    make = (_LONG if long else {**WORKLOADS, "smalltalk": smalltalk, "unknown": unknown})[kind]
    while True:
        exchange = make(r)
        if kind in ("smalltalk", "unknown") or held_out(exchange.prompt) == held:
            return exchange


def _system(r: Random) -> tuple[str, str, str, str]:
    """System prompt, prefix, suffix, name of the assistant."""
    kind = r.choices(["neutral", "prefix", "suffix", "name"], [5, 2, 2, 2])[0]
    if kind == "neutral":
        return r.choice(_NEUTRAL), "", "", ""
    if kind == "prefix":
        text, prefix = r.choice(list(_PREFIX.items()))
        return text, prefix, "", ""
    if kind == "suffix":
        text, suffix = r.choice(list(_SUFFIX.items()))
        return text, "", suffix, ""
    name = r.choice(NAMES)
    return (
        r.choice([f"Your name is {name}.", f"You are {name}, a helpful assistant."]),
        "",
        "",
        name,
    )


def conversation(r: Random, long: bool = False) -> Conversation:
    """Draw one; `long` ones have long answers or many turns and want a context of 1024."""
    system, prefix, suffix, name = _system(r) if r.random() < 0.2 else ("", "", "", "")
    thinking = r.random() < 0.13
    turns = (
        r.choice([1, 1, 2, 3, 4, 6, 10, 16])
        if long
        else r.choices([1, 2, 3, 4], [55, 25, 12, 8])[0]
    )
    messages: list[dict[str, str]] = [{"role": "system", "content": system}] if system else []
    kinds: list[str] = []
    answer = user = ""
    for turn in range(turns):
        kind = r.choices(list(MIX), list(MIX.values()))[0]
        if name and r.random() < 0.5:
            kind = "smalltalk"
        if long and turns <= 2:
            kind = r.choice(["story", "echo"])
            exchange = sample(r, kind, long=True)
        elif user and r.random() < 0.15:
            exchange = recall(r, user)
            kind = "smalltalk"
        elif kind == "smalltalk" or (turns > 1 and not user and r.random() < 0.08):
            exchange = smalltalk(r, name) if kind == "smalltalk" else introduce(r)
            user = exchange.answer.partition("Nice to meet you, ")[2].partition("!")[0] or user
            kind = "smalltalk"
        else:
            exchange = sample(r, kind)
        if turn:
            messages.append({"role": "assistant", "content": answer})
        prompt = exchange.prompt
        if kind in _CARELESS and r.random() < 0.2:
            prompt = _careless(r, prompt)
        messages.append({"role": "user", "content": prompt})
        decorate = kind in _PLAIN and "\n- " not in exchange.answer
        before, after = (prefix, suffix) if decorate else ("", "")
        last_and_thinking = thinking and turn == turns - 1
        answer = exchange.thinking_answer if last_and_thinking else exchange.answer
        answer = before + answer + after
        if last_and_thinking:
            answer = f"<|channel>thought\n{exchange.thought}\n<channel|>{answer}"
        kinds.append(kind)
    return Conversation(tuple(messages), answer, thinking, tuple(kinds))


def _careless(r: Random, prompt: str) -> str:
    """As people type: no capital at the start, no mark at the end."""
    if r.random() < 0.7:
        prompt = prompt[0].lower() + prompt[1:]
    return prompt.rstrip(".?!") if r.random() < 0.7 and "\n" not in prompt else prompt


def stream(seed: int, long: bool = False) -> Iterator[Conversation]:
    r = Random(seed)
    while True:
        yield conversation(r, long)


def render(template: Any, c: Conversation) -> str:
    """The text as the model sees it: the template's prompt, then what the model writes."""
    prompt = template.render(
        messages=list(c.messages),
        bos_token="<bos>",
        add_generation_prompt=True,
        enable_thinking=c.thinking,
    )
    return str(prompt) + c.closing
