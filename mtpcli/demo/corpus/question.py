"""Questions about facts. Every fact can be met in several phrasings and from both sides."""

# ruff: noqa: SIM905 (word lists are easier to read as text)
from __future__ import annotations

from collections.abc import Callable
from random import Random

from . import facts
from .exchange import Exchange
from .words import DAYS, IRREGULAR, MONTHS, NUMBERS, article, join, plural

Pair = tuple[str, str]


def _capital(r: Random) -> Pair:
    country = r.choice(list(facts.CAPITALS))
    city = facts.CAPITALS[country]
    whole = f"The capital of {country} is {city}."
    options = [
        (f"What is the capital of {country}?", whole),
        (f"What's the capital of {country}?", whole),
        (f"Which city is the capital of {country}?", f"{city} is the capital of {country}."),
        (f"Tell me the capital of {country}.", whole),
        (f"Do you know the capital of {country}?", f"Yes. {whole}"),
        (f"Name the capital city of {country}.", f"{city} is the capital of {country}."),
        (f"{country[0].upper() + country[1:]}: what is its capital?", whole),
        (f"{city} is the capital of which country?", f"{city} is the capital of {country}."),
        (f"In which country is {city}?", f"{city} is in {country}."),
        (f"Where is {city}?", f"{city} is in {country}."),
        (f"Is {city} the capital of {country}?", f"Yes, {city} is the capital of {country}."),
    ]
    other = r.choice([c for c in facts.CAPITALS.values() if c != city])
    options.append(
        (f"Is {other} the capital of {country}?", f"No, the capital of {country} is {city}.")
    )
    if country in facts.CONTINENT_OF:
        continent = facts.CONTINENT_OF[country]
        options += [
            (
                f"Where is {country}?",
                f"{country} is a country in {continent}. Its capital is {city}.",
            ),
            (f"On which continent is {country}?", f"{country} is in {continent}."),
            (
                f"Tell me about {country}.",
                f"{country} is a country in {continent}. Its capital is {city}.",
            ),
            (
                f"On which continent is {city}?",
                f"{city} is in {country}, and {country} is in {continent}.",
            ),
        ]
    return r.choice(options)


def _animal(r: Random) -> Pair:
    animal = r.choice(list(facts.ANIMALS))
    young, sound, home, legs = facts.ANIMALS[animal]
    one = article(animal)
    the_young = f"A baby {animal} is called {article(young)}."
    the_home = f"{one.capitalize()} often lives in or near a {home}."
    return r.choice(
        [
            (f"What is a baby {animal} called?", the_young),
            (
                f"What do you call a young {animal}?",
                f"A young {animal} is called {article(young)}.",
            ),
            (f"What is the name for the young of {one}?", the_young),
            (f"What sound does {one} make?", f"{one.capitalize()} can {sound}."),
            (f"What does {one} sound like?", f"{one.capitalize()} can {sound}."),
            (f"How does {one} talk?", f"{one.capitalize()} does not talk, but it can {sound}."),
            (f"Where does {one} live?", the_home),
            (
                f"Where do {plural(animal)} live?",
                f"{plural(animal).capitalize()} often live in or near a {home}.",
            ),
            (f"Where can I find {one}?", f"You can find {one} in or near a {home}."),
            (
                f"How many legs does {one} have?",
                f"{one.capitalize()} has {NUMBERS[legs] if legs else 'no'} legs.",
            ),
            (
                f"Tell me about the {animal}.",
                f"The {animal} is an animal. It can {sound}, it lives in or near a {home}, "
                f"and its baby is called {article(young)}.",
            ),
            (
                f"What is {one}?",
                f"{one.capitalize()} is an animal with {NUMBERS[legs] if legs else 'no'} legs "
                f"that lives in or near a {home}.",
            ),
        ]
    )


def _compare(r: Random) -> Pair:
    table, more, less = r.choice(
        [(facts.BY_SIZE, "bigger", "smaller"), (facts.BY_SPEED, "faster", "slower")]
    )
    low, high = sorted(r.sample(range(len(table.split())), 2))
    a, b = table.split()[low], table.split()[high]
    first, second = r.sample([a, b], 2)
    more_text = f"{article(b).capitalize()} is {more} than {article(a)}."
    yes = "Yes" if first == b else "No"
    return r.choice(
        [
            (f"Which is {more}, {article(first)} or {article(second)}?", more_text),
            (
                f"What is {less}, {article(first)} or {article(second)}?",
                f"{article(a).capitalize()} is {less} than {article(b)}.",
            ),
            (
                f"Is {article(first)} {more} than {article(second)}?",
                f"{yes}, {more_text[0].lower()}{more_text[1:]}",
            ),
        ]
    )


def _word(r: Random) -> Pair:
    if r.random() < 0.6:
        word = r.choice(list(facts.OPPOSITES))
        other = facts.OPPOSITES[word]
        if r.random() < 0.4:
            word, other = other, word
        whole = f"The opposite of {word} is {other}."
        return r.choice(
            [
                (f"What is the opposite of {word}?", whole),
                (f"Give me the opposite of the word {word}.", whole),
                (f"What is the contrary of {word}?", whole),
                (f"Opposite of {word}?", whole),
                (f"If something is not {word}, what is it?", f"Then it may be {other}. {whole}"),
            ]
        )
    word = r.choice([*IRREGULAR, "cat", "tree", "box", "city", "baby", "bus", "story", "dish"])
    return r.choice(
        [
            (f"What is the plural of {word}?", f"The plural of {word} is {plural(word)}."),
            (f"How do I write more than one {word}?", f"One {word}, two {plural(word)}."),
            (f"One {word}, two what?", f"One {word}, two {plural(word)}."),
            (f"Give me the plural form of {word}.", f"The plural of {word} is {plural(word)}."),
        ]
    )


