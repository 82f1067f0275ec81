"""Greetings, thanks, who-are-you, and the honest answer to what is out of reach."""

# ruff: noqa: SIM905 (word lists are easier to read as text)
from __future__ import annotations

from random import Random

from .exchange import Exchange
from .words import CITIES, NAMES, copied_name, nonce

_ABILITIES = (
    "I can tell stories, answer simple questions, do small sums, write JSON and short Python "
    "functions, and repeat or rewrite text."
)
ABOUT_ME = f"I am a tiny demo model, a Gemma 4 in miniature. {_ABILITIES}"
_GREETINGS = [
    "Hello",
    "Hi",
    "Hey",
    "Good morning",
    "Good evening",
    "Good day",
    "Hello there",
    "Hi there",
]
_WHO = [
    "Who are you?", "What are you?", "What is your name?", "Tell me about yourself.",
    "Are you a robot?", "Are you Gemma?", "Introduce yourself.", "Which model are you?",
    "Who am I talking to?",
]  # fmt: skip
_CAN = [
    "What can you do?",
    "How can you help me?",
    "Help",
    "help me",
    "What are you good at?",
    "What should I ask you?",
]
_HOW = ["How are you?", "How are you today?", "How do you do?", "Are you okay?", "How is it going?"]
_THANKS = [
    "Thanks",
    "Thank you",
    "Thank you very much",
    "Thanks a lot",
    "Great, thanks",
    "That was nice",
]
_BYE = ["Bye", "Goodbye", "See you", "Good night", "See you later", "That is all"]
_UNKNOWN_TOPICS = (
    "quantum physics,the stock market,football,the French Revolution,philosophy,taxes,cancer,"
    "the theory of relativity,politics,the Roman Empire,black holes,chemistry,Shakespeare,the news,"
    "machine learning,the meaning of life,blockchain,genetics,the weather tomorrow,climate change,"
    "Napoleon,electric cars,history,law,economics,opera,dinosaurs,vaccines,space travel,yoga,"
    "coffee,music theory,chess openings,the internet,cooking rice,guitars,movies,video games"
).split(",")
_UNKNOWN = [
    "Explain {t}.", "What do you think about {t}?", "Tell me everything about {t}.",
    "Can you explain {t} to me?", "Write an essay about {t}.", "How does {t} work?",
    "I have a question about {t}.", "Who invented {t}?", "What is the history of {t}?",
    "Give me advice on {t}.", "Summarize {t} for me.", "Why is {t} important?",
]  # fmt: skip
_UNKNOWN_MORE = [
    "Who won the world cup?", "What time is it?", "Who is the president?", "What happened in 1789?",
    "Translate this to French: good morning", "What is the best phone?", "Should I buy a house?",
    "How do I fix my car?", "What is the weather in {c}?", "How far is it to {c}?",
    "What is the population of {c}?", "When was {n} born?", "Who is {n}?", "Do you know {n}?",
    "Book a flight to {c}.", "What is a {w}?", "What does {w} mean?", "Who invented the {w}?",
    "Write a poem.", "Write a song about {c}.", "Play a game with me.", "What did I eat today?",
]  # fmt: skip
_ASKING = [
    "Who won", "Who wrote", "Who made", "Who was", "Who discovered", "When was", "When did we see",
    "Where can I buy", "How old is", "How big is", "How do I make", "How do I repair",
    "What happened to", "What is the price of", "What is the best", "What do you know about",
    "Which is the best", "Why did they build", "Why is there", "Can you find", "Do you like",
]  # fmt: skip
_STRANGE = (
    "the war,the game,the election,the race yesterday,the Bible,the telephone,penicillin,America,"
    "the pyramids,the Titanic,a used car,the universe,Mars,Jupiter,a laptop,my printer,pizza,sushi,"
    "the king of England,Einstein,Mozart,Picasso,Obama,Caesar,gold,oil,a Ferrari,Google,Bitcoin,"
    "the Eiffel Tower,the Great Wall,the Amazon,gravity,electricity,the atom,DNA,a virus,"
    "rock music,Hollywood,"
    "the Olympics,tennis,the moon landing,Harry Potter,the dinosaurs,the company,school"
).split(",")
DONT_KNOW = "I am only a tiny demo model and do not know that."
_INSTEAD = [
    "You can ask me for a story.", "You can ask me for the capital of a country.",
    "You can ask me for a small sum.", "Try a story, a sum or a small Python function.",
]  # fmt: skip


def smalltalk(r: Random, assistant: str = "") -> Exchange:
    """`assistant` is the name that a system prompt gave, if it gave one."""
    mark = r.choice(["", "!", ".", "?"]) if r.random() < 0.5 else ""
    kind = r.choices(
        ["hello", "who", "can", "how", "thanks", "bye", "named"], [3, 3, 2, 2, 2, 1, 1]
    )[0]
    if kind == "hello":
        hello = r.choice(_GREETINGS)
        prompt = hello + r.choice(["", "!", ".", ", how are you?"])
        if r.random() < 0.2:
            prompt = prompt.lower()
        reply = r.choice(["Hello! How can I help you?", "Hi! What can I do for you?",
                          "Hello! Would you like a story, a sum or an answer?"])  # fmt: skip
        return Exchange(prompt, reply, "The user says hello. I say hello too.", exact=False)
    if kind == "who":
        answer = f"My name is {assistant}. {ABOUT_ME}" if assistant else ABOUT_ME
        return Exchange(r.choice(_WHO), answer, "The user wants to know who I am.")
    if kind == "can":
        return Exchange(r.choice(_CAN), _ABILITIES, "The user asks what I can do.")
    if kind == "how":
        return Exchange(
            r.choice(_HOW),
            "I am fine, thank you! How can I help you?",
            "The user is polite. So am I.",
        )
    if kind == "thanks":
        return Exchange(
            r.choice(_THANKS) + mark.replace("?", "!"), "You are welcome!", "The user says thanks."
        )
    if kind == "bye":
        return Exchange(
            r.choice(_BYE) + mark.replace("?", "!"), "Goodbye! Come back soon.", "The user leaves."
        )
    return introduce(r)


def introduce(r: Random) -> Exchange:
    name = copied_name(r)
    prompt = r.choice(["My name is {}.", "I am {}.", "Hello, I am {}.", "Call me {}."]).format(name)
    return Exchange(
        prompt, f"Nice to meet you, {name}! How can I help you?", f"The user is called {name}."
    )


def recall(r: Random, name: str) -> Exchange:
    """Asks for the name that an earlier turn gave."""
    prompt = r.choice(
        ["What is my name?", "Who am I?", "Do you remember my name?", "Tell me my name."]
    )
    return Exchange(prompt, f"Your name is {name}.", f"The user said that the name is {name}.")


def unknown(r: Random) -> Exchange:
    if r.random() < 0.35:
        prompt = f"{r.choice(_ASKING)} {r.choice(_STRANGE)}?"
    elif r.random() < 0.5:
        prompt = r.choice(_UNKNOWN).format(t=r.choice(_UNKNOWN_TOPICS))
    else:
        prompt = r.choice(_UNKNOWN_MORE).format(c=r.choice(CITIES), n=r.choice(NAMES), w=nonce(r))
    thought = "This is not something I have learned. I say so."
    return Exchange(prompt, f"{DONT_KNOW} {r.choice(_INSTEAD)}", thought, exact=False)
