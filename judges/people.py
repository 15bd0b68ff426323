"""Labels that people gave to responses in the store, as on the board's Label page.

A person is a judge whose spec says `kind: human`; what they preferred is kept as choices.
"""

from collections.abc import Collection, Sequence
from typing import Any

import sqlalchemy as sa

from mipo_eval.errors import DataError
from mipo_eval.judges.labelled import LabelledPair, majority
from mipo_eval.records import Item
from mipo_eval.store import Store
from mipo_eval.store.judges import find_people
from mipo_eval.store.tables import items, responses
from mipo_eval.store.verdicts import chosen_pairs, pair_verdicts
from mipo_eval.verdict import Pair, Verdict

_CHUNK = 500


def labels_of(store: Store, people: Sequence[str]) -> dict[Pair, list[Verdict | None]]:
    """Return what each of these people said, in their order, of every pair that one of them saw.

    All people mean the same text by "a": the pair is as it was stored first. Who was
    shown a pair twice and contradicted themselves called it a tie.
    """
    pairs = chosen_pairs(store, people)
    said = [[one.winner for one in pair_verdicts(store, person, pairs)] for person in people]
    told = zip(pairs, zip(*said, strict=True), strict=True)
    return {pair: list(by_person) for pair, by_person in told if any(by_person)}


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
    texts = _texts(store, {key for pair in labels for key in (pair.first, pair.second)})
    texts |= _references(store, set(bodies))
    made = []
    for pair, said in labels.items():
        label = majority(said)
        item, first, second = (
            bodies.get(pair.item_key),
            texts.get(pair.first),
            texts.get(pair.second),
        )
        if label is None or item is None or first is None or second is None:
            continue
        made.append(
            LabelledPair(
                pair_id=f"{item.item_id}/{pair.first[:8]}-{pair.second[:8]}",
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
