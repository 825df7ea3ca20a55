"""Questions like those that customers ask a bank, each with what it is about.

What may be said and asked is in `questions.txt`, by intents, written here; a question draws from one intent
what it says, what it asks, how it begins and ends, and the fields.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tools.lookalikes.templates import Rng, distinct, fields_of, filled, pick

GRAMMAR = Path(__file__).with_name("questions.txt")
VOCABULARY = """
card: card | debit card | bank card | new card | physical card
ago: yesterday | two days ago | last week | a week ago | two weeks ago | on monday | this morning | last month
soon: tomorrow | next week | in ten days | on friday | at the end of the month | this summer
times: twice | three times | too often | again and again
country: france | spain | italy | poland | norway | canada | japan | brazil | india | turkey | mexico | kenya
city: paris | madrid | rome | warsaw | oslo | toronto | tokyo | berlin | vienna | lisbon | dublin | athens
currency: euros | dollars | pounds | yen | zloty | kroner | rupees | francs
amount: 20 euros | 35 pounds | 50 dollars | 80 euros | 120 pounds | 250 euros | 300 dollars | 2,000 pounds
fee: 1 euro | 2 pounds | 1.50 euros | 3 dollars | 75 cents
shop: a supermarket | the petrol station | a hotel | an online shop | a restaurant | my gym | the airline
person: my landlord | my sister | a friend | a colleague | my aunt | the plumber
relative: son | daughter | wife | husband | mother | brother
age: 10 | 12 | 14 | 15 | 16 | 17
device: phone | tablet | iphone | android phone | watch
wallet: apple pay | google pay | samsung pay
"""
FIELDS = {
    name: values.split(" | ")
    for name, values in (line.split(": ") for line in VOCABULARY.strip().splitlines())
}
OPENINGS = ("hello, ", "hi, ", "hi there, ", "good morning, ", "please help, ", "sorry to bother you, ")
CLOSINGS = ("thanks", "thank you", "please help", "please answer soon", "i need this today", "i am worried")
POLITE = ("can you tell me", "please tell me", "i would like to know", "do you know", "i wonder")
OPENED, CLOSED, ASKED_FOR = 0.15, 0.12, 0.15  # how often a question has one of these
SAID, BOTH = 0.3, 0.35  # how often something is only said, and how often said and asked
PLAIN = 0.2  # how often nothing but letters, without capitals and marks, is typed


@dataclass(frozen=True)
class Question:
    """What a customer wrote."""

    text: str
    intent: str


@dataclass(frozen=True)
class Intent:
    """What one matter is spoken of with: templates of statements and of questions."""

    name: str
    said: tuple[str, ...]
    asked: tuple[str, ...]


@functools.cache
def intents() -> tuple[Intent, ...]:
    """The intents of `questions.txt`, in its order."""
    _, *blocks = re.split(r"^\[(\w+)\]$", GRAMMAR.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return tuple(
        Intent(
            name, tuple(re.findall(r"^- (.+)$", block, re.M)), tuple(re.findall(r"^\? (.+)$", block, re.M))
        )
        for name, block in zip(blocks[::2], blocks[1::2], strict=True)
    )


def questions(count: int, seed: int = 0) -> list[Question]:
    """`count` different questions, intents drawn evenly."""
    rng = np.random.default_rng(seed)
    of: dict[str, str] = {}

    def draw() -> str:
        intent = intents()[rng.integers(len(intents()))]
        text = _written(intent, rng)
        of.setdefault(text, intent.name)
        return text

    return [Question(text, of[text]) for text in distinct(draw, count)]


def _written(intent: Intent, rng: Rng) -> str:
    """One question of an intent, as somebody might type it."""
    form = rng.random()
    parts = [pick(intent.said, rng) + "."] if form < SAID + BOTH else []
    if form >= SAID:
        asked = pick(intent.asked, rng) + "?"
        parts.append(f"{pick(POLITE, rng)}, {asked}" if rng.random() < ASKED_FOR else asked)
    if rng.random() < OPENED:
        parts[0] = pick(OPENINGS, rng) + parts[0]
    if rng.random() < CLOSED:
        parts.append(pick(CLOSINGS, rng) + ".")
    template = " ".join(parts)
    text = filled(template, {name: pick(FIELDS[name], rng) for name in fields_of(template)})
    if rng.random() < PLAIN:
        return re.sub(r"[^\w\s]", "", text)
    return re.sub(r"\bi\b", "I", re.sub(r"(^|[.?] )([a-z])", lambda m: m[1] + m[2].upper(), text))
