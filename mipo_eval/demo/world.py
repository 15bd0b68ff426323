"""The demo world: users with fixed tastes who ask everyday questions, and what pleases them.

    {"item_id": "clean-straw-bag-how-1-test-user-07",
     "prompt": "What is the best way to clean a straw bag?",
     "context": "I am always in a hurry. I work best from a list with numbers.",
     "preferences": ["Write for someone with very little free time.",
                     "Lay the answer out as numbered steps."], ...}

Everything follows from a seed. Topics and users of the test split appear nowhere else.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from mipo_eval.demo.grammar import (
    DIMENSIONS,
    PREFERENCES,
    QUESTION_FORMS,
    TEXTS,
    VALUES,
    DemoTopic,
    Kind,
    Split,
    Style,
    compose,
    odd_topic,
    questions,
    topics,
)
from mipo_eval.keys import item_rng
from mipo_eval.records import Item

VERSION = "2"
"""Changes with every change of an item; part of each item's metadata."""

_PROMPTS: dict[Split, int] = {"train": 500, "test": 50}
_USERS: dict[Split, int] = {"train": 400, "test": 40}
_USERS_PER_PROMPT = 4

FOLLOWED = 0.5
"""How often the base model's training text follows a stated preference, in the end."""
_UNASKED = 0.04
"""How often it does something nobody asked for, per dimension."""
_WITHOUT_CONTEXT = 0.25
_ODD = 0.4
"""How often that text is about an odd pair of words, so that the model reads the question."""
_HALF_HEARTED = 0.15
"""How often an answer only hints at tone and audience; in references twice as often."""


@dataclass(frozen=True, slots=True)
class User:
    """Someone with one fixed taste per dimension."""

    user_id: str
    taste: tuple[str, ...]
    """Names of preferences, one per dimension, in the order of `DIMENSIONS`."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One question and one answer of the base model's training text."""

    item: Item
    """Prompt and context; an empty context is default prompting."""
    answer: str


def items(split: Split, *, seed: int = 0) -> Iterator[Item]:
    """Yield the items of a split: 2,000 for training, 200 for testing.

    Four users ask each prompt (`group_id`), and each user asks about five (`user_id`).
    """
    everyone = users(split, seed=seed)
    rng = item_rng(seed, "demo", VERSION, split)
    asked = rng.sample(questions(split), _PROMPTS[split])
    for index, (topic, kind, wording) in enumerate(asked):
        for offset in range(_USERS_PER_PROMPT):
            user = everyone[(index * _USERS_PER_PROMPT + offset) % len(everyone)]
            yield _item(topic, kind, wording, user, seed)


def users(split: Split, *, seed: int = 0) -> list[User]:
    """Return the users of a split."""
    names = [f"{split}-user-{number:03}" for number in range(_USERS[split])]
    return [User(name, _taste(item_rng(seed, "demo", VERSION, name))) for name in names]


def exchange(
    number: int, *, seed: int = 0, followed: float = FOLLOWED, short: bool = False
) -> Exchange:
    """Return one exchange of the base model's training text: a user of its own, no held-out topic.

    Args:
        number: which one; any number of them can be drawn.
        seed: of the whole text.
        followed: how often the answer follows a stated wish.
        short: one wish and three sentences at most.
    """
    rng = item_rng(seed, "demo", VERSION, "text", str(number))
    topic = odd_topic(rng) if rng.random() < _ODD else rng.choice(topics("train"))
    kind, wording = rng.choice(QUESTION_FORMS)
    stated: list[str] = []
    context = ""
    if rng.random() >= _WITHOUT_CONTEXT:
        stated = _stated(_taste(rng), rng)[: 1 if short else None]
        context = _context(stated, rng)
    item = Item(item_id=f"text-{number}", prompt=topic.question(kind, wording), context=context)
    style = _habit(stated, followed, rng)
    sentences = rng.choice((2, 3)) if short else 4
    return Exchange(item, compose(topic, kind, style, rng, sentences=sentences))


def _taste(rng: random.Random) -> tuple[str, ...]:
    """Draw one value per dimension that one answer can have together."""
    while True:
        taste = tuple(rng.choice(VALUES[dimension]) for dimension in DIMENSIONS)
        # A list of three points is not very short.
        if not ("length:brief" in taste and {"format:numbered", "format:bullets"} & set(taste)):
            return taste


def _stated(taste: tuple[str, ...], rng: random.Random) -> list[str]:
    """Return the two to four wishes that a user mentions this time."""
    count = rng.choices((2, 3, 4), weights=(35, 45, 20))[0]
    if "length:brief" in taste:
        count = 2  # a line or two has room for one more wish
    return rng.sample(taste, count)


def _context(stated: list[str], rng: random.Random) -> str:
    sentences = [rng.choice(PREFERENCES[name].wordings) for name in stated]
    if rng.random() < 0.4:
        sentences.insert(rng.randrange(len(sentences) + 1), rng.choice(TEXTS.about_me))
    return " ".join(sentences)


def _habit(stated: list[str], followed_share: float, rng: random.Random) -> Style:
    """Return the style of the base model's answer to a user who stated these wishes."""
    followed = [name for name in stated if rng.random() < followed_share]
    mentioned = {name.partition(":")[0] for name in stated}
    for dimension in DIMENSIONS:
        if dimension not in mentioned and rng.random() < _UNASKED:
            followed.append(rng.choice(VALUES[dimension]))
    return Style.of(*followed, half_hearted=rng.random() < _HALF_HEARTED)


def _item(topic: DemoTopic, kind: Kind, wording: int, user: User, seed: int) -> Item:
    group_id = f"{topic.slug}-{kind}-{wording}"
    item_id = f"{group_id}-{user.user_id}"
    rng = item_rng(seed, "demo", VERSION, item_id)
    stated = _stated(user.taste, rng)
    context = _context(stated, rng)
    # References are good, not perfect, as those of people are: an answer can beat them.
    style = Style.of(*stated, half_hearted=rng.random() < 2 * _HALF_HEARTED)
    return Item(
        item_id=item_id,
        prompt=topic.question(kind, wording),
        context=context,
        preferences=tuple(PREFERENCES[name].statement for name in stated),
        reference=compose(topic, kind, style, rng),
        user_id=user.user_id,
        group_id=group_id,
        meta={"world": VERSION, "topic": topic.slug, "kind": kind, "wishes": stated},
    )
