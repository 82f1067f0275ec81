"""Small sums with their steps. With thinking, the steps go into the thought."""

from __future__ import annotations

from random import Random

from .exchange import Exchange
from .words import FOODS, THINGS, copied_name, plural, pronouns


def _exchange(prompt: str, steps: list[str], result: str) -> Exchange:
    return Exchange(
        prompt, "\n".join([*steps, result]), "\n".join(steps) or "That is easy.", result
    )


def _add_steps(a: int, b: int) -> list[str]:
    """Column by column with a carry, as at school: each step is a sum of digits."""
    steps, carry, place = [], 0, 0
    names = ["Ones", "Tens", "Hundreds"]
    while a or b or place == 0:
        x, y = a % 10, b % 10
        total = x + y + carry
        more = f" + {carry}" if carry else ""
        steps.append(f"{names[place]}: {x} + {y}{more} = {total}.")
        a, b, carry, place = a // 10, b // 10, total // 10, place + 1
    return steps


def _plus(r: Random) -> Exchange:
    top = r.choice([10, 20, 100, 100, 100, 100, 100])
    a, b = r.randrange(1, top), r.randrange(1, top)
    prompt = r.choice(
        [
            f"What is {a} + {b}?",
            f"Add {a} and {b}.",
            f"Calculate {a} + {b}.",
            f"{a} + {b} = ?",
            f"{a}+{b}",
            f"How much is {a} plus {b}?",
            f"What is the sum of {a} and {b}?",
            f"What is {a}+{b}?",
            f"Work out {a} + {b} step by step.",
            f"{a} plus {b}?",
        ]
    )
    steps = _add_steps(a, b) if max(a, b) >= 10 else []
    return _exchange(prompt, steps, f"{a} + {b} = {a + b}.")


def _minus(r: Random) -> Exchange:
    top = r.choice([10, 20, 100, 100])
    a, b = sorted((r.randrange(1, top), r.randrange(1, top)), reverse=True)
    prompt = r.choice(
        [
            f"What is {a} - {b}?",
            f"Subtract {b} from {a}.",
            f"Calculate {a} - {b}.",
            f"{a} - {b} = ?",
            f"How much is {a} minus {b}?",
            f"What is {a} minus {b}?",
            f"Take {b} away from {a}.",
            f"{a}-{b}",
        ]
    )
    steps = []
    if b >= 10:
        left = a - b // 10 * 10
        steps = [f"Tens: {a} - {b // 10 * 10} = {left}.", f"Ones: {left} - {b % 10} = {a - b}."]
    return _exchange(prompt, steps, f"{a} - {b} = {a - b}.")


def _times(r: Random) -> Exchange:
    a, b = (r.randint(2, 12) if r.random() < 0.5 else r.randint(11, 49)), r.randint(2, 9)
    first, second = r.sample([a, b], 2)
    prompt = r.choice(
        [
            f"What is {first} x {second}?",
            f"Multiply {first} by {second}.",
            f"Calculate {first} * {second}.",
            f"How much is {first} times {second}?",
            f"What is {first} times {second}?",
            f"{first} x {second} = ?",
        ]
    )
    steps = []
    if a > 10:
        tens, ones = a // 10 * 10 * b, a % 10 * b
        steps = [
            f"{a // 10 * 10} x {b} = {tens}.",
            f"{a % 10} x {b} = {ones}.",
            f"{tens} + {ones} = {a * b}.",
        ]
    return _exchange(prompt, steps, f"{first} x {second} = {a * b}.")


def _divide(r: Random) -> Exchange:
    b, q = r.randint(2, 9), r.randint(2, 12)
    prompt = r.choice(
        [
            f"What is {b * q} / {b}?",
            f"Divide {b * q} by {b}.",
            f"How much is {b * q} divided by {b}?",
            f"How many times does {b} go into {b * q}?",
        ]
    )
    return _exchange(prompt, [f"{b} x {q} = {b * q}."], f"{b * q} / {b} = {q}.")


def _word_problem(r: Random) -> Exchange:
    name, friend = copied_name(r), copied_name(r)
    things = plural(r.choice(FOODS + THINGS))
    he, him, _ = pronouns(name)
    a, b = r.randint(2, 60), r.randint(2, 30)
    kind = r.choice(["get", "give", "boxes"])
    if kind == "get":
        prompt = r.choice(
            [
                f"{name} has {a} {things}. {friend} gives {him} {b} more. "
                f"How many {things} does {name} have now?",
                f"{name} has {a} {things} and finds {b} more. How many {things} does {he} have?",
            ]
        )
        steps = [
            f"{name} starts with {a} {things} and gets {b} more.",
            *_add_steps(a, b),
            f"{a} + {b} = {a + b}.",
        ]
        return _exchange(prompt, steps, f"{name} has {a + b} {things}.")
    if kind == "give":
        a += b
        prompt = r.choice(
            [
                f"{name} has {a} {things} and gives {b} to {friend}. How many {things} are left?",
                f"{name} has {a} {things}. {he.capitalize()} loses {b}. "
                f"How many {things} does {name} have left?",
            ]
        )
        steps = [f"{name} starts with {a} {things} and loses {b}."]
        if b >= 10:
            left = a - b // 10 * 10
            steps += [f"{a} - {b // 10 * 10} = {left}.", f"{left} - {b % 10} = {a - b}."]
        else:
            steps.append(f"{a} - {b} = {a - b}.")
        return _exchange(prompt, steps, f"{name} has {a - b} {things} left.")
    a, b = r.randint(2, 9), r.randint(2, 9)
    prompt = f"{name} has {a} boxes with {b} {things} in each. How many {things} is that?"
    return _exchange(prompt, [f"{a} x {b} = {a * b}."], f"{name} has {a * b} {things}.")


def _series(r: Random) -> Exchange:
    step, start = r.randint(1, 10), r.randint(1, 20)
    row = [start + step * i for i in range(5)]
    shown = ", ".join(map(str, row[:4]))
    prompt = r.choice(
        [
            f"What comes next: {shown}?",
            f"Continue the series: {shown}",
            f"Which number follows {shown}?",
        ]
    )
    steps = [f"Each number is {step} more than the one before.", f"{row[3]} + {step} = {row[4]}."]
    return _exchange(prompt, steps, f"The next number is {row[4]}.")


def _compare(r: Random) -> Exchange:
    if r.random() < 0.5:
        a, b = r.sample(range(1, 100), 2)
        more = r.random() < 0.5
        prompt = f"Which is {'larger' if more else 'smaller'}, {a} or {b}?"
        best = max(a, b) if more else min(a, b)
        return Exchange(
            prompt,
            f"{best} is {'larger' if more else 'smaller'} than {a + b - best}.",
            f"I compare {a} and {b}.",
        )
    a = r.randint(1, 99)
    half = r.random() < 0.5
    if half:
        a -= a % 2
        a = max(a, 2)
        return Exchange(
            f"What is half of {a}?", f"Half of {a} is {a // 2}.", f"{a} / 2 = {a // 2}."
        )
    return Exchange(
        f"What is the double of {a}?", f"The double of {a} is {2 * a}.", f"{a} + {a} = {2 * a}."
    )


def arithmetic(r: Random) -> Exchange:
    make = r.choices(
        [_plus, _minus, _times, _divide, _word_problem, _series, _compare],
        [8, 5, 4, 1.5, 5, 1.5, 1.5],
    )[0]
    return make(r)
