"""What the demo model knows: small tables, each asked for in many phrasings."""

from __future__ import annotations


def _pairs(text: str) -> dict[str, str]:
    return dict(pair.split(":") for pair in text.replace("\n", " ").split(" ") if pair)


def _lines(text: str) -> dict[str, str]:
    return dict(line.strip().split(": ") for line in text.strip().splitlines())


CAPITALS = {
    "France": "Paris", "Spain": "Madrid", "Italy": "Rome", "Germany": "Berlin",
    "Portugal": "Lisbon", "Greece": "Athens", "Austria": "Vienna", "Poland": "Warsaw",
    "Norway": "Oslo", "Sweden": "Stockholm", "Finland": "Helsinki", "Denmark": "Copenhagen",
    "Ireland": "Dublin", "Hungary": "Budapest", "Switzerland": "Bern", "England": "London",
    "Belgium": "Brussels", "Iceland": "Reykjavik", "Ukraine": "Kyiv", "Japan": "Tokyo",
    "China": "Beijing", "India": "New Delhi", "Turkey": "Ankara", "Russia": "Moscow",
    "Thailand": "Bangkok", "Vietnam": "Hanoi", "Egypt": "Cairo", "Kenya": "Nairobi",
    "Morocco": "Rabat", "Nigeria": "Abuja", "Ghana": "Accra", "Peru": "Lima", "Chile": "Santiago",
    "Brazil": "Brasilia", "Argentina": "Buenos Aires", "Colombia": "Bogota", "Cuba": "Havana",
    "Canada": "Ottawa", "Mexico": "Mexico City", "Australia": "Canberra",
    "New Zealand": "Wellington", "the United States": "Washington",
}  # fmt: skip
CONTINENTS = {
    "Europe": "France Spain Italy Germany Portugal Greece Austria Poland Norway Sweden Finland "
    "Denmark Ireland Hungary Switzerland England Belgium Iceland Ukraine",
    "Asia": "Japan China India Thailand Vietnam",
    "Africa": "Egypt Kenya Morocco Nigeria Ghana",
    "South America": "Peru Chile Brazil Argentina Colombia",
    "North America": "Canada Mexico Cuba",
}
CONTINENT_OF = {country: c for c, countries in CONTINENTS.items() for country in countries.split()}

# animal: young, sound, home, legs
ANIMALS = {
    "dog": ("puppy", "bark", "house", 4), "cat": ("kitten", "meow", "house", 4),
    "cow": ("calf", "moo", "barn", 4), "horse": ("foal", "neigh", "stable", 4),
    "sheep": ("lamb", "bleat", "field", 4), "pig": ("piglet", "oink", "sty", 4),
    "goat": ("kid", "bleat", "hill", 4), "duck": ("duckling", "quack", "pond", 2),
    "goose": ("gosling", "honk", "lake", 2), "hen": ("chick", "cluck", "coop", 2),
    "frog": ("tadpole", "croak", "pond", 4), "lion": ("cub", "roar", "savanna", 4),
    "tiger": ("cub", "growl", "jungle", 4), "bear": ("cub", "growl", "cave", 4),
    "wolf": ("pup", "howl", "forest", 4), "fox": ("kit", "yelp", "den", 4),
    "owl": ("owlet", "hoot", "tree", 2), "eagle": ("eaglet", "scream", "nest", 2),
    "bee": ("larva", "buzz", "hive", 6), "mouse": ("pup", "squeak", "hole", 4),
    "rabbit": ("kit", "squeak", "burrow", 4), "deer": ("fawn", "bellow", "forest", 4),
    "swan": ("cygnet", "hiss", "lake", 2), "monkey": ("infant", "chatter", "jungle", 2),
    "elephant": ("calf", "trumpet", "savanna", 4), "donkey": ("foal", "bray", "farm", 4),
    "crow": ("chick", "caw", "tree", 2), "seal": ("pup", "bark", "coast", 0),
    "camel": ("calf", "grunt", "desert", 4), "parrot": ("chick", "squawk", "jungle", 2),
    "bat": ("pup", "screech", "cave", 2), "otter": ("pup", "whistle", "river", 4),
    "hedgehog": ("hoglet", "snuffle", "garden", 4), "squirrel": ("kit", "chatter", "tree", 4),
}  # fmt: skip
BY_SIZE = (
    "bee frog mouse squirrel hedgehog rabbit cat fox dog goat wolf pig tiger bear cow horse "
    "camel elephant whale"
)
BY_SPEED = "snail turtle mouse hen pig goat cow bear dog wolf horse lion"

