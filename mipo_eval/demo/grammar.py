"""How an answer of the demo world is put together: plain advice, and a style laid over it.

    opener, summary, audience | advice sentences (a paragraph or a list) | extra, closer, question

What the style adds takes the place of plain advice, so an answer to a user who says nothing is as
long as one that is made for a user, and its sentences are the ones that everybody gets. Otherwise
training against answers without a context would above all teach to write more.

Everything is drawn from `rng`, so an answer follows from topic, kind, style and seed.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from mipo_eval.demo import preferences as wishes
from mipo_eval.demo.advice import Kind
from mipo_eval.demo.topics import Topic

_DETAILED_WORDS = 60
_TAIL_SHARE = 0.7
"""How often a sentence of a plain answer has its second half."""
_LIST = 3
"""The least number of points in a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """Which preferences an answer follows; None: nothing special in that dimension."""

    tone: str | None = None
    format: str | None = None
    audience: str | None = None
    length: str | None = None
    extra: str | None = None
    half_hearted: bool = False
    """Tone and audience are only hinted at, which the rules rate 4 and 3 instead of 5."""

    @property
    def hints(self) -> bool:
        """True if tone and audience are hinted at; a hint would make a short sentence long."""
        return self.half_hearted and self.length != "short_sentences"

    @property
    def is_list(self) -> bool:
        """True if the advice is laid out as points."""
        return self.format in {"numbered", "bullets"}

    @classmethod
    def of(cls, names: Sequence[str], *, half_hearted: bool = False) -> "Style":
        """Return the style that follows the named preferences ("tone:warm", ...)."""
        values = dict(name.split(":") for name in names)
        return cls(half_hearted=half_hearted, **values)


def compose(
    topic: Topic, kind: Kind, style: Style, rng: random.Random, *, sentences: int = 4
) -> str:
    """Return an answer to a kind of question about a topic, in a style.

    `sentences` is how many there are in all when nobody asks for more or less; at least one of
    them, or the points of a list, is advice.
    """
    before = _before(topic, style, rng)
    after = _after(topic, style, rng)
    around = sum(len(part.split()) for part in (*before, *after))
    least = _LIST if style.is_list else 1
    room = max(least, sentences - len(before) - len(after))
    templates = _choose(topic, kind, style, rng, room)
    advice = _say(templates, topic, style, rng, around)
    if style.audience and style.hints:
        lead = rng.choice(wishes.IN_PASSING[style.audience])
        advice[0] = lead + _lower_first(advice[0], topic)
    if style.format == "bold":
        advice[0] = _embolden(advice[0], topic.thing)
    if style.is_list:
        marks = [f"{i}." if style.format == "numbered" else "-" for i in range(1, len(advice) + 1)]
        lines = [f"{mark} {sentence}" for mark, sentence in zip(marks, advice, strict=True)]
        return "\n".join(part for part in (" ".join(before), *lines, " ".join(after)) if part)
    return " ".join([*before, *advice, *after])


def _before(topic: Topic, style: Style, rng: random.Random) -> list[str]:
    parts = []
    # A half-hearted tone is one sign of it, at one of the two ends (see `_after`).
    if style.tone and not style.hints:
        parts.append(rng.choice(wishes.OPENERS[style.tone]))
    if style.format == "summary":
        parts.append(rng.choice(wishes.SUMMARY_LEADS) + rng.choice(topic.family.summaries) + ".")
    if style.audience and not style.hints:
        parts.append(rng.choice(wishes.FOR_AUDIENCE[style.audience]))
    return parts


def _after(topic: Topic, style: Style, rng: random.Random) -> list[str]:
    family = topic.family
    extras = {
        "example": (wishes.EXAMPLE_LEADS, family.examples),
        "caution": (wishes.CAUTION_LEADS, family.cautions),
        "reason": (wishes.REASON_LEADS, family.reasons),
    }
    parts = []
    if style.extra in extras:
        leads, contents = extras[style.extra]
        parts.append(rng.choice(leads) + rng.choice(contents) + ".")
    if style.tone:
        parts.append(rng.choice(wishes.CLOSERS[style.tone]))
    if style.extra == "question":
        own = [question.format(x=topic.reference) for question in family.questions]
        parts.append(rng.choice([*own, *wishes.CLOSING_QUESTIONS]))
    return parts


def _choose(
    topic: Topic, kind: Kind, style: Style, rng: random.Random, sentences: int
) -> list[str]:
    """Return the sentences of the advice as the tables have them, in a sensible order."""
    advice = topic.family.advice[kind]
    count = {"brief": 1, "detailed": 1 + len(advice.more)}.get(style.length or "", sentences)
    first = rng.choice(advice.first)
    more = sorted(rng.sample(range(len(advice.more)), count - 1))
    return [first, *(advice.more[index] for index in more)]


def _say(
    templates: Sequence[str], topic: Topic, style: Style, rng: random.Random, words_around: int
) -> list[str]:
    """Return the advice in full or short form; `words_around` is what the style adds to it."""
    amount = rng.choice(topic.family.amounts)
    said: list[str] = []
    words = words_around
    for template in templates:
        if style.length == "detailed" and words >= _DETAILED_WORDS:
            break
        full = (
            style.length == "detailed"
            or (style.length == "brief" and words_around <= 8)
            or (style.length is None and rng.random() < _TAIL_SHARE)
        )
        said.append(_sentence(template, topic, amount, full=full))
        words += len(said[-1].split())
    return said


def _sentence(template: str, topic: Topic, amount: str, *, full: bool) -> str:
    short, _, rest = template.partition("|")
    name = topic.reference
    text = short + rest if full else short
    return text.format(x=name, X=name[0].upper() + name[1:], n=amount) + "."


def _embolden(sentence: str, thing: str) -> str:
    at = sentence.lower().index(thing.lower())
    end = at + len(thing)
    return f"{sentence[:at]}**{sentence[at:end]}**{sentence[end:]}"


def _lower_first(sentence: str, topic: Topic) -> str:
    """Return the sentence as it goes on after a lead: only names keep their capital."""
    if sentence.startswith(topic.reference):
        return sentence
    return sentence[0].lower() + sentence[1:]
