"""Blind labels: which of two responses a person prefers, in an order drawn for that person.

A person is a judge of kind human, and what they prefer is kept as choices, as `validate` reads
them (`judges.people`). Everybody gets the pairs in one order, so that several people soon have
some in common; which response stands first is drawn per person and pair.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple

import pandas as pd
import sqlalchemy as sa

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.judges.people import labels_of
from mipo_eval.keys import digest, item_rng
from mipo_eval.metrics.agreement import cohen_kappa
from mipo_eval.records import Item, clean_text
from mipo_eval.store import Store
from mipo_eval.store.runs import Run
from mipo_eval.store.tables import choices, generations, item_lists, items, judges, responses
from mipo_eval.verdict import Verdict

Preferred = Literal["first", "second", "tie"]

SKIPPED = "skipped by the person"
_MAX_NAME = 60


class Pair(NamedTuple):
    """Two different texts for one item."""

    item_key: str
    text_key_a: str
    """Of the first run's response."""
    text_key_b: str
    """Of the second run's, or the reference."""

    @property
    def key(self) -> str:
        """Content key of the pair."""
        return digest(list(self))


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The pairs of two runs, in the order in which everybody gets them."""

    pairs: tuple[Pair, ...]
    equal: int
    """Items left out because both texts are the same."""
    absent: int
    """Items left out because one of the texts is missing."""


class Shown(NamedTuple):
    """A pair as one person sees it."""

    item: Item
    first: str
    second: str


def person_name(written: str) -> str:
    """Return a person's name as it is stored: one line, no spaces around.

    Raises:
        ConfigError: nothing is left, or it is too long.
    """
    name = " ".join(clean_text(written).split())
    if not name or len(name) > _MAX_NAME:
        raise ConfigError(f"a name has 1 to {_MAX_NAME} characters; this one has {len(name)}")
    return name


def person_spec(name: str) -> dict[str, str]:
    """Return the judge's spec that a person is."""
    return {"kind": "human", "name": name}


def stack(store: Store, run: Run, other: Run | None) -> Stack:
    """Return the pairs of a run's responses with another's, or with the references.

    Args:
        store: where the responses are.
        run: whose item list and responses.
        other: the other run; None: the items' references.
    """
    one, two = responses.alias(), responses.alias()
    own = (one.c.item_key == item_lists.c.item_key) & (one.c.generation_key == run.generation_key)
    query = sa.select(item_lists.c.item_key, one.c.text_key, items.c.reference_key)
    query = query.join(items, items.c.item_key == item_lists.c.item_key).outerjoin(one, own)
    if other is not None:
        theirs = (two.c.item_key == item_lists.c.item_key) & (
            two.c.generation_key == other.generation_key
        )
        query = query.with_only_columns(
            item_lists.c.item_key, one.c.text_key, two.c.text_key
        ).outerjoin(two, theirs)
    query = query.where(item_lists.c.list_key == run.list_key).order_by(item_lists.c.position)
    with store.read() as connection:
        rows = connection.execute(query).fetchall()
    pairs = [Pair(*row) for row in rows if row[1] and row[2] and row[1] != row[2]]
    equal = sum(bool(row[1]) and row[1] == row[2] for row in rows)
    # Equal items may stand in several tasks of a list; one label is enough.
    drawn = list(dict.fromkeys(pairs))
    item_rng(0, run.run_id, other.run_id if other else "reference").shuffle(drawn)
    return Stack(pairs=tuple(drawn), equal=equal, absent=len(rows) - len(pairs) - equal)


def shown_first(person: str, pair: Pair) -> Literal["a", "b"]:
    """Return which text of a pair a person sees first: drawn once, and then always the same."""
    return "a" if item_rng(0, "label", person, pair.key).random() < 0.5 else "b"


def show_pair(store: Store, person: str, pair: Pair) -> Shown:
    """Return a pair's item and texts in the person's order.

    Raises:
        DataError: the store does not hold one of the texts.
    """
    with store.read() as connection:
        body, reference = connection.execute(
            sa.select(items.c.body, items.c.reference_key).where(items.c.item_key == pair.item_key)
        ).one()
        found = sa.select(responses.c.text_key, responses.c.text).where(
            responses.c.generation_key.in_(sa.select(generations.c.generation_key)),
            responses.c.item_key == pair.item_key,
            responses.c.text_key.in_([pair.text_key_a, pair.text_key_b]),
        )
        texts = {key: text for key, text in connection.execute(found) if text is not None}
    item = Item.model_validate_json(body)
    if reference and item.reference is not None:
        texts.setdefault(reference, item.reference)
    if pair.text_key_a not in texts or pair.text_key_b not in texts:
        raise DataError(f"the store does not hold both texts for item {item.item_id}: skip it")
    first, second = texts[pair.text_key_a], texts[pair.text_key_b]
    if shown_first(person, pair) == "b":
        first, second = second, first
    return Shown(item, first, second)


