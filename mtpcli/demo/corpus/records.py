"""JSON out of sentences: the `json` workload."""

# ruff: noqa: SIM905 (word lists are easier to read as text)
from __future__ import annotations

import json
from collections.abc import Callable
from random import Random
from typing import Any

from .exchange import Exchange
from .words import (
    BEASTS,
    CITIES,
    COLORS,
    DAYS,
    FOODS,
    PEOPLE,
    THINGS,
    article,
    copied_name,
    join,
    plural,
)

Record = tuple[str, Any]


def _name(r: Random) -> str:
    return copied_name(r)


def _person(r: Random) -> Record:
    name, age, city, job = _name(r), r.randint(6, 89), r.choice(CITIES), r.choice(PEOPLE)
    text = r.choice(
        [
            f"{name} is {age} years old, lives in {city} and works as {article(job)}.",
            f"{name}, {article(job)} from {city}, is {age} years old.",
            f"I am {name}, {age} years old, and I work as {article(job)} in {city}.",
            f"Meet {name}: {age} years old, {article(job)}, living in {city}.",
        ]
    )
    return text, {"name": name, "age": age, "city": city, "job": job}


def _order(r: Random) -> Record:
    name, items = _name(r), r.sample(FOODS + THINGS, r.randint(1, 3))
    counts = [r.randint(2, 20) for _ in items]
    text = r.choice(["{} ordered {}.", "{} wants to buy {}.", "Please send {} these: {}."]).format(
        name, join([f"{n} {plural(item)}" for item, n in zip(items, counts, strict=True)])
    )
    rows = [{"item": item, "quantity": n} for item, n in zip(items, counts, strict=True)]
    return text, {"customer": name, "items": rows}


def _event(r: Random) -> Record:
    event = r.choice("concert lesson meeting party race dinner picnic exam show game".split())
    name, day, city = _name(r), r.choice(DAYS), r.choice(CITIES)
    time = f"{r.randint(1, 12)} {r.choice(['am', 'pm'])}"
    text = r.choice(
        [
            f"The {event} with {name} is on {day} at {time} in {city}.",
            f"On {day} at {time} there is {article(event)} with {name} in {city}.",
            f"{name} comes to {city} for the {event} on {day} at {time}.",
        ]
    )
    return text, {"event": event, "person": name, "day": day, "time": time, "city": city}


def _pet(r: Random) -> Record:
    owner, name = _name(r), _name(r)
    kind, color, age = r.choice(BEASTS), r.choice(COLORS), r.randint(2, 15)
    text = r.choice(
        [
            f"{owner} has {article(color)} {kind} called {name} that is {age} years old.",
            f"{name} is the {color} {kind} of {owner}. It is {age} years old.",
        ]
    )
    return text, {"owner": owner, "pet": {"kind": kind, "name": name, "color": color, "age": age}}


def _product(r: Random) -> Record:
    thing, price, color, stock = (
        r.choice(THINGS),
        r.randint(2, 99),
        r.choice(COLORS),
        r.random() < 0.5,
    )
    text = (
        f"The {color} {thing} costs {price} dollars and is {'in stock' if stock else 'sold out'}."
    )
    return text, {"product": thing, "color": color, "price": price, "in_stock": stock}


def _team(r: Random) -> Record:
    names = list(dict.fromkeys(_name(r) for _ in range(r.randint(2, 4))))
    color = r.choice(COLORS)
    points = r.randint(2, 60)
    text = f"The {color} team has {points} points. Its players are {join(names)}."
    return text, {"team": color, "points": points, "players": names}


def _contact(r: Random) -> Record:
    name, city = _name(r), r.choice(CITIES)
    phone = "".join(r.choice("0123456789") for _ in range(6))
    mail = f"{name.lower()}@{r.choice(['mail', 'post', 'home'])}.com"
    if r.random() < 0.4:
        return f"{name} in {city} has the phone number {phone} and no email.", {
            "name": name,
            "city": city,
            "phone": phone,
            "email": None,
        }
    text = f"Call {name} in {city} at {phone} or write to {mail}."
    return text, {"name": name, "city": city, "phone": phone, "email": mail}


def _table(r: Random) -> Record:
    names = list(dict.fromkeys(_name(r) for _ in range(r.randint(2, 5))))
    ages = [r.randint(5, 90) for _ in names]
    text = join([f"{name} is {age}" for name, age in zip(names, ages, strict=True)]) + "."
    return text, [{"name": name, "age": age} for name, age in zip(names, ages, strict=True)]


_KINDS: list[Callable[[Random], Record]] = [
    _person,
    _order,
    _event,
    _pet,
    _product,
    _team,
    _contact,
    _table,
]
_ASK = [
    "Extract the data as {}JSON: {}",
    "Convert to {}JSON: {}",
    "Turn this sentence into {}JSON. {}",
    "Give me {}JSON for this text: {}",
    "{}JSON, please: {}",
    "Write this as {}JSON: {}",
    "{}\nPut that into {}JSON.",
]


def records(r: Random) -> Exchange:
    text, data = r.choice(_KINDS)(r)
    indented = r.random() < 0.35
    style = r.choice(["pretty ", "indented "]) if indented else ""
    ask = r.choice(_ASK)
    prompt = ask.format(text, style) if ask.startswith("{}\n") else ask.format(style, text)
    answer = json.dumps(data, indent=2 if indented else None)
    keys = ", ".join(data[0] if isinstance(data, list) else data)
    return Exchange(prompt[0].upper() + prompt[1:], answer, f"The keys are {keys}.")
