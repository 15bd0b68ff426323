"""Is a store whole: what is damaged, what deserves a look, and what nothing refers to.

`vacuum` drops what only runs give a meaning to, when no run does. Kept whatever refers to it: runs,
scores and every reply of a judge (it was paid for, and it is found again by its request).
"""

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import sqlalchemy as sa

from mipo_eval.signature import Signature
from mipo_eval.store import tables as t
from mipo_eval.store.engine import Store

_EXAMPLES = 5


class Finding(NamedTuple):
    """One thing that a check looked for."""

    name: str
    broken: bool
    """True when a number can no longer be traced to what it was made of."""
    found: int
    examples: tuple[str, ...]
    """Some of them, as a person can find them."""


_PARENTS = {
    "item": t.items.c.item_key,
    "judge": t.judges.c.judge_key,
    "call": t.calls.c.call_key,
    "generation": t.generations.c.generation_key,
    "run": t.runs.c.run_id,
}
_CHILDREN: tuple[tuple[str, sa.Table, tuple[str, ...]], ...] = (
    ("list entries", t.item_lists, ("item",)),
    ("responses", t.responses, ("item", "generation")),
    ("verdicts", t.verdicts, ("item", "judge", "call")),
    ("choices", t.choices, ("item", "judge", "call")),
    ("grades", t.grades, ("item", "judge", "call")),
    ("runs", t.runs, ("generation",)),
    ("scores", t.scores, ("run",)),
)
"""Rows that refer to others, by a column of the other table's name."""


def check(store: Store) -> list[Finding]:
    """Return every finding, also those that found nothing; changes nothing."""
    with store.read() as connection:
        return [
            _damage(connection),
            _unreadable(connection),
            *(
                _orphans(connection, f"{rows} without their {parent}", table, _PARENTS[parent])
                for rows, table, parents in _CHILDREN
                for parent in parents
            ),
            _incomplete_lists(connection),
            _repeated_calls(connection),
            _signature_conflicts(connection),
            _unfinished(connection),
        ]


def _finding(name: str, broken: bool, found: list[str]) -> Finding:
    return Finding(name, broken, len(found), tuple(found[:_EXAMPLES]))


def _damage(connection: sa.Connection) -> Finding:
    said = ["ok"]
    if connection.dialect.name == "sqlite":  # PostgreSQL refuses to read them, which is an error
        said = [*connection.exec_driver_sql("pragma quick_check(100)").scalars()]
    return _finding("damaged pages of the database", True, [line for line in said if line != "ok"])


def _unreadable(connection: sa.Connection) -> Finding:
    """Find rows whose JSON cannot be read."""
    found = []
    for table in t.metadata.sorted_tables:
        columns = [c for c in table.columns if isinstance(c.type, sa.JSON)]
        columns += [t.items.c.body] if table is t.items else []
        keys = [sa.cast(column, sa.Text) for column in table.primary_key]
        for column in columns:
            query = sa.select(*keys, sa.cast(column, sa.Text)).where(column.is_not(None))
            for *key, text in connection.execute(query):
                if not _reads(text):
                    found.append(f"{table.name} {' '.join(map(str, key))}: {column.name}")
    return _finding("rows that cannot be read", True, found)