def _color(r: Random) -> Pair:
    if r.random() < 0.5:
        thing = r.choice(list(facts.THING_COLORS))
        color = facts.THING_COLORS[thing]
        whole = f"{thing[0].upper() + thing[1:]} is {color}."
        return r.choice(
            [
                (f"What color is {thing}?", whole),
                (f"Which color does {thing} have?", whole),
                (f"Tell me the color of {thing}.", whole),
                (f"Is {thing} {color}?", f"Yes, {thing} is {color}."),
            ]
        )
    pair = r.choice(list(facts.MIXTURES))
    a, b = r.sample(pair, 2)
    return r.choice(
        [
            (
                f"What do you get when you mix {a} and {b}?",
                f"If you mix {a} and {b}, you get {facts.MIXTURES[pair]}.",
            ),
            (
                f"Which color do {a} and {b} make?",
                f"{a.capitalize()} and {b} make {facts.MIXTURES[pair]}.",
            ),
            (f"Mix {a} and {b}. What is the result?", f"The result is {facts.MIXTURES[pair]}."),
        ]
    )


def _calendar(r: Random) -> Pair:
    kind, names = r.choice([("day", DAYS), ("month", MONTHS)])
    i = r.randrange(len(names))
    now, after, before = names[i], names[(i + 1) % len(names)], names[i - 1]
    options = [
        (f"Which {kind} comes after {now}?", f"{after} comes after {now}."),
        (f"What {kind} follows {now}?", f"{after} follows {now}."),
        (f"Which {kind} comes before {now}?", f"{before} comes before {now}."),
        (
            f"What is the {kind} between {before} and {after}?",
            f"{now} is between {before} and {after}.",
        ),
    ]
    if kind == "day":
        options += [
            (f"Today is {now}. What day is tomorrow?", f"If today is {now}, tomorrow is {after}."),
            (
                f"Today is {now}. What day was yesterday?",
                f"If today is {now}, yesterday was {before}.",
            ),
            ("What are the days of the week?", f"The days of the week are {join(DAYS)}."),
        ]
    else:
        options += [
            (
                f"What is the {_NTH[i]} month of the year?",
                f"The {_NTH[i]} month of the year is {now}.",
            ),
            (f"Which number is the month {now}?", f"{now} is the {_NTH[i]} month of the year."),
            ("Name all the months.", f"The months are {join(MONTHS)}."),
        ]
    return r.choice(options)


def _made(r: Random) -> Pair:
    if r.random() < 0.5:
        unit, parts, count = r.choice(facts.UNITS)
        whole = f"There are {count} {parts} in {article(unit) if unit != 'hour' else 'an hour'}."
        unit_name = "an hour" if unit == "hour" else article(unit)
        return r.choice(
            [
                (f"How many {parts} are in {unit_name}?", whole),
                (
                    f"How many {parts} does {unit_name} have?",
                    f"{unit_name.capitalize()} has {count} {parts}.",
                ),
                (f"How many {parts} are there in one {unit}?", whole),
            ]
        )
    thing = r.choice(list(facts.MADE_OF))
    stuff = facts.MADE_OF[thing]
    whole = f"{thing[0].upper() + thing[1:]} is made from {stuff}."
    return r.choice(
        [
            (f"What is {thing} made of?", whole),
            (f"What do you need to make {thing}?", f"To make {thing} you need {stuff}."),
            (f"From what is {thing} made?", whole),
        ]
    )


def _job(r: Random) -> Pair:
    job = r.choice(list(facts.JOBS))
    work = facts.JOBS[job]
    whole = f"{article(job).capitalize()} {work}."
    return r.choice(
        [
            (f"What does {article(job)} do?", whole),
            (f"What is the job of {article(job)}?", whole),
            (f"Who {work}?", f"{article(job).capitalize()} {work}."),
            (f"What is {article(job)}?", f"{article(job).capitalize()} is a person who {work}."),
        ]
    )


def _explain(r: Random) -> Pair:
    asked = r.choice(list(facts.EXPLAINED))
    shorter = asked[0].lower() + asked[1:-1]
    lead = r.choice(
        ["", "", "Please tell me: ", "Can you explain? ", "I wonder: ", "Quick question: "]
    )
    if lead.endswith((": ",)):
        return f"{lead}{shorter}?", facts.EXPLAINED[asked]
    return f"{lead}{asked}", facts.EXPLAINED[asked]


def _several(r: Random) -> Pair:
    countries = r.sample(list(facts.CAPITALS), r.choice([2, 3, 4]))
    rows = "\n".join(f"- {country}: {facts.CAPITALS[country]}" for country in countries)
    ask = r.choice(
        ["List the capitals of {}.", "What are the capitals of {}?", "Give me the capitals of {}."]
    )
    return ask.format(join(countries)), rows


_NTH = ("first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth").split()
_KINDS: list[tuple[Callable[[Random], Pair], float]] = [
    (_capital, 4),
    (_animal, 4),
    (_compare, 1),
    (_word, 2.5),
    (_color, 1.5),
    (_calendar, 2),
    (_made, 1.5),
    (_job, 1.5),
    (_explain, 1.5),
    (_several, 1),
]


def question(r: Random) -> Exchange:
    make = r.choices([k for k, _ in _KINDS], [w for _, w in _KINDS])[0]
    prompt, answer = make(r)
    thought = f"The user asks: {prompt}\nI know this one."
    return Exchange(prompt, answer, thought)
