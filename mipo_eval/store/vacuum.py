"""Dropping what nothing refers to.

Kept whatever refers to it: runs, scores and every reply of a judge (it was paid for, and it is
found again by its request). Dropped: what only runs give a meaning to, when no run does.
"""

from typing import Any

import sqlalchemy as sa

from mipo_eval.store import tables as t
from mipo_eval.store.engine import Store

_LISTS = sa.select(t.runs.c.list_key)
_GENERATIONS = sa.select(t.runs.c.generation_key)
_USED_ITEMS = sa.select(t.item_lists.c.item_key).where(t.item_lists.c.list_key.in_(_LISTS))
_TOLD = sa.union(
    sa.select(t.verdicts.c.call_key),
    sa.select(t.choices.c.call_key).where(t.choices.c.call_key.is_not(None)),
    sa.select(t.grades.c.call_key).where(t.grades.c.call_key.is_not(None)),
)
_JUDGES = sa.union(
    sa.select(t.verdicts.c.judge_key),
    sa.select(t.choices.c.judge_key),
    sa.select(t.grades.c.judge_key),
    sa.select(t.validations.c.judge_key),
)

_UNREFERRED: tuple[tuple[sa.Table, sa.ColumnElement[bool]], ...] = (
    (t.scores, t.scores.c.run_id.not_in(sa.select(t.runs.c.run_id))),
    (t.curves, t.curves.c.training_id.not_in(sa.select(t.trainings.c.training_id))),
    (t.item_lists, t.item_lists.c.list_key.not_in(_LISTS)),
    (
        t.responses,
        t.responses.c.generation_key.not_in(_GENERATIONS)
        | t.responses.c.item_key.not_in(_USED_ITEMS),
    ),
    (t.verdicts, t.verdicts.c.item_key.not_in(_USED_ITEMS)),
    (t.choices, t.choices.c.item_key.not_in(_USED_ITEMS)),
    (t.grades, t.grades.c.item_key.not_in(_USED_ITEMS)),
    (t.items, t.items.c.item_key.not_in(_USED_ITEMS)),
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