def _reads(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _orphans(
    connection: sa.Connection, name: str, table: sa.Table, parent: sa.Column[str]
) -> Finding:
    column = table.c[parent.name]
    lost = (
        sa.select(column)
        .outerjoin(parent.table, column == parent)
        .where(column.is_not(None), parent.is_(None))
    )
    rows = connection.execute(sa.select(sa.func.count()).select_from(lost.subquery())).scalar_one()
    some = connection.execute(lost.distinct().limit(_EXAMPLES)).scalars().all() if rows else ()
    return Finding(name, True, int(rows), tuple(str(key) for key in some))


def _incomplete_lists(connection: sa.Connection) -> Finding:
    held = (
        sa.select(t.item_lists.c.list_key, sa.func.count().label("n"))
        .group_by(t.item_lists.c.list_key)
        .subquery()
    )
    query = (
        sa.select(t.runs.c.run_id, t.runs.c.n_items, sa.func.coalesce(held.c.n, 0))
        .outerjoin(held, held.c.list_key == t.runs.c.list_key)
        .where(sa.func.coalesce(held.c.n, 0) != t.runs.c.n_items)
        .order_by(t.runs.c.run_id)
    )
    found = [f"{run[:12]}: {n} of {of} items" for run, of, n in connection.execute(query)]
    return _finding("runs whose item list is incomplete", True, found)


def _repeated_calls(connection: sa.Connection) -> Finding:
    query = (
        sa.select(sa.func.min(t.calls.c.call_key), sa.func.count())
        .group_by(t.calls.c.request, sa.cast(t.calls.c.backend, sa.Text))
        .having(sa.func.count() > 1)
    )
    found = [f"{key} x {n}" for key, n in connection.execute(query)]
    return _finding("requests asked twice", False, found)


def _signature_conflicts(connection: sa.Connection) -> Finding:
    """Return scores of one run, task, metric and judge that were made in different ways."""
    columns = (t.scores.c.run_id, t.scores.c.task, t.scores.c.metric, t.scores.c.parts)
    order = (*columns[:3], t.scores.c.signature)
    first: dict[tuple[str | None, ...], Signature] = {}
    found = []
    for run, task, metric, parts in connection.execute(sa.select(*columns).order_by(*order)):
        signature = Signature(parts)
        key = (run, task, metric, parts.get("judge"), parts.get("control"))
        if (earlier := first.setdefault(key, signature)) is not signature:
            found.append(f"{run[:12]} {task} {metric}: {_listed(earlier.differences(signature))}")
    return _finding("scores with two signatures", False, found)


def _listed(parts: Mapping[str, tuple[str | None, str | None]]) -> str:
    return ", ".join(f"{name} {old or '-'} / {new or '-'}" for name, (old, new) in parts.items())


def _unfinished(connection: sa.Connection) -> Finding:
    done = (
        sa.select(t.runs.c.run_id, sa.func.count(t.responses.c.item_key).label("n"))
        .outerjoin(t.item_lists, t.item_lists.c.list_key == t.runs.c.list_key)
        .outerjoin(
            t.responses,
            (t.responses.c.generation_key == t.runs.c.generation_key)
            & (t.responses.c.item_key == t.item_lists.c.item_key)
            & t.responses.c.final,
        )
        .group_by(t.runs.c.run_id)
        .subquery()
    )
    scored = sa.select(t.scores.c.run_id).distinct()
    query = (
        sa.select(t.runs.c.run_id, t.runs.c.n_items, done.c.n, t.runs.c.run_id.in_(scored))
        .join(done, done.c.run_id == t.runs.c.run_id)
        .where((done.c.n < t.runs.c.n_items) | t.runs.c.run_id.not_in(scored))
        .order_by(t.runs.c.run_id)
    )
    found = [
        f"{run[:12]}: {n} of {of} responses{'' if has_scores else ', no scores'}"
        for run, of, n, has_scores in connection.execute(query)
    ]
    return _finding("unfinished runs", False, found)


_LISTS = sa.select(t.runs.c.list_key)
_GENERATIONS = sa.select(t.runs.c.generation_key)
_USED_ITEMS = sa.select(t.item_lists.c.item_key).where(t.item_lists.c.list_key.in_(_LISTS))
_SAID = (t.verdicts, t.choices, t.grades)
_TOLD = sa.union(
    *(sa.select(said.c.call_key).where(said.c.call_key.is_not(None)) for said in _SAID)
)
_JUDGES = sa.union(*(sa.select(said.c.judge_key) for said in (*_SAID, t.validations)))

_UNREFERRED: tuple[tuple[sa.Table, sa.ColumnElement[bool]], ...] = (
    (t.scores, t.scores.c.run_id.not_in(sa.select(t.runs.c.run_id))),
    (t.curves, t.curves.c.training_id.not_in(sa.select(t.trainings.c.training_id))),
    (t.item_lists, t.item_lists.c.list_key.not_in(_LISTS)),
    (
        t.responses,
        t.responses.c.generation_key.not_in(_GENERATIONS)
        | t.responses.c.item_key.not_in(_USED_ITEMS),
    ),
    *((rows, rows.c.item_key.not_in(_USED_ITEMS)) for rows in (*_SAID, t.items)),
    (t.generations, t.generations.c.generation_key.not_in(_GENERATIONS)),
    (t.judges, t.judges.c.judge_key.not_in(_JUDGES)),
    (t.calls, (t.calls.c.status != "ok") & t.calls.c.call_key.not_in(_TOLD)),
)
"""In this order: what an earlier line drops no longer counts in a later one."""


def vacuum(store: Store, *, drop: bool = True) -> dict[str, int]:
    """Drop what nothing refers to and return how many rows of each table that is.

    Args:
        store: opened for writing.
        drop: False counts only, in a transaction that is taken back.
    """
    dropped: dict[str, int] = {}
    with store.write() as connection:
        for table, condition in _UNREFERRED:
            result: Any = connection.execute(sa.delete(table).where(condition))
            dropped[table.name] = int(result.rowcount)
        if not drop:
            connection.rollback()
    return dropped
