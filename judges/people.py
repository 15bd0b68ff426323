"""Labels that people gave to responses in the store, as on the board's Label page.

A person is a judge whose spec says `kind: human`; what they preferred is kept as choices.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

import sqlalchemy as sa

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.judges.labelled import LabelledPair, majority
from mipo_eval.judges.verdict import Verdict, exchanged
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.store.tables import choices, items, judges, responses

EVERYBODY = "people"
"""Stands for everybody of kind human."""
_CHUNK = 500


class LabelledTexts(NamedTuple):
    """What one person said of two texts of an item."""

    item_key: str
    first_key: str
    second_key: str
    """The two keys are in order, so that all people mean the same text by "a"."""


def labels_of(store: Store, people: Sequence[str]) -> dict[LabelledTexts, list[Verdict | None]]:
    """Return what each of these people said, in their order, of every pair that one of them saw.

    Who was shown a pair twice and contradicted themselves called it a tie.
    """
    query = (
        sa.select(
            choices.c.judge_key,
            choices.c.item_key,
            choices.c.text_key_a,
            choices.c.text_key_b,
            choices.c.winner,
        )
        .where(choices.c.judge_key.in_(people), choices.c.winner.is_not(None))
        .order_by(choices.c.item_key, choices.c.text_key_a, choices.c.text_key_b)
    )
    said: dict[LabelledTexts, dict[str, set[Verdict | None]]]
    said = defaultdict(lambda: defaultdict(set))
    with store.read() as connection:
        for person, item, a, b, winner in connection.execute(query):
            pair, told = (LabelledTexts(item, a, b), winner) if a <= b else (
                LabelledTexts(item, b, a), exchanged(winner),
            )  # fmt: skip
            said[pair][person].add(told)
    return {
        pair: [_one(by_person.get(person, set())) for person in people]
        for pair, by_person in said.items()
    }


def _one(told: Collection[Verdict | None]) -> Verdict | None:
    return None if not told else next(iter(told)) if len(told) == 1 else "tie"


def find_people(store: Store, names: Sequence[str]) -> tuple[str, ...]:
    """Return the keys of people by their names; `people` stands for everybody of kind human.

    Raises:
        ConfigError: nobody of that name has labelled anything.
    """
    query = (
        sa.select(judges.c.judge_key, judges.c.name, judges.c.spec)
        .where(judges.c.judge_key.in_(sa.select(choices.c.judge_key).distinct()))
        .order_by(judges.c.name, judges.c.judge_key)
    )
    with store.read() as connection:
        known = [(key, name, spec.get("kind")) for key, name, spec in connection.execute(query)]
    found: list[str] = []
    for wanted in names:
        own = [
            key
            for key, name, kind in known
            if (kind == "human" if wanted == EVERYBODY else name == wanted)
        ]
        if not own:
            people = ", ".join(name for _, name, kind in known if kind == "human") or "nobody yet"
            raise ConfigError(
                f"nobody called {wanted!r} has labelled pairs in {store.name}; who has: {people}"
            )
        found += [key for key in own if key not in found]
    return tuple(found)


def people_pairs(store: Store, names: Sequence[str]) -> tuple[LabelledPair, ...]:
    """Return the pairs that people labelled in the store, with the majority's label.

    Pairs on which no label is ahead are left out, and so are those whose texts the store does not
    hold.

    Args:
        store: where the labels are.
        names: of people, or `people` for everybody.

    Raises:
        ConfigError: nobody of that name has labelled anything.
        DataError: not one pair is left.
    """
    labels = labels_of(store, find_people(store, names))
    bodies = _items(store, {pair.item_key for pair in labels})
    texts = _texts(store, {key for pair in labels for key in (pair.first_key, pair.second_key)})
    texts |= _references(store, set(bodies))
    made = []
    for pair, said in labels.items():
        label = majority(said)
        item, first, second = (
            bodies.get(pair.item_key),
            texts.get(pair.first_key),
            texts.get(pair.second_key),
        )
        if label is None or item is None or first is None or second is None:
            continue
        made.append(
            LabelledPair(
                pair_id=f"{item.item_id}/{pair.first_key[:8]}-{pair.second_key[:8]}",
                prompt=item.prompt,
                first=first,
                second=second,
                label=label,
                preferences=item.preferences,
                annotators=tuple(said),
                group=item.group,
            )
        )
    if not made:
        raise DataError(
            f"{len(labels)} labelled pairs in {store.name}, and not one with a majority and both "
            "texts: label more"
        )
    return tuple(made)


def _items(store: Store, keys: Collection[str]) -> dict[str, Item]:
    query = sa.select(items.c.item_key, items.c.body)
    return {
        key: Item.model_validate_json(body)
        for key, body in _rows(store, query, items.c.item_key, keys)
    }


def _texts(store: Store, keys: Collection[str]) -> dict[str, str]:
    query = sa.select(responses.c.text_key, responses.c.text).where(responses.c.text.is_not(None))
    return dict(_rows(store, query, responses.c.text_key, keys))


def _references(store: Store, keys: Collection[str]) -> dict[str, str]:
    query = sa.select(items.c.reference_key, items.c.body).where(items.c.reference_key.is_not(None))
    return {
        key: Item.model_validate_json(body).reference or ""
        for key, body in _rows(store, query, items.c.item_key, keys)
    }


def _rows(
    store: Store,
    query: sa.Select[Any],
    column: sa.Column[Any],
    keys: Collection[str],
) -> list[tuple[str, str]]:
    """Return the rows of a query whose column is one of these keys, a few hundred at a time."""
    wanted = sorted(keys)
    found: list[tuple[str, str]] = []
    with store.read() as connection:
        for start in range(0, len(wanted), _CHUNK):
            chunk = query.where(column.in_(wanted[start : start + _CHUNK]))
            found += [(key, text) for key, text in connection.execute(chunk)]
    return found
