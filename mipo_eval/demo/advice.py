"""What the people of the demo world ask about, and the plain advice they get: the types.

A *family* is a kind of activity ("clean", "grow", ...). Advice belongs to the family and the kind
of question, never to one topic, and names the topic through a slot; and a topic is a pair of words
that each occur in other topics. That is what lets a model of 1M parameters answer about a topic it
has never seen: the answer is composed from the question.

The sentences are data, in `advice_home.py` and `advice_projects.py`. In a sentence

    "Brush the loose dust off {x}| before any water touches it"

`{x}` is the topic ("the leather bag"), `{X}` the same at the start of a sentence, `{n}` an amount
from `Family.amounts`, and `|` separates the short form from the rest of the full form.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["how", "need", "avoid", "time"]
"""What is asked about an activity."""

KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class Advice:
    """The plain sentences that answer one kind of question in one family."""

    first: tuple[str, ...]
    """Opening sentences: each answers the question and names the topic."""
    more: tuple[str, ...]
    """Further sentences, in the order in which they may follow one another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One kind of activity: its topics, and everything that can be said about them."""

    verb: str
    """As in "How do I clean a fish tank?"."""
    article: Literal["a", "the", ""]
    """How answers refer to a topic: "a suitcase", "the fish tank", or as in the question."""
    modifiers: tuple[str, ...]
    nouns: tuple[str, ...]
    """Every modifier with every noun is a thing to ask about: "leather bag", "wool hat"."""
    held_out: tuple[str, ...]
    """Things of the test split, asked about nowhere else; their words occur in other pairs."""
    amounts: tuple[str, ...]
    advice: Mapping[Kind, Advice]
    summaries: tuple[str, ...]
    examples: tuple[str, ...]
    cautions: tuple[str, ...]
    reasons: tuple[str, ...]
    questions: tuple[str, ...]
