"""What can be asked, wished for and answered in the demo world, and how an answer is put together.

    opening, summary, audience | advice sentences (a paragraph or a list) | extra, closing, question

What the style adds takes the place of plain advice, so an answer to a user who says nothing is as
long as one that is made for a user, and its sentences are the ones that everybody gets. Otherwise
training against answers without a context would above all teach to write more.

Every sentence is in `advice.yaml` or `preferences.yaml`, which say how they are written. Everything
else is drawn from `rng`, so an answer follows from topic, kind, style and seed.
"""

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from mipo_eval.errors import ConfigError

Kind = Literal["how", "need", "avoid", "time"]
"""What is asked about an activity."""
KINDS: tuple[Kind, ...] = get_args(Kind)
Dimension = Literal["tone", "format", "audience", "length", "extra"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)
Split = Literal["train", "test"]

_DETAILED_WORDS = 60
_TAIL_SHARE = 0.7
"""How often a sentence of a plain answer has its second half."""


def _with_known_slots(text: str) -> str:
    try:
        text.format(x="", X="", n="", do="")
    except (LookupError, ValueError):
        raise ValueError(f"{text!r} has a slot that nothing fills") from None
    return text


Sentence = Annotated[str, AfterValidator(_with_known_slots)]
Sentences = Annotated[tuple[Sentence, ...], Field(min_length=1)]


