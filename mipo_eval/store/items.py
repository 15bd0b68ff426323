"""Items, the ordered lists that suites are, and texts and ratings of whole lists as arrays."""

import gc
import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from mipo_eval.records import Item, text_key
from mipo_eval.stats.bootstrap import Crossed, Floats
from mipo_eval.store.engine import Store, lasting
from mipo_eval.store.tables import LISTED, item_lists, items, responses, verdicts
from mipo_eval.verdict import EMPTY, NO_PREFERENCES, NO_REFERENCE, NOT_GENERATED, NOT_JUDGED

_CHUNK = 1000


def put_list(store: Store, tasks: Iterable[tuple[str, Iterable[Item]]]) -> tuple[str, int]:
    """Store the items of each task, in order, and return their list key and count.

    The list key digests task names and item keys: the same items in the same order have the same
    key on every machine. Items are streamed; only their keys are held.
    """
    entries: list[tuple[str, str]] = []
    chunk: list[Item] = []
    for task, task_items in tasks:
        for item in task_items:
            entries.append((task, item.key))
            chunk.append(item)
            if len(chunk) == _CHUNK:
                _put_items(store, chunk)
                chunk = []
    _put_items(store, chunk)
    list_key = key_of_list(entries)
    known = sa.select(sa.func.count()).where(item_lists.c.list_key == list_key)
    if store.fetch(known) != [(len(entries),)]:
        rows = [
            {"list_key": list_key, "position": position, "task": task, "item_key": key}
            for position, (task, key) in enumerate(entries)
        ]
        _put_places(store, rows)
    return list_key, len(entries)


def key_of_list(entries: Iterable[tuple[str, str]]) -> str:
    """Return the key of a list of (task, item key) pairs."""
    content = hashlib.sha256()
    for task, key in entries:
        content.update(f"{task}\n{key}\n".encode())
    return content.hexdigest()[:32]


def item_row(item: Item) -> dict[str, Any]:
    """Return the row of an item."""
    return {
        "item_key": item.key,
        "item_id": item.item_id,
        "group_id": item.group,
        "user_id": item.user_id,
        "n_preferences": len(item.preferences),
        "reference_key": text_key(item.reference) if item.reference else None,
        "body": item.model_dump_json(),
    }


def get_items(store: Store, list_key: str) -> Iterator[tuple[str, Item]]:
    """Yield the (task, item) pairs of a list, in order."""
    query = sa.select(item_lists.c.position, item_lists.c.task, items.c.body).join(
        items, items.c.item_key == item_lists.c.item_key
    )
    for _, task, body in store.in_order(query.where(item_lists.c.list_key == list_key)):
        with store.decoding():
            item = Item.model_validate_json(body)
        yield task, item


def any_system_turn(store: Store, list_key: str) -> bool:
    """Return whether any item of a list brings a system prompt along."""
    query = (
        sa.select(items.c.item_key)
        .join(item_lists, items.c.item_key == item_lists.c.item_key)
        # In a text these quotation marks would be escaped.
        .where(item_lists.c.list_key == list_key, items.c.body.contains('"role":"system"'))
        .limit(1)
    )
    return bool(store.fetch(query))


def stated_wishes(store: Store, list_key: str) -> dict[str, Sequence[str]]:
    """Return what each preference is, by item key, of the items of a list that say it."""
    query = (
        sa.select(items.c.item_key, items.c.body)
        .join(item_lists, items.c.item_key == item_lists.c.item_key)
        # In a text these quotation marks would be escaped.
        .where(item_lists.c.list_key == list_key, items.c.body.contains('"wishes":['))
    )
    found: dict[str, Sequence[str]] = {}
    for key, body in store.fetch(query):
        item = Item.model_validate_json(body)
        wishes = item.meta.get("wishes")
        if isinstance(wishes, list) and len(wishes) == len(item.preferences):
            found[key] = [str(wish) for wish in wishes]
    return found


def has_published_references(store: Store, list_key: str, task: str) -> bool:
    """Return whether a task's references are the data set's own where others could be made."""
    query = (
        sa.select(items.c.item_key)
        .join(item_lists, items.c.item_key == item_lists.c.item_key)
        .where(item_lists.c.list_key == list_key, item_lists.c.task == task)
        # In a text these quotation marks would be escaped.
        .where(items.c.body.contains('"reference_by":"published"'))
        .limit(1)
    )
    return bool(store.fetch(query))


