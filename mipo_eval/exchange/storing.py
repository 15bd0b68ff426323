"""What was read goes into a store: all of it in one transaction, or nothing."""

from collections.abc import Sequence

import sqlalchemy as sa

from mipo_eval import __version__
from mipo_eval.errors import DataError
from mipo_eval.exchange.records import NO_TEXT, RunRecord
from mipo_eval.keys import digest
from mipo_eval.store import Store, tables
from mipo_eval.store.engine import now
from mipo_eval.store.items import item_row, key_of_list
from mipo_eval.store.runs import score_rows
from mipo_eval.store.verdicts import put_choices, put_grades

_MAX_NAME = 64


def store_runs(store: Store, records: Sequence[RunRecord]) -> list[str]:
    """Store what was imported and return the run id of each record; can be repeated.

    Raises:
        DataError: a task or metric has a longer name than the store holds.
        StoreError: the store cannot be written; nothing of the records is then in it.
    """
    for record in records:
        _check_names(record)
    with store.write() as connection:
        return [_store_run(store, connection, record) for record in records]


def _check_names(record: RunRecord) -> None:
    """Refuse what PostgreSQL would refuse and SQLite would take: a store can be merged."""
    names = {entry.task for entry in record.entries}
    names |= {name for score in record.scores for name in (score.task, score.metric)}
    for name in sorted(names):
        if len(name) > _MAX_NAME:
            raise DataError(
                f"{record.source} results of {record.model}: the name {name!r} is longer than "
                f"{_MAX_NAME} characters: shorten it in the file"
            )


def run_id_of(record: RunRecord) -> str:
    """Return the id the record's run has in every store."""
    return digest([record.suite, _list_key(record), digest(record.generation_spec)])


def _list_key(record: RunRecord) -> str:
    return key_of_list((entry.task, entry.item.key) for entry in record.entries)


def _store_run(store: Store, connection: sa.Connection, record: RunRecord) -> str:
    list_key, generation_key = _list_key(record), digest(record.generation_spec)
    _put_items(store, connection, record, list_key)
    _put_texts(store, connection, record, generation_key)
    _put_said(store, connection, record)
    run_id = run_id_of(record)
    run = {
        "run_id": run_id,
        "model": record.model,
        "suite": record.suite,
        "prompting": "",
        "seed": 0,
        "list_key": list_key,
        "n_items": len(record.entries),
        "generation_key": generation_key,
        "environment": {"mipo_eval": __version__, "imported": record.source},
        "created_at": now(),
        "updated_at": now(),
    }
    store.put(connection, tables.runs, [run], replace=["updated_at"])
    columns = [column.name for column in tables.scores.columns if not column.primary_key]
    made = score_rows(run_id, record.scores)
    store.put(connection, tables.scores, made, replace=columns)
    return run_id


def _put_items(store: Store, connection: sa.Connection, record: RunRecord, list_key: str) -> None:
    rows = [item_row(e.item) | {"reference_key": e.reference_key} for e in record.entries]
    store.put(connection, tables.items, rows)
    entries = [
        {"list_key": list_key, "position": position, "task": e.task, "item_key": e.item.key}
        for position, e in enumerate(record.entries)
    ]
    store.put(connection, tables.item_lists, entries)


def _put_texts(
    store: Store, connection: sa.Connection, record: RunRecord, generation_key: str
) -> None:
    generation = {"generation_key": generation_key, "spec": record.generation_spec}
    store.put(connection, tables.generations, [generation])
    rows = [
        {
            "generation_key": generation_key,
            "item_key": entry.item.key,
            "text": entry.text,
            "text_key": entry.text_key,
            "reason": NO_TEXT if entry.text is None else None,
            "final": True,
            "finish_reason": None,
            "prompt_hash": digest(entry.item.prompt),
            "prompt_tokens": None,
            "response_tokens": None,
            "choice_logprobs": None,
            "created_at": now(),
        }
        for entry in record.entries
    ]
    store.put(connection, tables.responses, rows)


def _put_said(store: Store, connection: sa.Connection, record: RunRecord) -> None:
    judges = [{"judge_key": j.key, "name": j.name, "spec": j.spec} for j in record.judges]
    store.put(connection, tables.judges, judges)
    empty = dict.fromkeys(column.name for column in tables.calls.columns)
    calls = [
        empty
        | {
            "call_key": reply.call_key,
            "backend": dict(reply.backend),
            "request": reply.request,
            "status": "ok",
            "reply": reply.text,
            "created_at": now(),
        }
        for reply in record.replies
    ]
    store.put(connection, tables.calls, calls)
    put_choices(store, connection, record.choices)
    put_grades(store, connection, record.grades)
