"""Word lists shared by the workloads: plain data, all of it our own choice."""

# ruff: noqa: SIM905 (word lists are easier to read as text)
from __future__ import annotations

from random import Random

HE_NAMES = (
    "Ben Dan Finn Hugo Jack Leo Noah Paul Sam Will Boris Felix Henry Ivan Karl Marco Oscar Ravi "
    "Tom Walter Amir Eli George Kenji Max Otto Simon Victor Bruno Erik Jonas Louis Nils Pedro Theo "
    "Arthur Milo Owen Toby Yusuf"
).split()
SHE_NAMES = (
    "Ada Clara Emma Grace Iris Kate Mia Olga Rosa Tina Vera Zoe Alma Cora Elsa Gina Julia Lena "
    "Nora Petra Sara Viola Zara Bella Daisy Flora Hana Lucy Maya Nina Pia Rita Tara Ruth Stella "
    "Wanda Lydia Nadia Polly Sofia"
).split()
NAMES = HE_NAMES + SHE_NAMES
# Met only where a name is copied.
MORE_NAMES = (
    "Anna Maria John Mary David Peter Linda James Sarah Michael Laura Robert Susan Thomas Karen "
    "Daniel Nancy Mark Lisa Alice Bob Carol Dave Eve Frank Heidi Kevin Sandra Brian Donna Jason "
    "Alex Andrea Chris Diana Eric Fatima Greg Helena Ines Jakob Katya Liam Monica Nathan Olivia "
    "Patrick Rachel Steve Tanya Ursula Vincent Wei Xavier Yuki Zoltan Ahmed Bianca Claire Dmitri "
    "Elena Francis Gabriel Hassan Irina Joseph Kim Lukas Marta Nikola Oleg Priya Ricardo Sonia "
    "Tim Ulrich Valerie William Yasmin Ann Joe Sue Ed Amy Jo Ian Roy Guy Kay Lee Fay Abe Ivy Rex"
).split()

BEASTS = (
    "dog cat cow horse sheep pig goat duck goose hen frog lion tiger bear wolf fox owl eagle bee "
    "mouse rabbit deer swan snake monkey elephant donkey crow whale seal camel parrot bat otter "
    "hedgehog squirrel penguin turtle spider snail"
).split()
PEOPLE = (
    "baker teacher doctor farmer pilot sailor painter writer singer tailor carpenter gardener "
    "dentist plumber judge cook miner nurse florist butcher mechanic librarian astronaut "
    "firefighter"
).split()
FANTASY = (
    "dragon robot knight wizard giant fairy pirate ghost king queen prince princess unicorn witch "
    "mermaid monster alien elf troll"
).split()
THINGS = (
    "lamp key map box coin drum kite ring book bell rope hat boat clock mirror flute basket ladder "
    "wagon lantern whistle candle button ribbon shell feather pebble jar blanket bucket broom "
    "violin telescope compass scarf puzzle crown mask umbrella pencil teapot wheel hammer marble "
    "letter photo balloon sled cup bottle"
).split()
LOOKS = (
    "tiny old shiny red blue green golden silver broken dusty magic strange heavy little yellow "
    "purple striped soft wooden round painted rusty crooked glass paper spotted"
).split()
TRAITS = (
    "brave clever lazy kind curious gentle funny hungry sleepy lonely proud careful cheerful "
    "grumpy shy wise young tall quiet small clumsy patient stubborn friendly"
).split()
PLACES = (
    "forest garden village castle market river beach school library kitchen farm mountain lake "
    "meadow harbor attic tower bridge island cave station bakery park museum valley orchard"
).split()
FOODS = (
    "apple cheese soup cake pear fish plum pie carrot berry cookie egg bean melon pancake peach "
    "sandwich noodle tomato onion potato grape lemon muffin nut sausage biscuit pumpkin"
).split()
# Met only where words are copied.
MORE_WORDS = (
    "milk tea coffee water sugar salt rice meat oil butter car bus train plane phone desk chair "
    "table door window wall floor roof street road city country world sea sky star cloud stone "
    "iron paper music film game team work time year week month money price shop bank hotel doctor "
    "friend hand head heart eye ear arm leg dream light night moon earth wind fire ice snow"
).split()
COLORS = "red blue green yellow white black orange purple pink brown gray".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = (
    "January February March April May June July August September October November December"
).split()
NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve".split()
CITIES = (
    "Paris London Rome Berlin Oslo Madrid Vienna Lisbon Athens Dublin Cairo Tokyo Delhi Lima "
    "Boston Chicago Sydney Toronto Geneva Prague"
).split()
PAST = {
    "walk": "walked", "jump": "jumped", "play": "played", "help": "helped", "open": "opened",
    "paint": "painted", "clean": "cleaned", "visit": "visited", "carry": "carried",
    "find": "found", "make": "made", "see": "saw", "buy": "bought", "take": "took",
    "bring": "brought", "eat": "ate", "lose": "lost", "hold": "held", "wash": "washed",
    "pull": "pulled", "build": "built", "sell": "sold", "draw": "drew", "break": "broke",
    "hide": "hid", "fix": "fixed", "read": "read", "write": "wrote", "watch": "watched",
    "drop": "dropped",
}  # fmt: skip
TRANSITIVE = [verb for verb in PAST if verb not in ("walk", "jump", "play", "eat")]
IRREGULAR = {
    "sheep": "sheep", "fish": "fish", "deer": "deer", "goose": "geese", "mouse": "mice",
    "wolf": "wolves", "knife": "knives", "leaf": "leaves", "child": "children", "foot": "feet",
    "tooth": "teeth", "man": "men", "woman": "women", "potato": "potatoes", "tomato": "tomatoes",
    "shelf": "shelves", "hero": "heroes", "person": "people", "thief": "thieves", "ox": "oxen",
    "half": "halves", "loaf": "loaves",
}  # fmt: skip


def article(word: str) -> str:
    """'an apple', 'a box'."""
    return ("an " if word[0] in "aeiouAEIOU" else "a ") + word


def plural(word: str) -> str:
    if word in IRREGULAR:
        return IRREGULAR[word]
    if word.endswith("y") and word[-2] not in "aeiou":
        return word[:-1] + "ies"
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    return word + "s"


def pronouns(name: str) -> tuple[str, str, str]:
    """Subject, object, possessive."""
    return ("he", "him", "his") if name in HE_NAMES else ("she", "her", "her")


def join(words: list[str]) -> str:
    """'a, b and c'."""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]


def copied_name(r: Random) -> str:
    """A name that the answer only has to copy, so it may be any name."""
    kind = r.random()
    if kind < 0.4:
        return r.choice(NAMES)
    return r.choice(MORE_NAMES) if kind < 0.85 else nonce(r).capitalize()


def nonce(r: Random) -> str:
    """A pronounceable word nobody has seen: copying must not depend on the vocabulary."""
    syllables = [
        r.choice("bdfgklmnprstvz") + r.choice("aeiou") + r.choice(["", "", "n", "r", "l", "s"])
        for _ in range(r.randint(2, 3))
    ]
    return "".join(syllables)
