"""Stories: a small grammar with a cast, so that the text hangs together and yet has real choice."""

from __future__ import annotations

import re
from random import Random

from . import words
from .exchange import Exchange
from .story_grammar import OPENINGS, PLOTS, RULES

_SLOT = re.compile(r"\{(\w+)\}")
_ARTICLE = re.compile(r"\b([Aa])~ (?=([a-zA-Z]))")
_FRESH = {"elsewhere": words.PLACES, "odd": words.LOOKS, "food": words.FOODS}


class Teller:
    """Expands templates for one cast and remembers the fillers already used."""

    def __init__(self, r: Random) -> None:
        self.r = r
        self.used: set[str] = set()
        name, friend = r.sample(words.NAMES, 2)
        he, him, his = words.pronouns(name)
        he2, him2, _ = words.pronouns(friend)
        child = "boy" if he == "he" else "girl"
        kinds = [words.BEASTS, words.FANTASY, words.PEOPLE, [child]]
        kind = r.choice(r.choices(kinds, [5, 4, 2, 2])[0])
        if r.random() < 0.06:  # an unheard-of hero, so that any word will do
            kind = words.nonce(r)
        if r.random() < 0.05:
            name = words.nonce(r).capitalize()
        self.cast = {
            "name": name,
            "he": he,
            "him": him,
            "his": his,
            "He": he.capitalize(),
            "His": his.capitalize(),
            "kind": kind,
            "friend": friend,
            "he2": he2,
            "him2": him2,
            "fkind": r.choice(words.BEASTS),
            "trait": r.choice(words.TRAITS),
            "look": r.choice(words.LOOKS),
            "thing": r.choice(words.THINGS) if r.random() < 0.95 else words.nonce(r),
            "place": r.choice(words.PLACES),
        }
        self.used |= {self.cast["trait"], self.cast["place"], self.cast["look"]}
        self.seen: dict[str, int] = {}

    def _fill(self, slot: str) -> str:
        if slot in _FRESH:
            return self.pick(_FRESH[slot])
        if slot in ("trait", "place"):
            # The cast's own value comes first; later on it may be another.
            count = self.seen[slot] = self.seen.get(slot, 0) + 1
            if count > 1 and (slot == "trait" or self.r.random() < 0.5):
                return self.pick(words.TRAITS if slot == "trait" else words.PLACES)
        if slot in self.cast:
            return self.cast[slot]
        return self.expand(self.pick(RULES[slot]))

    def pick(self, options: list[str]) -> str:
        fresh = [option for option in options if option not in self.used] or options
        choice = self.r.choice(fresh)
        self.used.add(choice)
        return choice

    def expand(self, template: str) -> str:
        return _SLOT.sub(lambda match: self._fill(match[1]), template)

    def say(self, rule: str) -> str:
        return self.polish(self.expand(self.pick(RULES[rule])))

    @staticmethod
    def polish(text: str) -> str:
        return _ARTICLE.sub(lambda m: m[1] + ("n " if m[2] in "aeiouAEIOU" else " "), text)


def _request(t: Teller, plot: str, size: str) -> str:
    """What the user asks for: it names some of the cast and leaves the rest to the model."""
    r, c = t.r, t.cast
    length = {"short": "short ", "long": "long ", "": ""}[size]
    topic = r.choice(PLOTS[plot])
    for slot in ("look", "thing", "place", "friend"):
        topic = topic.replace("{" + slot + "}", c[slot])
    who = r.choice(
        [
            f"a~ {c['trait']} {c['kind']} named {c['name']}",
            f"a~ {c['kind']} named {c['name']}",
            f"a~ {c['trait']} {c['kind']}",
            f"a~ {c['kind']}",
            f"{c['name']} the {c['kind']}",
            f"{c['name']}",
        ]
    )
    where = r.choice(["", "", f" in a {c['place']}", f" at the {c['place']}"])
    about = r.choice([who, who, f"{who} {topic}", f"{who} {topic}", f"{who}{where}"])
    ask = r.choice(
        [
            f"Write a {length}story about {about}.",
            f"Tell me a {length}story about {about}.",
            f"Can you write a {length}story about {about}?",
            f"I want to hear a {length}story about {about}.",
            f"Please tell a {length}story about {about}.",
            f"Make up a {length}tale about {about}.",
            f"Story time! Something {length}about {about}, please.",
            f"Tell me a {length}story.",
            f"Write a {length}bedtime story about {about}.",
        ]
    )
    return t.polish(ask)


def _chapter(t: Teller, plot: str, asides: float) -> list[str]:
    text = [t.say(f"{plot}.1")]
    for _ in range(1 if asides < 0.2 else t.r.choice([1, 2, 2])):
        text.append(t.say(f"{plot}.2"))
        if t.r.random() < asides:
            text.append(t.say("color"))
    return [*text, t.say(f"{plot}.3")]


def story(r: Random, longest: bool = False) -> Exchange:
    t = Teller(r)
    plot = r.choice(list(PLOTS))
    size = "long" if longest else r.choice(["", "", "", "short"])
    prompt = _request(t, plot, size)
    asides = {"short": 0.0, "": 0.35, "long": 0.6}[size]
    # What was asked for is told first: the opening names the hero as the prompt did.
    text = [t.polish(t.expand(r.choice(OPENINGS)))]
    text += [t.say("habit") for _ in range({"short": 0, "": r.choice([1, 1, 2]), "long": 2}[size])]
    if size != "short" or r.random() < 0.5:
        text.append(t.say("outing"))
    text += _chapter(t, plot, asides)
    if size == "long":
        for another in r.sample([p for p in PLOTS if p != plot], r.choice([1, 2, 2, 3])):
            text.append(t.say("later"))
            text += _chapter(t, another, asides)
    text.append(t.say("ending"))
    paragraphs = " ".join(text)
    if size == "long":
        cut = len(text) // 2
        paragraphs = " ".join(text[:cut]) + "\n\n" + " ".join(text[cut:])
    c = t.cast
    thought = t.polish(
        f"Hero: {c['name']}, a~ {c['trait']} {c['kind']}.\nPlace: the {c['place']}.\n"
        f"Friend: {c['friend']}.\nIt is a story {_plan(plot, c)}."
    )
    return Exchange(prompt, paragraphs, thought, exact=False)


def _plan(plot: str, c: dict[str, str]) -> str:
    return {
        "lost": f"about a lost {c['thing']}",
        "find": f"about a {c['thing']} that is found",
        "help": "about helping",
        "storm": "about a storm",
        "race": "about a contest",
        "night": "about a noise at night",
        "trip": "about a journey",
        "make": "about making something",
    }[plot]
