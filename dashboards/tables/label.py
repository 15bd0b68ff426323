"""Blind labels: which of two responses a person prefers, in an order drawn for that person.

A person is a judge of kind human, and what they prefer is kept as choices, as `validate` reads
them (`judges.people`). Everybody gets the pairs in one order, so that several people soon have
some in common; which response stands first is drawn per person and pair.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import pandas as pd

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.judges.panel import agreement_matrix
from mipo_eval.judges.people import labels_of
from mipo_eval.keys import clean_text, digest, item_rng
from mipo_eval.records import Item, Run, text_key
from mipo_eval.store.engine import Store
from mipo_eval.store.items import get_item
from mipo_eval.store.judges import StoredJudge, choosers, put_judge
from mipo_eval.store.responses import paired_texts, responses_to
from mipo_eval.store.verdicts import choices_on, put_choices
from mipo_eval.verdict import Choice, Pair, Verdict

Preferred = Literal["first", "second", "tie"]

SKIPPED = "skipped by the person"
_MAX_NAME = 60


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
    rows = paired_texts(store, run, other)
    pairs = [row.pair for row in rows if row.pair and row.first != row.second]
    equal = sum(row.pair is not None for row in rows) - len(pairs)
    # Equal items may stand in several tasks of a list; one label is enough.
    drawn = list(dict.fromkeys(pairs))
    item_rng(0, run.run_id, other.run_id if other else "reference").shuffle(drawn)
    return Stack(pairs=tuple(drawn), equal=equal, absent=len(rows) - len(pairs) - equal)


def key_of(pair: Pair) -> str:
    """Return the content key of a pair."""
    return digest(list(pair))


def shown_first(person: str, pair: Pair) -> Literal["a", "b"]:
    """Return which text of a pair a person sees first: drawn once, and then always the same."""
    return "a" if item_rng(0, "label", person, key_of(pair)).random() < 0.5 else "b"


def show_pair(store: Store, person: str, pair: Pair) -> Shown:
    """Return a pair's item and texts in the person's order.

    Raises:
        DataError: the store does not hold one of the texts.
    """
    item = get_item(store, pair.item_key)
    made = responses_to(store, pair.item_key).values()
    texts = {key: response.text for key, response in made if response.text is not None}
    if item.reference is not None:
        texts.setdefault(text_key(item.reference), item.reference)
    first, second = texts.get(pair.first), texts.get(pair.second)
    if first is None or second is None:
        raise DataError(f"the store does not hold both texts for item {item.item_id}: skip it")
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
    label = Choice(
        judge_key=digest(spec),
        item_key=pair.item_key,
        text_key_a=pair.first,
        text_key_b=pair.second,
        shown_first=shown,
        winner=places[preferred],
        reason=SKIPPED if preferred is None else None,
    )
    put_judge(store, label.judge_key, person, spec)
    with store.write() as connection:
        put_choices(store, connection, [label], again=True)


def labels(store: Store, person: str) -> dict[Pair, Verdict | None]:
    """Return what a person said of every pair they were shown; None is skipped."""
    return {
        Pair(said.item_key, said.text_key_a, said.text_key_b): said.winner
        for said in choices_on(store, digest(person_spec(person)))
    }


def next_pair(pairs: Sequence[Pair], said: Collection[Pair]) -> Pair | None:
    """Return the first pair that a person has not seen; None at the end."""
    return next((pair for pair in pairs if pair not in said), None)


def people(store: Store) -> list[StoredJudge]:
    """Return all who labelled something, by name."""
    return [judge for judge in choosers(store) if judge.is_person]


def agreement_table(store: Store) -> pd.DataFrame:
    """Return how far each two people agree, over the pairs that both labelled, of all runs.

    Columns: first, second, pairs, agreement (%), kappa (Cohen's, beyond chance; absent where both
    gave one and the same label only), tie_first and tie_second (% of ties, the base rate that
    kappa depends on).
    """
    names = {person.key: person.name for person in people(store)}
    told = list(labels_of(store, list(names)).values())
    said = {key: [one[place] for one in told] for place, key in enumerate(names)}
    lines = []
    for (first, second), found in agreement_matrix(said).items():
        if found.n:
            both = [pair for pair in zip(said[first], said[second], strict=True) if all(pair)]
            ties = [100 * [pair[side] for pair in both].count("tie") / found.n for side in (0, 1)]
            about = (names[first], names[second], found.n, found.share, found.kappa)
            lines.append((*about, *ties))
    columns = ["first", "second", "pairs", "agreement", "kappa", "tie_first", "tie_second"]
    return pd.DataFrame(lines, columns=columns)


def progress_table(store: Store, pairs: Sequence[Pair]) -> pd.DataFrame:
    """Return who labelled how many of these pairs: person, labelled, skipped, left."""
    lines = []
    for person in people(store):
        said = labels(store, person.name)
        own = [said[pair] for pair in pairs if pair in said]
        counts = (len(own) - own.count(None), own.count(None), len(pairs) - len(own))
        lines.append((person.name, *counts))
    return pd.DataFrame(lines, columns=["person", "labelled", "skipped", "left"])
