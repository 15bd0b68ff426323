"""The items of the suite, drawn by a seed: users with a life and wishes, and what they ask.

    {"item_id": "oven-test-user-07",
     "prompt": "What is the best way to clean a very dirty oven?",
     "context": "My name is Ruth. I own a telescope. No exclamation marks, please. I live in ...",
     "preferences": ["Use no exclamation marks.", ...], "meta": {"wishes": [...], ...}}

Users, questions, facts and a third of the wordings of the test split are nowhere in training. The
items ship as data; `python -m mipo_eval.everyday.world` writes them again.
"""

import gzip
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TypeVar

from mipo_eval.everyday.tables import (
    FACTS_LEFT_OUT,
    NAME,
    PLAIN,
    Fact,
    Question,
    Split,
    Wish,
    facts,
    first_names,
    questions,
    statement,
    wishes,
)
from mipo_eval.keys import item_rng
from mipo_eval.records import Item

VERSION = "1"
"""Changes with every change of an item; part of each item's metadata."""

_USERS = {"train": 400, "test": 60}
_ROUNDS = 5
"""How many questions each user asks."""
_APART = {"train": 37, "test": 13}
"""How far apart a user's questions stand in the order they are drawn in."""
_HELD_OUT = 3
"""One in so many names, facts and wordings is for testing."""
_TEST_QUESTIONS = 5
"""Of each field of 20."""
_FOREIGN = 0.3
"""Share of users who wish for another language than English."""
_UNSTATED = 4
"""One item in so many states no wish."""

_ONE_OF = (
    {"form:bullets", "form:numbered", "form:paragraph", "form:table"},
    {"form:headings", "form:paragraph"},
    {"length:brief", "length:two_sentences", "length:detailed"},
    {"length:two_sentences", "length:short_sentences"},
    {"frame:direct", "frame:name"},
    {"frame:question", "frame:summary"},
    {"language:spanish", "language:french", "language:german"},
    {"wording:lower_case", "language:german"},
    *({"length:brief", "form:" + kind} for kind in ("bullets", "numbered", "table", "headings")),
    *(
        {"length:two_sentences", "form:" + kind}
        for kind in ("bullets", "numbered", "table", "headings")
    ),
    {"length:short_sentences", "form:table"},
)
"""Of each of these sets, one answer can follow one wish only."""
_ENGLISH = {
    "length:detailed",
    "frame:direct",
    "frame:summary",
    "wording:no_contractions",
    "wording:plain",
    "wording:british",
    "content:no_meat",
    "content:no_alcohol",
    "content:no_nuts",
}
"""What has a rule for English only."""
_SHORT = {"length:brief", "length:two_sentences"}
_TAKES_ROOM = ("content:", "frame:question", "frame:summary", "wording:metric", "wording:british")
"""Each needs a sentence of its own, and a short answer has room for one of them."""


@dataclass(frozen=True, slots=True)
class User:
    """Someone with a name, a life and a taste."""

    user_id: str
    name: str
    facts: tuple[Fact, ...]
    taste: tuple[Wish, ...]
    """Wishes that one answer can follow together."""


Entry = TypeVar("Entry")


def _of_split(entries: Sequence[Entry], split: Split) -> Sequence[Entry]:
    held_out = len(entries) // _HELD_OUT
    return entries[-held_out:] if split == "test" else entries[:-held_out]


def asked(split: Split) -> list[Question]:
    """Return the questions of a split."""
    fields: dict[str, list[Question]] = {}
    for question in questions():
        fields.setdefault(question.field, []).append(question)
    test = split == "test"
    return [
        question
        for own in fields.values()
        for question in (own[-_TEST_QUESTIONS:] if test else own[:-_TEST_QUESTIONS])
    ]


def items(split: Split, *, seed: int = 0) -> Iterator[Item]:
    """Yield the items of a split: 2,000 for training, 300 for testing.

    Each user asks five questions (`user_id`), and each question is asked by several users
    (`group_id`).
    """
    order = asked(split)
    item_rng(seed, "everyday", VERSION, split).shuffle(order)
    for number in range(_USERS[split]):
        user = _user(split, number, seed)
        for turn in range(_ROUNDS):
            question = order[(number + turn * _APART[split]) % len(order)]
            yield _item(question, user, split, seed, stated=(number + turn) % _UNSTATED != 0)


