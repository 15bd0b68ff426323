"""Merging stores: content keys make it a union, and a success replaces a failure.

A merge can be repeated and its order does not matter for what has succeeded. Rows are streamed;
a source is merged in one transaction, all of it or nothing.
"""

from collections.abc import Callable
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple

import sqlalchemy as sa

from mipo_eval.errors import ConfigError
from mipo_eval.store import tables
from mipo_eval.store.engine import Store, lasting, utc

_CHUNK = 500


class Merged(NamedTuple):
    """What one table took from a source."""

    table: str
    read: int
    """Rows of the source."""
    added: int
    """Rows whose key the target did not have."""


class _Rule(NamedTuple):
    """Which rows of a source may replace rows of the target that have the same key."""

    succeeded: Callable[[dict[str, Any]], bool]
    replaceable: sa.ColumnElement[bool]
    """Which rows of the target may be replaced by one that succeeded."""
    columns: tuple[str, ...] | None = None
    """What is replaced; None: every column that is no key."""


def _newer(column: sa.Column[Any]) -> sa.ColumnElement[bool]:
    return column < sa.literal_column(f"excluded.{column.name}")


_RULES: dict[str, _Rule] = {
    "responses": _Rule(lambda row: row["text"] is not None, tables.responses.c.text.is_(None)),
    "calls": _Rule(lambda row: row["status"] == "ok", tables.calls.c.status != "ok"),
    "verdicts": _Rule(lambda row: row["rating"] is not None, tables.verdicts.c.rating.is_(None)),
    "choices": _Rule(lambda row: row["winner"] is not None, tables.choices.c.winner.is_(None)),
    "grades": _Rule(lambda row: row["value"] is not None, tables.grades.c.value.is_(None)),
    "runs": _Rule(lambda row: True, _newer(tables.runs.c.updated_at), ("updated_at",)),
    # A run that went on after a copy was made has the same score over more items: the later one.
    "scores": _Rule(
        lambda row: row["value"] is not None,
        sa.or_(tables.scores.c.value.is_(None), _newer(tables.scores.c.created_at)),
    ),
    "trainings": _Rule(
        lambda row: True,
        _newer(tables.trainings.c.updated_at),
        ("checkpoint", "pair_report", "status", "reason", "updated_at"),
    ),
    "validations": _Rule(lambda row: True, _newer(tables.validations.c.created_at)),
}
"""Tables without a rule keep the row they have: equal keys mean equal contents."""


@lasting
def merge(
    target: Store, source: Store, *, advance: Callable[[str, int], None] | None = None
) -> list[Merged]:
    """Add everything in `source` to `target`, and return what each table took.

    Args:
        target: opened for writing.
        source: opened for reading; SQLite or PostgreSQL, whatever the target is.
        advance: told (table, rows) as rows are copied.

    Raises:
        ConfigError: both are the same store.
        StoreError: one of them cannot be read or written; the target is then as before.
    """
    if target.name == source.name:
        raise ConfigError(f"{source.name} cannot be merged into itself: name another store")
    merged = []
    with source.read() as reading, target.write() as writing:
        for table in tables.metadata.sorted_tables:
            if table is tables.schema_info:
                continue
            before = _count(writing, table)
            read = 0
            rows = (_in_utc(row._asdict()) for row in reading.execute(sa.select(table)))
            while chunk := list(islice(rows, _CHUNK)):
                _put(target, writing, table, chunk)
                read += len(chunk)
                if advance is not None:
                    advance(table.name, len(chunk))
            merged.append(Merged(table.name, read, _count(writing, table) - before))
    return merged


@lasting
def total_rows(store: Store) -> int:
    """Return how many rows a merge of this store reads."""
    with store.read() as connection:
        wanted = (table for table in tables.metadata.sorted_tables if table.name != "schema_info")
        return sum(_count(connection, table) for table in wanted)


def _put(
    target: Store, connection: sa.Connection, table: sa.Table, rows: list[dict[str, Any]]
) -> None:
    rule = _RULES.get(table.name)
    if rule is None:
        target.put(connection, table, rows)
        return
    columns = rule.columns or [column.name for column in table.columns if not column.primary_key]
    succeeded = [row for row in rows if rule.succeeded(row)]
    target.put(connection, table, succeeded, replace=columns, where=rule.replaceable)
    target.put(connection, table, (row for row in rows if not rule.succeeded(row)))


def _in_utc(row: dict[str, Any]) -> dict[str, Any]:
    """Return the row with its times in UTC."""
    for name, value in row.items():
        if isinstance(value, datetime):
            row[name] = utc(value)
    return row


def _count(connection: sa.Connection, table: sa.Table) -> int:
    return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