def item_at(store: Store, list_key: str, position: int) -> tuple[str, Item] | None:
    """Return the (task, item) pair at a place of a list; None where it has no such place."""
    query = (
        sa.select(item_lists.c.task, items.c.body)
        .join(items, items.c.item_key == item_lists.c.item_key)
        .where(item_lists.c.list_key == list_key, item_lists.c.position == position)
    )
    with store.decoding():
        found = [(task, Item.model_validate_json(body)) for task, body in store.fetch(query)]
    return found[0] if found else None


def get_item(store: Store, item_key: str) -> Item:
    """Return an item of the store by its key."""
    query = sa.select(items.c.body).where(items.c.item_key == item_key)
    ((body,),) = store.fetch(query)
    with store.decoding():
        return Item.model_validate_json(body)


def has_items(store: Store) -> bool:
    """Return whether there is anything in the store."""
    return bool(store.fetch(sa.select(items.c.item_key).limit(1)))


def items_by_key(store: Store, keys: Collection[str]) -> dict[str, Item]:
    """Return the items with these keys that the store has."""
    bodies = store.by_key(sa.select(items.c.item_key, items.c.body), items.c.item_key, keys)
    with store.decoding():
        return {key: Item.model_validate_json(body) for key, body in bodies}


@lasting
def _put_places(store: Store, rows: Sequence[Mapping[str, Any]]) -> None:
    with store.write() as connection:
        store.put(connection, item_lists, rows)


@lasting
def _put_items(store: Store, chunk: list[Item]) -> None:
    if not chunk:
        return
    keys = [item.key for item in chunk]
    query = sa.select(items.c.item_key).where(items.c.item_key.in_(keys))
    known = {key for (key,) in store.fetch(query)}
    rows = [item_row(item) for item in chunk if item.key not in known]
    if rows:
        with store.write() as connection:
            store.put(connection, items, rows)


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
        sa.select(*LISTED)
        .join(items, items.c.item_key == item_lists.c.item_key)
        .where(item_lists.c.list_key == list_key)
        .order_by(item_lists.c.position)
    )
    rows = store.fetch(query)
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


def texts_of(generations: Collection[str], lists: Collection[str]) -> sa.Subquery:
    """Return the (item key, text key) of all that these generations answered, and references."""
    listed = sa.select(item_lists.c.item_key).where(item_lists.c.list_key.in_(lists))
    own = sa.select(responses.c.item_key, responses.c.text_key)
    theirs = sa.select(items.c.item_key, items.c.reference_key.label("text_key"))
    return sa.union(
        own.where(responses.c.generation_key.in_(generations)),
        theirs.where(items.c.item_key.in_(listed)),
    ).subquery()


def with_verdicts(named: sa.FromClause, judge_key: str) -> sa.Join:
    """Return texts beside a judge's verdicts on them."""
    # An outer join: SQLite would read all of a judge's verdicts for an inner one.
    same = (verdicts.c[name] == named.c[name] for name in ("item_key", "text_key"))
    return named.outerjoin(verdicts, sa.and_(verdicts.c.judge_key == judge_key, *same))


