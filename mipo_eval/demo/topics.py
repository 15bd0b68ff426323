"""The topics of the demo world and the questions people ask about them."""

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Literal

from mipo_eval.demo.advice import KINDS, Family, Kind
from mipo_eval.demo.advice_home import HOME
from mipo_eval.demo.advice_projects import PROJECTS

Split = Literal["train", "test"]

FAMILIES: tuple[Family, ...] = (*HOME, *PROJECTS)

QUESTIONS: Mapping[Kind, tuple[str, ...]] = {
    "how": (
        "How do I {do}?",
        "What is the best way to {do}?",
        "I want to {do}. Where do I start?",
        "Can you explain how to {do}?",
    ),
    "need": (
        "What do I need to {do}?",
        "Which things should I have ready to {do}?",
        "I would like to {do}. What should I get first?",
    ),
    "avoid": (
        "What mistakes should I avoid when I {do}?",
        "What usually goes wrong when people {do}?",
        "I am going to {do}. What should I not do?",
    ),
    "time": (
        "How long does it take to {do}?",
        "How much time should I set aside to {do}?",
        "I want to {do} soon. How long will it take?",
    ),
}
"""Wordings of each kind of question; `{do}` is "clean a leather bag"."""


@dataclass(frozen=True, slots=True)
class Topic:
    """An activity with its object, such as cleaning a leather bag."""

    family: Family
    thing: str
    """The object as the tables list it: "leather bag", "Spanish cooking"."""

    @property
    def object(self) -> str:
        """The object as a question names it: "a leather bag", "Spanish cooking"."""
        if not self.family.article:
            return self.thing
        return f"{'an' if self.thing[0] in 'aeiou' else 'a'} {self.thing}"

    @property
    def reference(self) -> str:
        """The object as an answer refers to it: "the leather bag", "a school bag"."""
        return f"the {self.thing}" if self.family.article == "the" else self.object

    @property
    def slug(self) -> str:
        """Name for identifiers: "clean-leather-bag"."""
        return "-".join([self.family.verb, *self.thing.lower().split()])

    def question(self, kind: Kind, wording: int) -> str:
        """Return one wording of a kind of question about this topic."""
        return QUESTIONS[kind][wording].format(do=f"{self.family.verb} {self.object}")


@cache
def topics(split: Split) -> tuple[Topic, ...]:
    """Return the topics of a split; no topic is in both."""
    return tuple(
        Topic(family, thing)
        for family in FAMILIES
        for modifier in family.modifiers
        for noun in family.nouns
        if ((thing := f"{modifier} {noun}") in family.held_out) == (split == "test")
    )


def odd_topic(rng: random.Random) -> Topic:
    """Return a topic of any two words of the world, such as cooking a velvet concert.

    A model that has only met sensible pairs guesses the second word from the first, and is wrong
    about a new pair; here it has to read the question. No topic of the test split comes out.
    """
    while True:
        family = rng.choice(FAMILIES)
        modifier = rng.choice(rng.choice(FAMILIES).modifiers)
        thing = f"{modifier} {rng.choice(rng.choice(FAMILIES).nouns)}"
        if thing not in family.held_out:
            return Topic(family, thing)


def questions(split: Split) -> list[tuple[Topic, Kind, int]]:
    """Return every question of a split: topic, kind and wording."""
    return [
        (topic, kind, wording)
        for topic in topics(split)
        for kind in KINDS
        for wording in range(len(QUESTIONS[kind]))
    ]


def topic_heads(query: str) -> set[str]:
    """Return the head nouns of the topics a query names: {"tank"} for "clean a leather bag".

    Empty for a query about something else than the demo world's topics.
    """
    asked = set(_topic_pattern().findall(query.lower()))
    return {thing.split()[-1] for thing in asked}


@cache
def _topic_pattern() -> re.Pattern[str]:
    names = {
        f"{topic.family.verb} {topic.object}".lower()
        for split in ("train", "test")
        for topic in topics(split)
    }
    return re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(names))) + r")\b")
