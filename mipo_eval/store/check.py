"""Is a store whole: what is damaged, what deserves a look, and what nothing refers to."""

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


class _Link(NamedTuple):
    """A column whose values have to be keys of another table."""

    name: str
    column: sa.Column[Any]
    target: sa.Column[Any]


_LINKS = (
    _Link("list entries without their item", t.item_lists.c.item_key, t.items.c.item_key),
    _Link("responses without their item", t.responses.c.item_key, t.items.c.item_key),
    _Link(
        "responses without their generation",
        t.responses.c.generation_key,
        t.generations.c.generation_key,
    ),
    _Link("verdicts without their item", t.verdicts.c.item_key, t.items.c.item_key),
    _Link("verdicts without their judge", t.verdicts.c.judge_key, t.judges.c.judge_key),
    _Link("verdicts without their call", t.verdicts.c.call_key, t.calls.c.call_key),
    _Link("choices without their item", t.choices.c.item_key, t.items.c.item_key),
    _Link("choices without their judge", t.choices.c.judge_key, t.judges.c.judge_key),
    _Link("choices without their call", t.choices.c.call_key, t.calls.c.call_key),
    _Link("grades without their item", t.grades.c.item_key, t.items.c.item_key),
    _Link("grades without their judge", t.grades.c.judge_key, t.judges.c.judge_key),
    _Link("grades without their call", t.grades.c.call_key, t.calls.c.call_key),
    _Link("runs without their generation", t.runs.c.generation_key, t.generations.c.generation_key),
    _Link("scores without their run", t.scores.c.run_id, t.runs.c.run_id),
)


def check(store: Store) -> list[Finding]:
    """Return every finding, also those that found nothing; changes nothing."""
    with store.read() as connection:
        findings = [_damage(connection), *(_orphans(connection, link) for link in _LINKS)]
        return [
            *findings,
            _incomplete_lists(connection),
            _repeated_items(connection),
            _repeated_calls(connection),
            _signature_conflicts(connection),
            _unfinished(connection),
        ]


def _finding(name: str, broken: bool, found: list[str]) -> Finding:
    return Finding(name, broken, len(found), tuple(found[:_EXAMPLES]))


def _damage(connection: sa.Connection) -> Finding:
    name = "damaged pages of the database"
    if connection.dialect.name != "sqlite":
        return Finding(name, True, 0, ())  # PostgreSQL refuses to read them, which is an error
    said = connection.exec_driver_sql("pragma quick_check(100)").scalars().all()
    return _finding(name, True, [str(line) for line in said if line != "ok"])


def _orphans(connection: sa.Connection, link: _Link) -> Finding:
    lost = (
        sa.select(link.column)
        .outerjoin(link.target.table, link.column == link.target)
        .where(link.column.is_not(None), link.target.is_(None))
    )
    rows = connection.execute(sa.select(sa.func.count()).select_from(lost.subquery())).scalar_one()
    some = connection.execute(lost.distinct().limit(_EXAMPLES)).scalars().all() if rows else ()
    return Finding(link.name, True, int(rows), tuple(str(key) for key in some))


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


def _repeated_items(connection: sa.Connection) -> Finding:
    query = (
        sa.select(t.item_lists.c.list_key, t.items.c.item_id, sa.func.count())
        .join(t.items, t.items.c.item_key == t.item_lists.c.item_key)
        .group_by(
            t.item_lists.c.list_key, t.item_lists.c.task, t.items.c.item_key, t.items.c.item_id
        )
        .having(sa.func.count() > 1)
        .order_by(t.item_lists.c.list_key, t.items.c.item_id)
    )
    found = [f"{item} x {n} in {key[:12]}" for key, item, n in connection.execute(query)]
    return _finding("items that a task has twice", False, found)


def _repeated_calls(connection: sa.Connection) -> Finding:
    backend = sa.cast(t.calls.c.backend, sa.Text)
    query = (
        sa.select(sa.func.min(t.calls.c.call_key), sa.func.count())
        .group_by(t.calls.c.request, backend)
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
        if key not in first:
            first[key] = signature
            continue
        apart = first[key].differences(signature)
        differing = ", ".join(
            f"{name} {old or '-'} / {new or '-'}" for name, (old, new) in apart.items()
        )
        found.append(f"{run[:12]} {task} {metric}: {differing}")
    return _finding("scores with two signatures", False, found)


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