class _Text(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Preference(_Text):
    """One value of one dimension, such as a warm tone; `preferences.yaml` says what is what."""

    dimension: Dimension
    value: str
    statement: str
    wordings: Sentences
    openings: tuple[Sentence, ...] = ()
    closings: tuple[Sentence, ...] = ()
    hints: tuple[Sentence, ...] = ()

    @property
    def name(self) -> str:
        """Key of the preference and of its rule: "tone:warm"."""
        return f"{self.dimension}:{self.value}"


class Advice(_Text):
    """The plain sentences that answer one kind of question in one family."""

    first: Sentences
    """Opening sentences: each answers the question and names the topic."""
    more: Annotated[Sentences, Field(min_length=3)]
    """Further sentences, in the order in which they may follow one another."""


class Family(_Text):
    """One kind of activity: its topics, and everything that can be said about them."""

    verb: str
    """As in "How do I clean a fish tank?"."""
    article: Literal["a", "the", ""]
    """How answers refer to a topic: "a suitcase", "the fish tank", or as in the question."""
    modifiers: Sentences
    nouns: Sentences
    """Every modifier with every noun is a thing to ask about: "leather bag", "wool hat"."""
    held_out: Sentences
    """Things of the test split, asked about nowhere else; their words occur in other pairs."""
    amounts: Sentences
    advice: Annotated[Mapping[Kind, Advice], Field(min_length=len(KINDS))]
    details: Mapping[str, Sentences]
    """By value of a preference, what completes its openings or closings."""
    questions: Sentences
    """What an answer may ask the user at its end."""


class DemoTexts(_Text):
    """Everything that is said in the demo world."""

    questions: Annotated[Mapping[Kind, Sentences], Field(min_length=len(KINDS))]
    families: tuple[Family, ...]
    preferences: tuple[Preference, ...]
    about_me: Sentences


def load_texts(folder: Traversable) -> DemoTexts:
    """Return the texts of a folder with `advice.yaml` and `preferences.yaml`.

    Raises:
        ConfigError: a file is missing or broken, or says what the demo world does not know.
    """
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times faster, where libyaml is
    found: dict[str, Any] = {}
    try:
        for name in ("advice.yaml", "preferences.yaml"):
            found |= yaml.load((folder / name).read_text(encoding="utf-8"), loader)
        return DemoTexts.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        problem = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (OSError, UnicodeDecodeError, TypeError, ValueError, yaml.YAMLError) as error:
        problem = " ".join(str(error).split())
    raise ConfigError(
        f"the demo world's texts in {folder} are broken ({problem}): install mipo-eval again"
    )


TEXTS = load_texts(resources.files(__package__))

PREFERENCES: Mapping[str, Preference] = {wish.name: wish for wish in TEXTS.preferences}
BY_STATEMENT: Mapping[str, Preference] = {wish.statement: wish for wish in TEXTS.preferences}
VALUES: Mapping[Dimension, Sequence[str]] = {
    dimension: [wish.name for wish in TEXTS.preferences if wish.dimension == dimension]
    for dimension in DIMENSIONS
}
"""Names of the preferences of each dimension."""
QUESTION_FORMS: Sequence[tuple[Kind, int]] = [
    (kind, wording) for kind in KINDS for wording in range(len(TEXTS.questions[kind]))
]
"""Kind and number of every wording of a question."""


@dataclass(frozen=True, slots=True)
class DemoTopic:
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
        return TEXTS.questions[kind][wording].format(do=f"{self.family.verb} {self.object}")


@cache
def topics(split: Split) -> tuple[DemoTopic, ...]:
    """Return the topics of a split; no topic is in both."""
    return tuple(
        DemoTopic(family, thing)
        for family in TEXTS.families
        for modifier in family.modifiers
        for noun in family.nouns
        if ((thing := f"{modifier} {noun}") in family.held_out) == (split == "test")
    )


def odd_topic(rng: random.Random) -> DemoTopic:
    """Return a topic of any two words of the world, such as cooking a velvet concert.

    A model that has only met sensible pairs guesses the second word from the first, and is wrong
    about a new pair; here it has to read the question. No topic of the test split comes out.
    """
    while True:
        family = rng.choice(TEXTS.families)
        modifier = rng.choice(rng.choice(TEXTS.families).modifiers)
        thing = f"{modifier} {rng.choice(rng.choice(TEXTS.families).nouns)}"
        if thing not in family.held_out:
            return DemoTopic(family, thing)


def questions(split: Split) -> list[tuple[DemoTopic, Kind, int]]:
    """Return every question of a split: topic, kind and wording."""
    return [(topic, kind, wording) for topic in topics(split) for kind, wording in QUESTION_FORMS]


def topic_heads(query: str) -> set[str]:
    """Return the head nouns of the topics a query names: {"bag"} for "clean a leather bag".

    Empty for a query about something else than the demo world's topics.
    """
    return {thing.split()[-1] for thing in _topic_pattern().findall(query.lower())}


@cache
def _topic_pattern() -> re.Pattern[str]:
    known = {
        f"{topic.family.verb} {topic.object}".lower()
        for topic in (*topics("train"), *topics("test"))
    }
    return re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(known))) + r")\b")


@dataclass(frozen=True, slots=True)
class Style:
    """Which preferences an answer follows, at most one per dimension."""

    wishes: Mapping[Dimension, Preference]
    half_hearted: bool = False
    """Tone and audience are only hinted at, which the rules rate 4 and 3 instead of 5."""

    @classmethod
    def of(cls, *names: str, half_hearted: bool = False) -> "Style":
        """Return the style that follows the named preferences ("tone:warm", ...)."""
        wishes = [PREFERENCES[name] for name in names]
        return cls({wish.dimension: wish for wish in wishes}, half_hearted)

    def value(self, dimension: Dimension) -> str | None:
        """Return what is followed in a dimension; None: nothing special."""
        return self.wishes[dimension].value if dimension in self.wishes else None

    @property
    def hints(self) -> bool:
        """True if tone and audience are hinted at; a hint would make a short sentence long."""
        return self.half_hearted and self.value("length") != "short_sentences"


