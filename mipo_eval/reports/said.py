"""What judges and people said of the responses of stored runs, read back alike from any protocol.

A judge that rates prefers what it rates higher; one that chooses prefers what it named in both
places; a person, what they labelled.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from mipo_eval.judges import Verdict, merge_orders
from mipo_eval.store import Store
from mipo_eval.store.choices import Winner
from mipo_eval.store.runs import Run
from mipo_eval.store.tables import choices, item_lists, items, responses, verdicts
from mipo_eval.store.verdicts import totals


class Duel(NamedTuple):
    """A run's response and what it is compared with."""

    item_key: str
    own_key: str
    other_key: str


class About(NamedTuple):
    """What statistics need of an item."""

    group: str
    """Of its prompt: what is resampled together."""
    wishes: int
    """How many preferences it has."""


Duels = Mapping[Duel, About]
"""In the order of a run's items."""


def duels_of(store: Store, run: Run, other: Run | None = None) -> Duels:
    """Return a run's responses beside the references, or beside another run's to the same items.

    Items without both texts are left out, and so are equal texts; equal items are there once.
    """
    one, two = responses.alias(), responses.alias()
    own = (one.c.item_key == item_lists.c.item_key) & (one.c.generation_key == run.generation_key)
    query = (
        sa.select(
            item_lists.c.item_key,
            one.c.text_key,
            items.c.reference_key,
            items.c.group_id,
            items.c.n_preferences,
        )
        .join(items, items.c.item_key == item_lists.c.item_key)
        .join(one, own)
        .where(item_lists.c.list_key == run.list_key)
        .order_by(item_lists.c.position)
    )
    if other is not None:
        theirs = (two.c.item_key == item_lists.c.item_key) & (
            two.c.generation_key == other.generation_key
        )
        query = query.with_only_columns(
            item_lists.c.item_key,
            one.c.text_key,
            two.c.text_key,
            items.c.group_id,
            items.c.n_preferences,
        ).join(two, theirs)
    found: dict[Duel, About] = {}
    with store.read() as connection:
        for item, own_key, other_key, group, wishes in connection.execute(query):
            if own_key and other_key and own_key != other_key:
                found.setdefault(Duel(item, own_key, other_key), About(group or item, wishes))
    return found


def items_of(store: Store, run: Run) -> dict[str, About]:
    """Return a run's items by their keys."""
    query = (
        sa.select(items.c.item_key, items.c.group_id, items.c.n_preferences)
        .join(item_lists, items.c.item_key == item_lists.c.item_key)
        .where(item_lists.c.list_key == run.list_key)
    )
    with store.read() as connection:
        return {item: About(group or item, n) for item, group, n in connection.execute(query)}


def said_of(store: Store, run: Run, judge_key: str, duels: Duels) -> dict[Duel, Verdict]:
    """Return what a judge or a person said of a run's duels, where they said anything.

    "a" is the run's own response. One order that is missing or unread leaves a judge that was
    asked in both places without a verdict.
    """
    found = _rated(store, run, judge_key, duels)
    found.update(_chosen(store, run, judge_key, duels))
    return found


def _rated(store: Store, run: Run, judge_key: str, duels: Duels) -> dict[Duel, Verdict]:
    sums = totals(store, judge_key, run.list_key)
    found: dict[Duel, Verdict] = {}
    for duel, about in duels.items():
        own = sums.get((duel.item_key, duel.own_key))
        other = sums.get((duel.item_key, duel.other_key))
        if own is not None and other is not None and own.rated == other.rated == about.wishes:
            ahead = own.points - other.points
            found[duel] = "tie" if ahead == 0 else "a" if ahead > 0 else "b"
    return found


_EXCHANGED: dict[Winner, Winner] = {"a": "b", "b": "a", "tie": "tie"}


def _chosen(store: Store, run: Run, judge_key: str, duels: Duels) -> dict[Duel, Verdict]:
    of_list = sa.select(item_lists.c.item_key).where(item_lists.c.list_key == run.list_key)
    query = sa.select(
        choices.c.item_key,
        choices.c.text_key_a,
        choices.c.text_key_b,
        choices.c.shown_first,
        choices.c.winner,
    ).where(choices.c.judge_key == judge_key, choices.c.item_key.in_(of_list))
    made: dict[Duel, dict[str, Verdict | None]] = {}
    with store.read() as connection:
        for item, a, b, shown, winner in connection.execute(query):
            straight, turned = Duel(item, a, b), Duel(item, b, a)
            if straight in duels:
                made.setdefault(straight, {})[shown] = winner
            elif turned in duels:
                made.setdefault(turned, {})[f"turned {shown}"] = winner and _EXCHANGED[winner]
    joined = {duel: _joined(list(orders.values())) for duel, orders in made.items()}
    return {duel: verdict for duel, verdict in joined.items() if verdict is not None}


def _joined(said: Sequence[Verdict | None]) -> Verdict | None:
    first = said[0]
    for other in said[1:]:
        first = merge_orders(first, other)
    return first


def ratings_by(
    store: Store, run: Run, judge_keys: Sequence[str]
) -> Mapping[str, dict[tuple[str, str, int], int]]:
    """Return every rating that judges gave to a run's own responses.

    By judge, keyed by item, text and preference; judges that rated nothing of it are there too.
    """
    own = (
        sa.select(responses.c.item_key, responses.c.text_key)
        .where(responses.c.generation_key == run.generation_key)
        .subquery()
    )
    of_list = sa.select(item_lists.c.item_key).where(item_lists.c.list_key == run.list_key)
    same_text = (own.c.item_key == verdicts.c.item_key) & (own.c.text_key == verdicts.c.text_key)
    query = (
        sa.select(
            verdicts.c.judge_key,
            verdicts.c.item_key,
            verdicts.c.text_key,
            verdicts.c.aspect,
            verdicts.c.rating,
        )
        .join(own, same_text)
        .where(
            verdicts.c.judge_key.in_(judge_keys),
            verdicts.c.item_key.in_(of_list),
            verdicts.c.rating.is_not(None),
        )
    )
    found: dict[str, dict[tuple[str, str, int], int]] = {key: {} for key in judge_keys}
    with store.read() as connection:
        for judge, item, text, aspect, rating in connection.execute(query):
            found[judge][item, text, aspect] = rating
    return found
