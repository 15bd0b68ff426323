"""What judges and people said of the responses of stored runs, read back alike from any protocol.

A judge that rates prefers what it rates higher; one that chooses prefers what it named in both
places; a person, what they labelled.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import sqlalchemy as sa

from mipo_eval.store import Store
from mipo_eval.store.runs import Run
from mipo_eval.store.tables import item_lists, items, responses, verdicts


class About(NamedTuple):
    """What statistics need of an item."""

    group: str
    """Of its prompt: what is resampled together."""
    wishes: int
    """How many preferences it has."""


def items_of(store: Store, run: Run) -> dict[str, About]:
    """Return a run's items by their keys."""
    query = (
        sa.select(items.c.item_key, items.c.group_id, items.c.n_preferences)
        .join(item_lists, items.c.item_key == item_lists.c.item_key)
        .where(item_lists.c.list_key == run.list_key)
    )
    with store.read() as connection:
        return {item: About(group or item, n) for item, group, n in connection.execute(query)}


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
