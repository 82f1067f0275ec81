"""The stories' grammar as data: rule name -> alternatives, each a template.

`{slot}` is filled from the cast (name, thing, place, ...) or expanded as a rule of this grammar.
A filler is not used twice in one story while others are left. `a~ ` becomes `a ` or `an `.
"""

# ruff: noqa: SIM905 (word lists are easier to read as text)
from __future__ import annotations

OPENINGS = [
    "Once upon a time there was a~ {trait} {kind} named {name}.",
    "Long ago, in {region}, there lived a~ {trait} {kind} called {name}.",
    "{name} was a~ {trait} {kind} who lived {dwelling}.",
    "In {home} near the {place} lived a~ {trait} {kind} named {name}.",
    "There once was a {kind} named {name}, who was {trait} and {mood}.",
    "This is the story of {name}, a~ {trait} {kind} from {region}.",
    "Nobody in {region} was as {trait} as {name} the {kind}.",
    "{dwelling_up} lived {name}, a~ {trait} {kind}.",
]

RULES: dict[str, list[str]] = {
    "region": [
        "a far land", "a land of snow", "the north", "a small town", "the old kingdom",
        "a land by the sea", "the green hills", "a village of stone", "the deep woods",
        "the land of the two rivers", "a quiet country", "the desert",
    ],
    "home": [
        "a small house", "a crooked house", "a hut", "a tent", "an old mill", "a hollow tree",
        "a stone tower", "a warm kitchen", "a tiny room", "a red barn", "a boat", "a white cottage",
    ],
    "dwelling": [
        "near the {place}", "behind the {place}", "in {home}", "at the edge of the {place}",
        "under a big {tree}", "on top of a hill", "not far from the {place}", "beside the {place}",
    ],
    "dwelling_up": [
        "Near the {place}", "Behind the {place}", "In {home}", "At the edge of the {place}",
        "Under a big {tree}", "High on a hill",
    ],
    "tree": "oak pine willow birch fir chestnut maple cherry walnut".split(),
    "weather": (
        "sunny rainy cold windy quiet foggy "
        "warm cloudy snowy bright gray stormy hot"
    ).split(),
    "daytime": "morning afternoon evening day night".split(),
    "season": "spring summer autumn winter".split(),
    "mood": "happy sad tired angry afraid excited calm nervous bored thirsty glad merry".split(),
    "slowly": (
        "slowly quickly quietly carefully softly "
        "loudly happily sadly proudly bravely gently"
    ).split(),
    "went": [
        "walked", "ran", "went", "climbed", "hurried", "wandered", "rode", "danced", "crept",
        "marched", "skipped", "rushed",
    ],
    "relative": [
        "mother", "father", "grandmother", "grandfather", "sister", "brother", "aunt", "uncle",
        "cousin", "neighbor",
    ],
    "creature": [
        "owl", "fox", "mouse", "rabbit", "frog", "crow", "goat", "hedgehog", "squirrel", "turtle",
        "donkey", "duck", "spider", "bear", "snail", "goose", "wolf", "otter",
    ],
    "pastime": [
        "sing songs", "count the stars", "bake bread", "draw pictures", "read old books",
        "catch fish", "climb trees", "play the flute", "tell jokes", "collect stones", "fly a kite",
        "swim in the lake", "dance in the rain", "look at the clouds", "plant flowers",
        "build little boats", "cook soup", "sleep in the sun", "play chess", "paint walls",
    ],
    "hidden": [
        "under a bush", "behind a big rock", "inside a hollow log", "under the stairs",
        "in the tall grass", "between two stones", "on the roof", "behind the door",
        "at the bottom of a well", "under the bed", "in an empty barrel", "near the old gate",
        "on a high shelf", "next to the fire", "below the bridge", "under a pile of leaves",
    ],
    "noise": [
        "a loud crash", "a soft voice", "a strange song", "a deep growl", "a small cry", "a bell",
        "a sneeze", "a knock at the door", "heavy steps", "somebody laughing", "a drum", "a splash",
    ],
    "smell": "smoke bread flowers rain honey salt pine apples soup mud".split(),
    "part": "nose foot hand knee tail ear back head".split(),
    "treasure": [
        "nine gold coins", "a bag of seeds", "a tiny crown", "a sleeping kitten", "an old letter",
        "a map of the stars", "a jar of honey", "a silver spoon", "three blue eggs",
        "a box of candles", "a pair of red shoes", "a ring with a green stone", "a music box",
        "a warm coat", "a bottle of ink", "a bright feather",
    ],
    "wish": [
        "to see the sea", "to have a friend", "to learn to fly", "to find a real treasure",
        "to be brave", "to sing like a bird", "to win a prize", "to sail around the world",
        "to sleep for a week", "to bake the biggest cake", "to talk to the moon",
        "to own a horse", "to build a house", "to be as tall as a tree",
    ],
    "habit": [
        "Every {daytime} {he} {went} to the {place} to {pastime}.",
        "{He} loved to {pastime} and to {pastime}.",
        "More than anything, {name} wanted {wish}.",
        "{His} best friend was {friend}, a~ {trait} {fkind} who liked to {pastime}.",
        "{name} had a~ {look} {thing} that {he} carried everywhere.",
        "People said that {he} was {trait}, but {he} only wanted {wish}.",
        "In {season} {he} liked to {pastime}, and in {season} {he} liked to {pastime}.",
        "{He} ate a~ {food} every {daytime} and shared it with {friend}.",
        "All day long {he} would {pastime} {slowly}.",
        "{His} {relative} often said, \"One day you will learn {wish}.\"",
        "{He} was never {mood} for long, because {friend} made {him} laugh.",
    ],
    "color": [
        "The air smelled of {smell} and {smell}.",
        "The {weather} wind blew {slowly} over the {place}.",
        "A~ {trait} {creature} watched {him} from the {tree}.",
        "{name} felt {mood} and a little {mood}.",
        "{He} stopped to eat a~ {food}.",
        "It was a {weather} {daytime}, and the {place} was {looks_like}.",
        "Far away {he} heard {noise}.",
        "{He} sang {slowly} to feel less {mood}.",
        "The {tree} leaves were {hue}, and the sky was {hue}.",
        "{He} thought of {his} {relative} and smiled.",
        "A~ {creature} passed by with a~ {food} in its mouth.",
        "{name} hurt {his} {part}, but {he} did not cry.",
    ],
    "looks_like": [
        "full of people", "quiet and empty", "covered with snow", "bright with lamps",
        "dark as ink", "full of birds", "shining like gold", "still asleep", "green and wet",
    ],
    "hue": "red blue green yellow golden white gray purple orange pink silver black".split(),
    "outing": [
        "One {weather} {daytime}, {name} {went} to the {place} to {pastime}.",
        "One {daytime} in {season}, {name} and {friend} {went} to the {place}.",
        "On a {weather} {daytime}, {name} took {his} {thing} and {went} to the {place}.",
        "Then, one {weather} {daytime}, something happened in the {place}.",
        "One {daytime} {his} {relative} sent {him} to the {place} to get a~ {food}.",
        "It was a {weather} {daytime} when {name} {went} to the {place}.",
    ],
    "said": "said asked whispered shouted cried called laughed".split(),
    "replied": "said answered replied whispered laughed".split(),
    # losing a thing
    "lost.1": [
        "When {he} looked for {his} {look} {thing}, it was gone.",
        "Suddenly {name} saw that {his} {look} {thing} was missing.",
        "That {daytime} {he} could not find {his} {look} {thing}.",
        "A gust of wind took {his} {look} {thing} and carried it over the {elsewhere}.",
        "{He} fell {slowly} into the mud, and {his} {look} {thing} was lost.",
    ],
    "lost.2": [
        "\"Where is my {thing}?\" {said} {name}.",
        "{He} looked {hidden}, then {hidden}, but found only {treasure}.",
        "{name} asked a~ {creature}, but it had only seen {treasure}.",
        "{He} searched the {place} until {daytime} and felt {mood}.",
        "{friend} came to help, and they looked {hidden} and {hidden}.",
        "\"Do not be {mood},\" {replied} {friend}. \"We will find your {thing}.\"",
    ],
    "lost.3": [
        "At last {friend} found the {thing} {hidden}.",
        "Then a~ {trait} {creature} came with the {thing} in its mouth and put it down {slowly}.",
        "{He} heard {noise}, turned around, and there was the {thing}, {hidden}.",
        "In the end the {thing} was {hidden}, next to {treasure}.",
        "It was {his} {relative} who had the {thing}. \"I wanted to clean it,\" {he2} said.",
    ],
    # finding a thing
    "find.1": [
        "There, {hidden}, {he} saw a~ {look} {thing}.",
        "{He} stepped on something hard: it was a~ {look} {thing}.",
        "Something was shining {hidden}. It was a~ {look} {thing}!",
        "A~ {creature} gave {him} a~ {look} {thing} and ran away {slowly}.",
    ],
    "find.2": [
        "\"Whose {thing} is this?\" {said} {name}.",
        "{He} picked up the {thing} and looked at it {slowly}.",
        "When {he} touched the {thing}, {he} heard {noise}.",
        "Inside the {thing} {he} found {treasure}.",
        "{name} showed the {thing} to {friend}, who was {mood}.",
        "A little note said: \"Take me to the {elsewhere}.\"",
    ],
    "find.3": [
        "\"It is mine,\" {replied} a~ {trait} {creature}. \"I lost it in {season}.\" "
        "So {name} gave it back.",
        "{He} took the {thing} to the {place} and gave it to {his} {relative}.",
        "From then on the {thing} stood in {home}, and {name} was never {mood} again.",
        "{friend} wanted the {thing} too, so they shared it, one {daytime} each.",
        "An old {person} was looking for it and gave {him} {treasure} as thanks.",
    ],
    "person": [
        "baker", "farmer", "sailor", "painter", "tailor", "gardener", "cook", "teacher", "doctor",
        "singer", "carpenter", "miner",
    ],
    # helping someone
    "help.1": [
        "On the way {he} met a~ {trait} {creature} that was stuck {hidden}.",
        "Near the {place} a~ {creature} sat {hidden} and cried {slowly}.",
        "Suddenly {he} heard {noise}. A~ {trait} {creature} had hurt its {part}.",
        "There was a~ {creature}, {mood} and {mood}, {hidden}.",
    ],
    "help.2": [
        "\"Please help me,\" {said} the little one. \"I only wanted {wish}.\"",
        "{name} gave the poor animal a~ {food} and {treasure}.",
        "\"Do not worry,\" {replied} {name} {slowly}. \"I will get my {thing}.\"",
        "{He} used a~ {odd} rope and pulled as hard as {he} could.",
        "{name} called {friend}, and together they {went} back with a~ {look} {thing}.",
        "First {he} tried a~ {food}, then a~ {look} {thing}, and then {he} had an idea.",
    ],
    "help.3": [
        "Soon the animal was free and {mood}. \"Thank you, {name}!\" it {said}.",
        "The animal gave {him} {treasure} and {went} away {slowly}.",
        "After that, the animal came to {home} every {daytime} to {pastime}.",
        "\"One day I will help you too,\" it said, and in {season} it did.",
    ],
    # a storm
    "storm.1": [
        "Suddenly the sky turned {hue} and a big storm came to the {place}.",
        "The wind grew stronger, and soon the {place} was full of water.",
        "First there was {noise}, then it began to rain {slowly}.",
        "A big {hue} cloud came {slowly} over the {place}.",
    ],
    "storm.2": [
        "{name} hid {hidden} and felt {mood}.",
        "{friend} opened a door. \"Come in, {name}!\" {he2} {said}.",
        "{He} {went} as fast as {he} could, but lost {his} {look} {thing}.",
        "{He} found {home} and a~ {trait} {creature} inside it.",
        "They lit a~ {odd} lamp, ate a~ {food} and began to {pastime}.",
    ],
    "storm.3": [
        "In the morning the sky was {hue}, and {hidden} lay {treasure}.",
        "When it was over, there was a rainbow over the {place}.",
        "At {daytime} the wind went to sleep, and the {place} was {looks_like}.",
        "The storm had taken the roof, but {friend} and {name} built a new one in {season}.",
    ],
    # a contest
    "race.1": [
        "\"Let us see who is first at the {place},\" {said} {friend}.",
        "There was a contest in the {place}, and the prize was {treasure}.",
        "The {person} of the {place} asked, \"Who can {pastime} best of all?\"",
        "A~ {trait} {creature} said, \"Nobody is faster than I am.\"",
    ],
    "race.2": [
        "They {went} past the {place}, over the {elsewhere} and around a~ {tree}.",
        "{friend} was very fast, but {name} did not stop.",
        "Halfway there {friend} fell over a~ {look} {thing}, and {name} stopped to help {him2}.",
        "{name} {went} {slowly}, {slowly}, and thought only of {treasure}.",
        "A~ {creature} called {slowly}, \"Go on, {name}!\"",
        "In the middle {friend} stopped to {pastime} and fell asleep {hidden}.",
    ],
    "race.3": [
        "They both came to the {place} at the same time and shared {treasure}.",
        "{name} won, and everyone clapped {slowly}.",
        "{friend} won, but {name} was not {mood}, because it had been fun.",
        "Nobody won, because a~ {trait} {creature} had eaten the prize.",
    ],
    # a strange noise
    "night.1": [
        "That night {he} heard {noise} from the {place}.",
        "At night {name} woke up because of {noise}.",
        "Every night there was {noise}, and nobody knew why.",
        "A~ {hue} light was moving {slowly} {hidden}.",
    ],
    "night.2": [
        "{He} took a~ {odd} lamp and {went} outside {slowly}.",
        "\"Who is there?\" {said} {name}, feeling {mood}.",
        "{He} looked {hidden}, but there was only a~ {trait} {creature}.",
        "{friend} wanted to go home, but {name} was too {mood}.",
        "It came from {home}, just behind the {place}.",
    ],
    "night.3": [
        "It was only a~ {creature} that had found {treasure}.",
        "It was {his} {relative}, who had come to {pastime} in the dark.",
        "A~ {trait} ghost said, \"I am {mood}. Will you {pastime} with me?\" And so they did.",
        "The wind had been playing with a~ {look} {thing} {hidden}.",
    ],
    # a gift and a journey
    "trip.1": [
        "{His} {relative} needed {treasure} from the {elsewhere}.",
        "{name} decided to travel to {region}, because {he} wanted {wish}.",
        "An old {person} gave {him} a~ {look} {thing} and said, \"Bring it to the {elsewhere}.\"",
        "A letter came from {region}: \"Dear {name}, please come in {season}.\"",
    ],
    "trip.2": [
        "{He} {went} for {count} days, past the {place} and through the {elsewhere}.",
        "On the {nth} day {he} met a~ {trait} {creature} that wanted {wish}.",
        "There was no bridge, so {he} made a boat out of a~ {look} {thing}.",
        "At night {he} slept {hidden} and dreamed of a~ {food}.",
        "A~ {trait} {person} showed {him} the way for a~ {food}.",
        "{friend} came along with a~ {food}, a~ {thing} and {treasure}.",
    ],
    "count": "two three four five six seven nine ten twelve".split(),
    "nth": "second third fourth fifth sixth seventh last".split(),
    "trip.3": [
        "At last {he} saw the {elsewhere}, {hue} and {looks_like}.",
        "The people there were {mood}, and they gave {him} {treasure}.",
        "When {he} came home, {his} {relative} was {mood} and cooked a~ {food} soup.",
        "There {he} learned {wish}, and {he} never forgot it.",
    ],
    # making something
    "make.1": [
        "{name} wanted to make a~ {look} {thing} for {his} {relative}.",
        "\"Let us bake the biggest {food} cake in {region},\" {said} {friend}.",
        "{He} had {count} boards, a~ {look} {thing} and a good idea.",
        "The {place} had no {thing}, so {name} wanted to build one.",
    ],
    "make.2": [
        "{He} worked {slowly} from {daytime} to {daytime}.",
        "But a~ {trait} {creature} came and sat on it.",
        "The first one was too small, and the second one fell {hidden}.",
        "\"You need {treasure},\" {replied} an old {person}.",
        "{friend} brought {treasure} and a~ {food}.",
        "{He} painted it {hue} and {hue}.",
    ],
    "make.3": [
        "In the end it was finer than anyone had thought, and everybody came to see it.",
        "{His} {relative} was so {mood} that {he2} began to {pastime}.",
        "It was not perfect, but it was {his} own, and {he} put it {hidden}.",
        "They gave it to a~ {trait} {creature} as a present.",
    ],
    "ending": [
        "From that {daytime} on, {name} and {friend} were best friends.",
        "{name} went home and told {his} {relative} about it.",
        "{He} was {mood}, and {he} slept well that night.",
        "And they all lived happily ever after.",
        "{name} had learned that it is good to be {trait}.",
        "And if you go to the {place} in {season}, you can still hear {noise}.",
        "Then they sat {hidden}, ate a~ {food} and looked at the {hue} sky.",
        "Since then, nobody has laughed at {him} again.",
        "\"What a~ {daytime}!\" cried {name}, and {friend} laughed {slowly}.",
        "That is how {name} got {treasure}.",
    ],
    "later": [
        "The next {daytime} was {weather}.",
        "But that was not the end of it.",
        "A week later, in the {place}, something else happened.",
        "{count_up} days later {name} and {friend} met again at the {place}.",
        "Then came {season}, and {name} was {mood} again.",
    ],
    "count_up": "Two Three Four Five Six Seven Nine Ten Twelve".split(),
}  # fmt: skip

PLOTS: dict[str, list[str]] = {
    "lost": [
        "who loses a~ {look} {thing}",
        "who cannot find a~ {look} {thing}",
        "and a lost {thing}",
    ],
    "find": ["who finds a~ {look} {thing}", "and a~ {look} {thing}", "who finds a~ {thing}"],
    "help": ["who helps someone in the {place}", "who helps an animal", "and an animal in trouble"],
    "storm": ["and a storm in the {place}", "in a big storm", "and a terrible storm"],
    "race": ["who runs a race with {friend}", "and a contest", "who wants to win a prize"],
    "night": [
        "who hears a strange noise",
        "and a strange noise in the {place}",
        "and a dark night",
    ],
    "trip": ["who goes on a journey", "who travels to the {place}", "and a long journey"],
    "make": ["who wants to make a~ {thing}", "who builds something", "who makes a present"],
}