def compose(
    topic: DemoTopic, kind: Kind, style: Style, rng: random.Random, *, sentences: int = 4
) -> str:
    """Return an answer to a kind of question about a topic, in a style.

    `sentences` is how many there are in all when nobody asks for more or less; at least one of
    them, or the points of a list, is advice.
    """
    before, after = _before(topic, style, rng), _after(topic, style, rng)
    layout = style.value("format")
    least = 3 if layout in {"numbered", "bullets"} else 1  # points of a list
    room = max(least, sentences - len(before) - len(after))
    templates = _choose(topic.family.advice[kind], style, rng, room)
    around = sum(len(part.split()) for part in (*before, *after))
    advice = _say(templates, topic, style, rng, around)
    audience = style.wishes.get("audience")
    if audience and audience.hints and style.hints:
        first = advice[0]
        if not first.startswith(topic.reference):  # names keep their capital
            first = first[0].lower() + first[1:]
        advice[0] = rng.choice(audience.hints) + first
    if layout == "bold":
        thing = re.compile(re.escape(topic.thing), re.IGNORECASE)
        advice[0] = thing.sub(r"**\g<0>**", advice[0], count=1)
    if layout in {"numbered", "bullets"}:
        lines = [
            f"{f'{number}.' if layout == 'numbered' else '-'} {sentence}"
            for number, sentence in enumerate(advice, start=1)
        ]
        return "\n".join(part for part in (" ".join(before), *lines, " ".join(after)) if part)
    return " ".join([*before, *advice, *after])


def _before(topic: DemoTopic, style: Style, rng: random.Random) -> list[str]:
    parts = []
    for dimension in ("tone", "format", "audience"):
        wish = style.wishes.get(dimension)
        # A half-hearted tone is one sign of it, at one of the two ends (see `_after`).
        if wish and wish.openings and (dimension == "format" or not style.hints):
            parts.append(_completed(rng.choice(wish.openings), wish, topic, rng))
    return parts


def _after(topic: DemoTopic, style: Style, rng: random.Random) -> list[str]:
    extra, tone = style.wishes.get("extra"), style.wishes.get("tone")
    asks = extra is not None and extra.value == "question"
    parts = []
    if extra and extra.closings and not asks:
        parts.append(_completed(rng.choice(extra.closings), extra, topic, rng))
    if tone and tone.closings:
        parts.append(rng.choice(tone.closings))
    if extra and extra.closings and asks:
        own = [question.format(x=topic.reference) for question in topic.family.questions]
        parts.append(rng.choice([*own, *extra.closings]))
    return parts


def _completed(lead: str, wish: Preference, topic: DemoTopic, rng: random.Random) -> str:
    """Return a sentence: the lead, with what the family has to say on it where it ends open."""
    if not lead.endswith(" "):
        return lead
    return f"{lead}{rng.choice(topic.family.details[wish.value])}."


def _choose(advice: Advice, style: Style, rng: random.Random, sentences: int) -> list[str]:
    """Return the sentences of the advice as the tables have them, in a sensible order."""
    length = style.value("length")
    count = {"brief": 1, "detailed": 1 + len(advice.more)}.get(length or "", sentences)
    first = rng.choice(advice.first)
    more = sorted(rng.sample(range(len(advice.more)), count - 1))
    return [first, *(advice.more[index] for index in more)]


def _say(
    templates: Sequence[str], topic: DemoTopic, style: Style, rng: random.Random, words_around: int
) -> list[str]:
    """Return the advice in full or short form; `words_around` is what the style adds to it."""
    amount = rng.choice(topic.family.amounts)
    length = style.value("length")
    name = topic.reference
    said: list[str] = []
    words = words_around
    for template in templates:
        if length == "detailed" and words >= _DETAILED_WORDS:
            break
        full = (
            length == "detailed"
            or (length == "brief" and words_around <= 8)
            or (length is None and rng.random() < _TAIL_SHARE)
        )
        short, _, rest = template.partition("|")
        text = short + rest if full else short
        said.append(text.format(x=name, X=name[0].upper() + name[1:], n=amount) + ".")
        words += len(said[-1].split())
    return said