def _user(split: Split, number: int, seed: int) -> User:
    user_id = f"{split}-user-{number:03}"
    rng = item_rng(seed, "everyday", VERSION, user_id)
    known = _of_split(list(facts().values()), split)
    foreign = rng.sample([fact for fact in known if not fact.near], 2)  # to no question at all
    others = [fact for fact in known if fact not in foreign]
    life = [*foreign, *rng.sample(others, rng.choice((1, 2, 3)))]
    order = rng.sample(list(wishes().values()), len(wishes()))
    # A language goes with few other wishes: it comes first or it would hardly come at all.
    early = rng.random() < _FOREIGN
    order.sort(key=lambda wish: (wish.dimension == "language") != early)
    taste: list[Wish] = []
    for wish in order:
        if all(together(wish.name, other.name) for other in taste):
            taste.append(wish)
    name = rng.choice(_of_split(first_names(), split))
    return User(user_id, name, tuple(life), tuple(taste))


def together(one: str, other: str) -> bool:
    """Return whether one answer can follow both wishes."""
    pair = {one, other}
    if any(pair <= wanted for wanted in _ONE_OF):
        return False
    return not (pair & _ENGLISH and any(name.startswith("language:") for name in pair))


def _stated(user: User, question: Question, rng: random.Random) -> list[Wish]:
    """Return the two to four wishes that a user has for this question."""
    kinds: dict[str, list[Wish]] = {}
    for wish in user.taste:
        if not wish.fits or question.field in wish.fits:
            kinds.setdefault(wish.dimension, []).append(wish)
    count, chosen = rng.choice((2, 3, 3, 4)), list[Wish]()
    for dimension in rng.sample(sorted(kinds), len(kinds)):
        weights = [_seldom()[wish.name] for wish in kinds[dimension]]
        wish = rng.choices(kinds[dimension], weights)[0]
        if len(chosen) < count and _has_room([*chosen, wish]):
            chosen.append(wish)
    return chosen


@cache
def _seldom() -> Mapping[str, float]:
    """Return how much likelier a wish is drawn, since few others and few questions go with it."""
    fields = {question.field for question in questions()}
    return {
        name: (1 + sum(not together(name, other) for other in wishes()))
        * len(fields)
        / len(wish.fits or fields)
        for name, wish in wishes().items()
    }


def _has_room(chosen: Sequence[Wish]) -> bool:
    names = {wish.name for wish in chosen}
    room = sum(name.startswith(_TAKES_ROOM) for name in names)
    return not names & _SHORT or room <= 1


def _item(question: Question, user: User, split: Split, seed: int, *, stated: bool) -> Item:
    group_id = re.sub(r"\W+", "-", f"{question.field} {question.about.removeprefix('the ')}")
    item_id = f"{group_id}-{user.user_id}"
    rng = item_rng(seed, "everyday", VERSION, item_id)
    chosen = _stated(user, question, rng) if stated else []
    dragged = tuple(
        fact
        for fact in user.facts
        if question.field not in fact.near and not fact.cues.search(question.text)
    )
    said = [fact.said for fact in user.facts]
    said += [
        rng.choice(_of_split(wish.wordings, split)).replace(NAME, user.name) for wish in chosen
    ]
    rng.shuffle(said)
    names = [*(wish.name for wish in chosen), FACTS_LEFT_OUT, *([] if stated else [PLAIN])]
    return Item(
        item_id=item_id,
        prompt=question.text,
        context=" ".join([f"My name is {user.name}.", *said]),
        preferences=tuple(statement(name, user.name, dragged) for name in names),
        user_id=user.user_id,
        group_id=group_id,
        meta={
            "world": VERSION,
            "field": question.field,
            "about": question.about,
            "name": user.name,
            "wishes": names,
            "facts": [fact.name for fact in dragged],
        },
    )


def shipped(split: Split) -> Path:
    """Return the file that the items of a split ship in."""
    return Path(str(resources.files(__package__))) / f"{split}.jsonl.gz"


def write() -> None:
    """Write the files that ship; the same bytes every time."""
    for split in ("train", "test"):
        lines = "".join(f"{item.model_dump_json()}\n" for item in items(split))
        shipped(split).write_bytes(gzip.compress(lines.encode(), mtime=0))


if __name__ == "__main__":
    write()