def put_label(store: Store, person: str, pair: Pair, preferred: Preferred | None) -> None:
    """Store what a person prefers; a later answer to the same pair replaces the earlier.

    Args:
        store: opened for writing.
        person: their name.
        pair: what they saw.
        preferred: by place; None: skipped, which is no tie.
    """
    shown = shown_first(person, pair)
    places: dict[Preferred | None, Verdict | None] = {
        "first": shown,
        "second": "b" if shown == "a" else "a",
        "tie": "tie",
        None: None,
    }
    spec = person_spec(person)
    judge = {"judge_key": digest(spec), "name": person, "spec": spec}
    row = {
        **dict.fromkeys(column.name for column in choices.columns),
        "judge_key": judge["judge_key"],
        **pair._asdict(),
        "shown_first": shown,
        "winner": places[preferred],
        "reason": SKIPPED if preferred is None else None,
    }
    with store.write() as connection:
        store.put(connection, judges, [judge])
        # Unlike a model, a person who looks again may know better.
        store.put(connection, choices, [row], replace=["winner", "reason"])


def labels(store: Store, person: str) -> dict[Pair, Verdict | None]:
    """Return what a person said of every pair they were shown; None is skipped."""
    query = sa.select(
        choices.c.item_key, choices.c.text_key_a, choices.c.text_key_b, choices.c.winner
    ).where(choices.c.judge_key == digest(person_spec(person)))
    with store.read() as connection:
        return {Pair(item, a, b): winner for item, a, b, winner in connection.execute(query)}


def next_pair(pairs: Sequence[Pair], said: Collection[Pair]) -> Pair | None:
    """Return the first pair that a person has not seen; None at the end."""
    return next((pair for pair in pairs if pair not in said), None)


def people(store: Store) -> dict[str, str]:
    """Return the names of all who labelled something, by key."""
    known = sa.select(judges.c.judge_key, judges.c.name, judges.c.spec).where(
        judges.c.judge_key.in_(sa.select(choices.c.judge_key).distinct())
    )
    with store.read() as connection:
        return {
            key: name
            for key, name, spec in connection.execute(known.order_by(judges.c.name))
            if spec.get("kind") == "human"
        }


def agreement_table(store: Store) -> pd.DataFrame:
    """Return how far each two people agree, over the pairs that both labelled, of all runs.

    Columns: first, second, pairs, agreement (%), kappa (Cohen's, beyond chance; absent where both
    gave one and the same label only), tie_first and tie_second (% of ties, the base rate that
    kappa depends on).
    """
    known = people(store)
    said = list(labels_of(store, list(known)).values())
    columns = ["first", "second", "pairs", "agreement", "kappa", "tie_first", "tie_second"]
    lines = []
    for i, j in combinations(range(len(known)), 2):
        both = [(one[i], one[j]) for one in said if one[i] is not None and one[j] is not None]
        if both:
            names = list(known.values())
            lines.append((names[i], names[j], *_agreement(both)))
    return pd.DataFrame(lines, columns=columns)


def _agreement(both: Sequence[tuple[object, object]]) -> tuple[object, ...]:
    n = len(both)
    first, second = zip(*both, strict=True)
    same = 100 * sum(a == b for a, b in both) / n
    ties = 100 * first.count("tie") / n, 100 * second.count("tie") / n
    return n, same, cohen_kappa(first, second), *ties


def progress_table(store: Store, pairs: Sequence[Pair]) -> pd.DataFrame:
    """Return who labelled how many of these pairs: person, labelled, skipped, left."""
    lines = []
    for name in people(store).values():
        said: Mapping[Pair, Verdict | None] = labels(store, name)
        own = [said[pair] for pair in pairs if pair in said]
        lines.append((name, len(own) - own.count(None), own.count(None), len(pairs) - len(own)))
    return pd.DataFrame(lines, columns=["person", "labelled", "skipped", "left"])