OPPOSITES = _pairs("""
hot:cold big:small fast:slow light:dark old:young happy:sad open:closed full:empty high:low
near:far rich:poor soft:hard wet:dry clean:dirty early:late strong:weak tall:short thick:thin
loud:quiet sweet:sour deep:shallow wide:narrow brave:afraid smooth:rough sharp:dull
cheap:expensive true:false left:right up:down day:night summer:winter first:last always:never
push:pull buy:sell start:stop laugh:cry win:lose give:take love:hate friend:enemy begin:end
inside:outside above:below before:after question:answer day:night""")
THING_COLORS = _lines("""
grass: green
the sky: blue
snow: white
coal: black
a banana: yellow
a tomato: red
a carrot: orange
an eggplant: purple
chocolate: brown
a lemon: yellow
milk: white
a flamingo: pink
an elephant: gray
a leaf: green
the sun: yellow
a strawberry: red
the sea: blue
a pumpkin: orange
a crow: black
a cherry: red
a frog: green
salt: white
""")
MIXTURES = {
    ("red", "yellow"): "orange", ("red", "blue"): "purple", ("blue", "yellow"): "green",
    ("red", "white"): "pink", ("black", "white"): "gray", ("blue", "white"): "light blue",
    ("red", "green"): "brown",
}  # fmt: skip
UNITS = [
    ("meter", "centimeters", 100), ("kilometer", "meters", 1000), ("hour", "minutes", 60),
    ("minute", "seconds", 60), ("day", "hours", 24), ("week", "days", 7), ("year", "months", 12),
    ("kilogram", "grams", 1000), ("liter", "milliliters", 1000), ("dozen", "eggs", 12),
    ("decade", "years", 10), ("century", "years", 100), ("foot", "inches", 12),
    ("yard", "feet", 3), ("leap year", "days", 366),
]  # fmt: skip
MADE_OF = _lines("""
bread: flour
cheese: milk
wine: grapes
paper: wood
glass: sand
honey: nectar
butter: cream
chocolate: cocoa
jam: fruit
a candle: wax
a tire: rubber
a coin: metal
a brick: clay
a window: glass
a snowman: snow
a book: paper
popcorn: corn
an omelet: eggs
""")
JOBS = _lines("""
baker: bakes bread
teacher: teaches children
doctor: helps sick people
farmer: grows food
pilot: flies planes
sailor: works on a ship
painter: paints pictures
writer: writes books
singer: sings songs
tailor: sews clothes
carpenter: builds things from wood
gardener: cares for plants
dentist: looks after teeth
plumber: fixes pipes
judge: decides cases in court
cook: prepares meals
miner: digs for coal
nurse: cares for patients
florist: sells flowers
butcher: sells meat
mechanic: repairs cars
librarian: looks after books
astronaut: travels to space
firefighter: puts out fires
""")
# Short answers to "why" and "what is" questions.
EXPLAINED = {
    "Why is the sky blue?": (
        "The air scatters blue light more than red light, so the sky looks blue."
    ),
    "Why do we sleep?": ("Sleep lets the body rest and helps the brain to remember."),
    "Why does it rain?": (
        "Water rises from the sea, turns into clouds, and falls down again as rain."
    ),
    "Why do leaves fall in autumn?": (
        "Trees drop their leaves in autumn to save water in the winter."
    ),
    "Why is the sea salty?": ("Rivers wash salt out of the rocks and carry it into the sea."),
    "Why do birds fly south?": (
        "Many birds fly south in winter because it is warmer and there is more food."
    ),
    "Why does ice float?": ("Ice floats because it is lighter than water."),
    "Why do cats purr?": ("Cats often purr when they are happy, and sometimes to calm themselves."),
    "Why is snow white?": ("Snow is white because it reflects light of every color."),
    "Why do bees make honey?": ("Bees make honey to have food in the winter."),
    "What is the sun?": ("The sun is a star. It gives us light and warmth."),
    "What is the moon?": ("The moon is a ball of rock that travels around the earth."),
    "What is a rainbow?": ("A rainbow is sunlight that raindrops have split into many colors."),
    "What is a river?": ("A river is water that flows over the land to a lake or to the sea."),
    "What is a mountain?": ("A mountain is land that rises high above the land around it."),
    "What is a computer?": ("A computer is a machine that follows instructions very fast."),
    "What is a language model?": (
        "A language model is a program that predicts the next piece of a text."
    ),
    "What is speculative decoding?": (
        "A small model drafts a few tokens, and the big model checks them all at once. "
        "The text stays the same, but it comes faster."
    ),
    "What is a drafter?": (
        "A drafter is a small model that guesses the next tokens for a big model."
    ),
    "What is a token?": ("A token is a piece of text, often a word or a part of a word."),
    "What is thunder?": ("Thunder is the sound that lightning makes when it heats the air."),
    "What is a desert?": ("A desert is a place where it rains very little."),
    "What is an island?": ("An island is land with water all around it."),
    "What is a volcano?": ("A volcano is a mountain that can throw out hot rock and ash."),
}
