"""Items and the ordered lists that suites are."""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from typing import Any

import sqlalchemy as sa

from mipo_eval.records import Item, text_key
from mipo_eval.store.engine import Store
from mipo_eval.store.tables import item_lists, items

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
    if _count(store, list_key) != len(entries):
        rows = [
            {"list_key": list_key, "position": position, "task": task, "item_key": key}
            for position, (task, key) in enumerate(entries)
        ]
        with store.write() as connection:
            store.put(connection, item_lists, rows)
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
    query = (
        sa.select(item_lists.c.task, items.c.body)
        .join(items, items.c.item_key == item_lists.c.item_key)
        .where(item_lists.c.list_key == list_key)
        .order_by(item_lists.c.position)
    )
    with store.read() as connection:
        for task, body in connection.execute(query):
            yield task, Item.model_validate_json(body)


def item_at(store: Store, list_key: str, position: int) -> tuple[str, Item] | None:
    """Return the (task, item) pair at a place of a list; None where it has no such place."""
    query = (
        sa.select(item_lists.c.task, items.c.body)
        .join(items, items.c.item_key == item_lists.c.item_key)
        .where(item_lists.c.list_key == list_key, item_lists.c.position == position)
    )
    with store.read() as connection:
        row = connection.execute(query).first()
        return None if row is None else (row.task, Item.model_validate_json(row.body))


def get_item(store: Store, item_key: str) -> Item:
    """Return an item of the store by its key."""
    query = sa.select(items.c.body).where(items.c.item_key == item_key)
    with store.read() as connection:
        return Item.model_validate_json(connection.execute(query).scalar_one())


def has_items(store: Store) -> bool:
    """Return whether there is anything in the store."""
    with store.read() as connection:
        return connection.execute(sa.select(items.c.item_key).limit(1)).first() is not None


def items_by_key(store: Store, keys: Collection[str]) -> dict[str, Item]:
    """Return the items with these keys that the store has."""
    bodies = store.by_key(sa.select(items.c.item_key, items.c.body), items.c.item_key, keys)
    return {key: Item.model_validate_json(body) for key, body in bodies}


def _count(store: Store, list_key: str) -> int:
    query = sa.select(sa.func.count()).where(item_lists.c.list_key == list_key)
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


def _put_items(store: Store, chunk: list[Item]) -> None:
    if not chunk:
        return
    keys = [item.key for item in chunk]
    with store.read() as connection:
        query = sa.select(items.c.item_key).where(items.c.item_key.in_(keys))
        known = set(connection.execute(query).scalars())
    rows = [item_row(item) for item in chunk if item.key not in known]
    if rows:
        with store.write() as connection:
            store.put(connection, items, rows)
