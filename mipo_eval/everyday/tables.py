"""What the suite's people ask, wish for and are, read from its YAML files."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal

from mipo_eval.settings import parse_yaml
from mipo_eval.verdict import RESTRAINT

Split = Literal["train", "test"]

FACTS_LEFT_OUT = f"{RESTRAINT}:facts"
PLAIN = f"{RESTRAINT}:plain"
CODES = {"language:spanish": "es", "language:french": "fr", "language:german": "de"}
"""The languages that can be wished for, by the wish."""
NAME = "{name}"
"""Where a user's first name goes."""
_LEAVE_OUT = "Do not bring up what has nothing to do with the question: that the user "
_PLAIN = "Answer in the usual way: the user wished for nothing special."
_AND = "; that the user "


@dataclass(frozen=True, slots=True)
class Wish:
    """Something a response can do for a user."""

    name: str
    """Dimension and kind, as "form:bullets"."""
    statement: str
    """What a judge is asked to rate; may hold {name}."""
    wordings: tuple[str, ...]
    fits: frozenset[str]
    """Fields of questions; all where empty."""

    @property
    def dimension(self) -> str:
        """The part before the colon."""
        return self.name.partition(":")[0]


@dataclass(frozen=True, slots=True)
class Fact:
    """Something about a user that an answer may drag in."""

    name: str
    """Short, as "plays the cello"."""
    said: str
    cues: re.Pattern[str]
    """What shows that a response brings it up."""
    near: frozenset[str]
    """Fields of questions that it may have to do with."""


@dataclass(frozen=True, slots=True)
class Question:
    """What a user asks."""

    field: str
    text: str
    about: str
    """The thing it is about, as "the rice"."""


def read_table(name: str) -> Any:
    """Return what one of our YAML files says."""
    text = resources.files(__package__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
    return parse_yaml(text)


@cache
def wishes() -> Mapping[str, Wish]:
    """Return every wish by its name."""
    found = {}
    for dimension, kinds in read_table("wishes").items():
        for kind, about in kinds.items():
            name, fits = f"{dimension}:{kind}", frozenset(about.get("fits", ()))
            found[name] = Wish(name, about["statement"], tuple(about["wordings"]), fits)
    return found


@cache
def facts() -> Mapping[str, Fact]:
    """Return every fact by its name."""
    return {
        name: Fact(name, said, re.compile(rf"\b(?:{cues})\b", re.IGNORECASE), frozenset(near))
        for name, said, cues, near in read_table("people")["facts"]
    }


@cache
def questions() -> tuple[Question, ...]:
    """Return every question, field by field."""
    lines = [
        (field, line.split(" | "))
        for field, lines in read_table("questions").items()
        for line in lines
    ]
    return tuple(Question(field, text, about) for field, (text, about) in lines)


@cache
def first_names() -> tuple[str, ...]:
    """Return the names of users."""
    return tuple(read_table("people")["names"])


def statement(name: str, user: str = "", dragged: tuple[Fact, ...] = ()) -> str:
    """Return what a judge is asked about a wish, or about restraint.

    Args:
        name: of the wish, `FACTS_LEFT_OUT` or `PLAIN`.
        user: the user's first name.
        dragged: facts that have nothing to do with the question.
    """
    if name == FACTS_LEFT_OUT:
        return f"{_LEAVE_OUT}{_AND.join(fact.name for fact in dragged)}."
    return _PLAIN if name == PLAIN else wishes()[name].statement.replace(NAME, user)


@cache
def _statements() -> tuple[Mapping[str, str], re.Pattern[str]]:
    plain = {wish.statement: wish.name for wish in wishes().values()}
    by_name = re.escape(wishes()["frame:name"].statement).replace(r"\{name\}", r"([\w' -]+)")
    return plain | {_PLAIN: PLAIN}, re.compile(by_name)


def understood(preference: str) -> tuple[str, str]:
    """Return which wish a statement is, and the user's name or the facts' names that it holds.

    Raises:
        KeyError: it is none of ours.
    """
    known, by_name = _statements()
    told = preference.strip()
    if found := by_name.fullmatch(told):
        return "frame:name", found[1]
    if told.startswith(_LEAVE_OUT):
        return FACTS_LEFT_OUT, told.removeprefix(_LEAVE_OUT).removesuffix(".")
    return known[told], ""


def named_facts(told: str) -> list[Fact]:
    """Return the facts whose names a statement of restraint holds.

    Raises:
        KeyError: one of them is none of ours.
    """
    return [facts()[name] for name in told.split(_AND)]