class Totals:
    """Every text a judge rated, added up in the database: one row an item comes back.

    The verdicts are read in the order they are stored in: looking texts up one by one is many
    times slower once a store is larger than the database's page cache. It is faster for the
    responses of a few generations and the references, the only texts where `of` is given.
    """

    def __init__(
        self, store: Store, judge_key: str, lists: Collection[str], of: Collection[str] = ()
    ) -> None:
        rating, own_judge = verdicts.c.rating, verdicts.c.judge_key == judge_key
        listed = sa.select(item_lists.c.item_key).where(item_lists.c.list_key.in_(lists))
        named: sa.FromClause = texts_of(of, lists) if of else verdicts
        source = with_verdicts(named, judge_key) if of else verdicts
        item, text = named.c.item_key, named.c.text_key
        asked = (item.in_(listed), text.is_not(None) if of else own_judge)
        rated = (
            sa.select(
                item,
                text,
                sa.func.count(rating).label("number"),
                sa.func.coalesce(sa.func.sum(rating), 0).label("points"),
                (sa.func.count() - sa.func.count(rating)).label("unread"),
            )
            .select_from(source)
            .where(*asked)
            .group_by(item, text)
            .subquery()
        )
        # All texts of an item come joined in one row: to hand over a row for each of a million
        # sums takes most of the time.
        told = (rated.c.text_key, *(sa.cast(rated.c[n], sa.Text) for n in ("number", "points")))
        joined = [sa.func.aggregate_strings(column, ",") for column in told]
        by_item = sa.select(rated.c.item_key, sa.func.sum(rated.c.unread), *joined)
        names: list[str] = []
        numbers: list[str] = []
        points: list[str] = []
        unread = 0
        for key, failed, *columns in store.fetch(by_item.group_by(rated.c.item_key)):
            texts, own, their = (column.split(",") for column in columns)
            names += [key + one for one in texts]
            numbers += own
            points += their
            unread += failed
        self._row: dict[str | None, int] = dict(zip(names, range(len(names)), strict=True))
        # The last row stands for a text without any verdict, and for no text.
        self._number = np.array([*numbers, "0"]).astype(np.float64)
        self._points = np.array([*points, "0"]).astype(np.float64)
        why = sa.select(item + text, sa.func.min(verdicts.c.reason)).select_from(source)
        why = why.where(*asked, rating.is_(None)).group_by(item, text)
        told_why = store.fetch(why) if unread else ()
        self._reasons: dict[str | None, str | None] = {name: reason for name, reason in told_why}

    def of(self, listed: ItemList, texts: "Texts") -> Rated:
        """Return the ratings of one text per item."""
        last = len(self._number) - 1
        found = np.fromiter(map(self._row.get, texts.names, repeat(last)), np.intp)
        whole = (self._number[found] == listed.wanted) & (listed.wanted > 0)
        if texts.absent:
            whole[list(texts.absent)] = False
        why = {
            row: texts.absent.get(row) or self._unrated(texts.names[row], listed.wanted[row])
            for row in np.flatnonzero(~whole).tolist()
        }
        return Rated(np.where(whole, self._points[found], np.nan), why)

    def _unrated(self, name: str | None, wanted: float) -> str:
        return NO_PREFERENCES if not wanted else self._reasons.get(name) or NOT_JUDGED


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


class Answers(NamedTuple):
    """What a generation answered, by item key."""

    names: Mapping[str, str]
    """As in `Texts`."""
    why: Mapping[str, str]
    """Why there is no text."""


def read_answers(store: Store, generations: Collection[str]) -> dict[str, Answers]:
    """Return what each of these generations answered.

    The keys of a generation come as one row: to hand over a row a response takes most of the time.
    """
    key, item, text = (responses.c[name] for name in ("generation_key", "item_key", "text_key"))
    asked = key.in_(generations)
    joined = [sa.func.aggregate_strings(column, ",") for column in (item, text)]
    named = sa.select(key, *joined).where(asked, text != _NOTHING).group_by(key)
    nothing = sa.select(key, item, responses.c.reason)
    nothing = nothing.where(asked, text.is_(None) | (text == _NOTHING))
    why: dict[str, dict[str, str]] = {}
    for generation, item_key, reason in store.fetch(nothing):
        why.setdefault(generation, {})[item_key] = reason or EMPTY
    names: dict[str, dict[str, str]] = {}
    for generation, items_told, texts_told in store.fetch(named):
        told = zip(items_told.split(","), texts_told.split(","), strict=True)
        names[generation] = {one: one + other for one, other in told}
    return {one: Answers(names.get(one, {}), why.get(one, {})) for one in generations}


def answers(found: Answers, listed: ItemList) -> Texts:
    """Return what a generation answered to the items of a list."""
    names = list(map(found.names.get, listed.keys))
    absent: dict[int, str] = {}
    if None in names:
        for row in [row for row, name in enumerate(names) if name is None]:
            absent[row] = found.why.get(listed.keys[row], NOT_GENERATED)
    return Texts(names, absent)
