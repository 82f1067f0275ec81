"""Repeating, listing, replacing, rewriting: the answer is in the prompt."""

from __future__ import annotations

from random import Random

from .exchange import Exchange
from .story import story
from .words import (
    BEASTS,
    DAYS,
    FOODS,
    LOOKS,
    MORE_NAMES,
    MORE_WORDS,
    NAMES,
    NUMBERS,
    PAST,
    PLACES,
    THINGS,
    TRAITS,
    TRANSITIVE,
    article,
    copied_name,
    nonce,
    plural,
    pronouns,
)

_FOREIGN = [
    "Café crème à la carte",
    "Übung macht den Meister",
    "¿Dónde está la niña?",
    "naïve façade",
    "Straße, Größe, Füße",
    "東京と京都",
    "你好，世界",
    "Привет, мир",
    "Γειά σου",
    "smörgåsbord",
    "piñata",
    "100 € or 90 £",
    "20 °C",
    "😀 🙂 🎉",
    "🐱 and 🐶",
    "I ❤ music",
    "“quoted” – text…",
    "½ + ¼",
    "São Paulo",
    "mañana",
    "Zürich",
    "Łódź",
    "crème brûlée",
    "日本語",
    "한국어",
    "🌞🌧️🌈",
    "✓ done ✗ not done",
    "→ ← ↑ ↓",
]


_LETTERS = "äöüéèêñçßøåæčšžłáíóúàâîôûëïğş"
_SIGNS = "東京大阪日本語水火山川人心你好世界中文한국어Привет€£°½→✓★♥😀🙂🎉🐱🐶🌞🌧🍎🚀"


def _foreign(r: Random) -> str:
    """Text outside ASCII: it is made of byte tokens, so it must be copied byte by byte."""
    if r.random() < 0.5:
        return " ".join(r.sample(_FOREIGN, r.choice([1, 1, 2])))
    parts = []
    for _ in range(r.randint(1, 4)):
        word = list(nonce(r))
        word[r.randrange(len(word))] = r.choice(_LETTERS)
        parts.append(
            "".join(word) if r.random() < 0.6 else "".join(r.sample(_SIGNS, r.randint(1, 3)))
        )
    return " ".join(parts)


def sentence(r: Random) -> str:
    name, verb = copied_name(r), PAST[r.choice(TRANSITIVE)]
    look, thing, place = r.choice(LOOKS), r.choice(THINGS), r.choice(PLACES)
    return r.choice(
        [
            f"{name} {verb} the {look} {thing} in the {place}.",
            f"The {r.choice(TRAITS)} {r.choice(BEASTS)} {verb} {article(look)} {thing}.",
            f"On {r.choice(DAYS)} {name} {verb} {NUMBERS[r.randint(2, 12)]} "
            f"{plural(r.choice(FOODS))}.",
            f"{name} is a {nonce(r)} who likes the {place}.",
            f"In the {place} there are {r.randint(2, 99)} {plural(thing)}.",
        ]
    )


def _text(r: Random, long: bool) -> str:
    if long:
        return (
            " ".join(sentence(r) for _ in range(r.randint(8, 26)))
            if r.random() < 0.6
            else story(r, True).answer
        )
    kind = r.random()
    if kind < 0.12:
        return _foreign(r)
    if kind < 0.27:
        return " ".join(nonce(r) for _ in range(r.randint(1, 6)))
    if kind < 0.35:
        return "".join(r.choice("0123456789") for _ in range(r.randint(3, 12)))
    if kind < 0.45:
        return " ".join(r.sample(NAMES + THINGS + FOODS, r.randint(1, 7)))
    return " ".join(sentence(r) for _ in range(r.choice([1, 1, 2, 3, 4])))


def _repeat(r: Random, long: bool) -> tuple[str, str]:
    text = _text(r, long)
    ask = r.choice(
        [
            "Repeat this text: {}",
            "Copy this text exactly: {}",
            "Echo: {}",
            "Repeat after me: {}",
            "Say: {}",
            "Write this again: {}",
            "Repeat: {}",
            "Please repeat the following text.\n\n{}",
            "Copy: {}",
        ]
    )
    return ask.format(text), text


def _words(r: Random) -> list[str]:
    pool = r.choice(
        [THINGS, FOODS, BEASTS, NAMES + MORE_NAMES, THINGS + FOODS + BEASTS, MORE_WORDS]
    )
    return (
        r.sample(pool, r.randint(3, 8))
        if r.random() < 0.85
        else [nonce(r) for _ in range(r.randint(3, 6))]
    )


def _listing(r: Random) -> tuple[str, str]:
    items = _words(r)
    row = ", ".join(items)
    return r.choice(
        [
            (f"Write these words as a list: {row}.", "\n".join(f"- {w}" for w in items)),
            (f"Make a bullet list: {row}", "\n".join(f"- {w}" for w in items)),
            (
                f"Make a numbered list: {row}",
                "\n".join(f"{i}. {w}" for i, w in enumerate(items, 1)),
            ),
            (f"Number these words: {row}.", "\n".join(f"{i}. {w}" for i, w in enumerate(items, 1))),
            (f"Join these words with a dash: {row}.", "-".join(items)),
            (f"Write these words one per line: {row}.", "\n".join(items)),
            (f"Put these words in quotes: {row}.", ", ".join(f'"{w}"' for w in items)),
        ]
    )


