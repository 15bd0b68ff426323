"""What judges said of texts, added up per text in the database and laid out as arrays."""

import gc
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from mipo_eval.records import text_key
from mipo_eval.stats import Crossed
from mipo_eval.stats.bootstrap import Floats
from mipo_eval.store import Store
from mipo_eval.store.tables import item_lists, items, responses, verdicts

NOT_GENERATED = "not generated"
EMPTY = "empty response"
NO_REFERENCE = "item has no reference"
NO_PREFERENCES = "item has no preferences"
NOT_JUDGED = "not judged"

_FETCH = 50_000
_NOTHING = text_key("")

Index = NDArray[np.intp]
Why = Mapping[int, str]
"""Row of an item that has no value to the reason."""


class ItemList(NamedTuple):
    """The items of a suite, in order; one entry per item in each field."""

    tasks: Mapping[str, Index]
    """Task to the rows of its items."""
    keys: Sequence[str]
    groups: Sequence[Crossed]
    wanted: Floats
    """How many preferences an item has, and so how many ratings a text needs."""
    references: Sequence[str | None]
    """Keys of the reference texts."""


def read_list(store: Store, list_key: str) -> ItemList:
    """Return the items of a list."""
    query = (
        sa.select(
            item_lists.c.task,
            item_lists.c.item_key,
            items.c.group_id,
            items.c.user_id,
            items.c.n_preferences,
            items.c.reference_key,
        )
        .join(items, items.c.item_key == item_lists.c.item_key)
        .where(item_lists.c.list_key == list_key)
        .order_by(item_lists.c.position)
    )
    rows = fetch(store, query)
    tasks: dict[str, list[int]] = {}
    for row, (task, *_) in enumerate(rows):
        tasks.setdefault(task, []).append(row)
    return ItemList(
        tasks={task: np.array(own, dtype=np.intp) for task, own in tasks.items()},
        keys=[key for _, key, *_ in rows],
        groups=[Crossed(group, user) for _, _, group, user, *_ in rows],
        wanted=np.array([wanted for *_, wanted, _ in rows], dtype=np.float64),
        references=[reference for *_, reference in rows],
    )


def fetch(store: Store, query: sa.Select[Any]) -> list[Any]:
    """Return all rows of a query at once."""
    with store.read() as connection:
        result = connection.execution_options(yield_per=_FETCH).execute(query)
        return [row for part in result.partitions() for row in part]


@contextmanager
def without_collection() -> Iterator[None]:
    """Hold Python's cycle collector while much is read.

    Hundreds of thousands of tuples without a cycle among them: looking for one takes half the
    time.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


class Rated(NamedTuple):
    """One number per item of a list: a text's ratings added up, or what was measured of it."""

    values: Floats
    """(items,); NaN where there is none, as when one of a text's ratings is missing."""
    why: Why


class Totals:
    """Every text a judge rated, added up in the database: one row a text comes back.

    The verdicts are read in the order they are stored in: looking texts up one by one is many
    times slower once a store is larger than the database's page cache.
    """

    def __init__(self, store: Store, judge_key: str, lists: Collection[str]) -> None:
        listed = sa.select(item_lists.c.item_key).where(item_lists.c.list_key.in_(lists))
        query = (
            sa.select(
                verdicts.c.item_key + verdicts.c.text_key,
                sa.func.count(verdicts.c.rating),
                sa.func.coalesce(sa.func.sum(verdicts.c.rating), 0),
                sa.func.min(verdicts.c.reason),
            )
            .where(verdicts.c.judge_key == judge_key, verdicts.c.item_key.in_(listed))
            .group_by(verdicts.c.item_key, verdicts.c.text_key)
        )
        rows = fetch(store, query)
        columns: Any = zip(*rows, strict=True) if rows else ((), (), (), ())
        names, numbers, points, reasons = columns
        self._row = dict(zip(names, range(len(names)), strict=True))
        # The last row stands for a text without any verdict, and for no text.
        self._number = np.array([*numbers, 0], dtype=np.float64)
        self._points = np.array([*points, 0], dtype=np.float64)
        self._reasons: tuple[str | None, ...] = (*reasons, None)

    def of(self, listed: ItemList, texts: "Texts") -> Rated:
        """Return the ratings of one text per item."""
        last = len(self._number) - 1
        found = np.fromiter(map(self._row.get, texts.names, repeat(last)), np.intp)
        whole = (self._number[found] == listed.wanted) & (listed.wanted > 0)
        if texts.absent:
            whole[list(texts.absent)] = False
        why = {
            row: texts.absent.get(row) or self._unrated(found[row], listed.wanted[row])
            for row in np.flatnonzero(~whole).tolist()
        }
        return Rated(np.where(whole, self._points[found], np.nan), why)

    def _unrated(self, row: int, wanted: float) -> str:
        return NO_PREFERENCES if not wanted else self._reasons[row] or NOT_JUDGED


class Texts(NamedTuple):
    """One text per item of a list."""

    names: Sequence[str | None]
    """The item's key and the text's in one; None where there is no text."""
    absent: Why
    """Why there is none."""


def references(listed: ItemList) -> Texts:
    """Return the reference texts of a list."""
    names = [
        reference and key + reference
        for key, reference in zip(listed.keys, listed.references, strict=True)
    ]
    return Texts(names, {row: NO_REFERENCE for row, name in enumerate(names) if not name})


def answers(store: Store, generation_key: str, listed: ItemList) -> Texts:
    """Return what a generation answered to the items of a list."""
    empty = responses.c.text_key == _NOTHING
    query = sa.select(
        responses.c.item_key,
        sa.case((~empty, responses.c.item_key + responses.c.text_key)),
        responses.c.reason,
    ).where(responses.c.generation_key == generation_key)
    rows = fetch(store, query)
    columns: Any = zip(*rows, strict=True) if rows else ((), (), ())
    keys, made, reasons = columns
    named = dict(zip(keys, made, strict=True))
    names = list(map(named.get, listed.keys))
    absent: dict[int, str] = {}
    if None in names:
        why = dict(zip(keys, reasons, strict=True))
        for row in [row for row, name in enumerate(names) if name is None]:
            key = listed.keys[row]
            absent[row] = (why[key] or EMPTY) if key in why else NOT_GENERATED
    return Texts(names, absent)