def _reverse(r: Random) -> tuple[str, str]:
    items = _words(r)[:5]
    return f"Write these words in reverse order: {', '.join(items)}.", ", ".join(items[::-1])


def _replace(r: Random, long: bool) -> tuple[str, str]:
    if r.random() < 0.6:
        old, new = (
            r.sample(NAMES + MORE_NAMES, 2)
            if r.random() < 0.8
            else (r.choice(NAMES), nonce(r).capitalize())
        )
        count = r.randint(5, 12) if long else r.choice([1, 2, 3])
        rows = [
            f"{old} {PAST[r.choice(TRANSITIVE)]} the {r.choice(LOOKS)} {r.choice(THINGS)} "
            f"at the {r.choice(PLACES)}."
            for _ in range(count)
        ]
    else:
        old, new = r.sample(THINGS, 2)
        rows = [
            f"{r.choice(NAMES)} {PAST[r.choice(TRANSITIVE)]} the {old} in the {r.choice(PLACES)}."
            for _ in range(r.randint(5, 12) if long else r.choice([1, 2, 3]))
        ]
    text = " ".join(rows)
    ask = r.choice(
        [
            "Replace {a} with {b}: {t}",
            "Change {a} to {b} in this text: {t}",
            "{t}\nReplace {a} with {b}.",
        ]
    )
    return ask.format(a=old, b=new, t=text), text.replace(old, new)


def _rewrite(r: Random) -> tuple[str, str]:
    name = copied_name(r)
    he, _, _ = pronouns(name)
    kind = r.choice(["past", "summary", "lines", "ask", "times", "upper", "who"])
    if kind == "past":
        verbs = r.sample(TRANSITIVE, r.choice([1, 2, 3]))
        rest = [f"the {r.choice(LOOKS)} {r.choice(THINGS)}" for _ in verbs]
        now = " ".join(f"I {verb} {what}." for verb, what in zip(verbs, rest, strict=True))
        then = " ".join(f"I {PAST[verb]} {what}." for verb, what in zip(verbs, rest, strict=True))
        return r.choice(["Change to the past tense: ", "Write in the past tense: "]) + now, then
    if kind == "summary":
        (v1, v2), (o1, o2), (p1, p2) = (r.sample(s, 2) for s in (TRANSITIVE, THINGS, PLACES))
        text = (
            f"{name} went to the {p1} and {PAST[v1]} {article(r.choice(LOOKS))} {o1}. "
            f"After that, {he} went to the {p2} and {PAST[v2]} {article(r.choice(LOOKS))} {o2}."
        )
        answer = (
            f"{name} {PAST[v1]} {article(o1)} at the {p1} and {PAST[v2]} {article(o2)} at the {p2}."
        )
        return r.choice(
            ["Summarize: ", "Make this shorter: ", "Summarize this text: "]
        ) + text, answer
    if kind == "lines":
        rows = [sentence(r) for _ in range(r.choice([2, 3, 4]))]
        return f"Write each sentence on its own line: {' '.join(rows)}", "\n".join(
            f"{i}. {row}" for i, row in enumerate(rows, 1)
        )
    if kind == "ask":
        a, b, place = r.choice(LOOKS), r.choice(THINGS), r.choice(PLACES)
        return (
            f"Make a question from this: {name} is in the {place} with {article(a)} {b}.",
            f"Is {name} in the {place} with {article(a)} {b}?",
        )
    if kind == "who":
        verb, thing, place = PAST[r.choice(TRANSITIVE)], r.choice(THINGS), r.choice(PLACES)
        text = f"{name} {verb} the {thing} in the {place}."
        return r.choice(
            [
                (f"{text} Who {verb} the {thing}?", f"{name} {verb} the {thing}."),
                (f"{text} Where was {name}?", f"{name} was in the {place}."),
                (f"{text} What did {name} have?", f"{name} had the {thing}."),
            ]
        )
    if kind == "upper":
        items = r.sample(THINGS + FOODS, r.randint(1, 3))
        return f"Write in upper case: {' '.join(items)}", " ".join(items).upper()
    count, word = r.randint(2, 6), r.choice(THINGS + FOODS + BEASTS)
    return (
        r.choice([f"Say the word {word} {NUMBERS[count]} times.", f"Write {word} {count} times."]),
        " ".join([word] * count),
    )


def echo(r: Random, long: bool = False) -> Exchange:
    if long:
        prompt, answer = _repeat(r, True) if r.random() < 0.7 else _replace(r, True)
    else:
        kind = r.choices(["repeat", "list", "reverse", "replace", "rewrite"], [8, 4, 1, 3, 5])[0]
        prompt, answer = {
            "repeat": lambda: _repeat(r, False),
            "list": lambda: _listing(r),
            "reverse": lambda: _reverse(r),
            "replace": lambda: _replace(r, False),
            "rewrite": lambda: _rewrite(r),
        }[kind]()
    return Exchange(prompt, answer, "I have to use the words of the user.")
