"""What the store had before an import: other runs of the same name, other words on the same texts.

What a judge said is kept by judge, item and text. Where a file tells that a judge said otherwise of
the very same text than an earlier file does - a log scored again, two models with an equal answer -
neither may take the other's place: a number would stand beside verdicts that it was not made of.
The answer then gets a key of its own, and what was said of it goes with it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from mipo_eval.importers.base import RunRecord
from mipo_eval.keys import digest
from mipo_eval.rows import shown
from mipo_eval.store.engine import Store
from mipo_eval.store.runs import list_runs
from mipo_eval.store.tables import choices, generations, grades, responses

Place = tuple[str, ...]
"""Judge, item, text (for a choice both), and in which order they were shown."""
Said = Mapping[Place, Any]


def kept_apart(store: Store, records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return records in which no judge says otherwise of a text than the store or one before."""
    with store.read() as connection:
        known = dict(_said_in(connection, {j.key for one in records for j in one.judges}))
        made = []
        for record in records:
            moved = _keys_of(connection, record)
            if moved is None:
                items = {
                    place[1]
                    for place, value in _said_by(record)
                    if place in known and known[place] != value
                }
                moved = {
                    entry.item.key: digest(["said otherwise", record.run_id, entry.text_key])
                    for entry in record.entries
                    if entry.item.key in items
                }
            made.append(_moved(record, moved))
            known.update(_said_by(made[-1]))
    return made


def _keys_of(connection: sa.Connection, record: RunRecord) -> dict[str, str] | None:
    """Return the keys that a run's answers have in the store; None when it is not there."""
    query = sa.select(responses.c.item_key, responses.c.text_key).where(
        responses.c.generation_key == record.generation_key
    )
    return {item: text for item, text in connection.execute(query)} or None


def _said_in(connection: sa.Connection, judges: set[str]) -> Iterator[tuple[Place, Any]]:
    graded = sa.select(grades).where(grades.c.judge_key.in_(judges))
    for row in connection.execute(graded):
        yield (row.judge_key, row.item_key, row.text_key), row.value
    chosen = sa.select(choices).where(choices.c.judge_key.in_(judges))
    for row in connection.execute(chosen):
        place = (row.judge_key, row.item_key, row.text_key_a, row.text_key_b, row.shown_first)
        yield place, (row.winner, row.preference)


def _said_by(record: RunRecord) -> Iterator[tuple[Place, Any]]:
    for grade in record.grades:
        yield (grade.judge_key, grade.item_key, grade.text_key), grade.value
    for one in record.choices:
        place = (one.judge_key, one.item_key, one.text_key_a, one.text_key_b, one.shown_first)
        yield place, (one.winner, one.preference)


def _moved(record: RunRecord, keys: Mapping[str, str]) -> RunRecord:
    """Return a record whose answers to some items have other keys."""
    if not keys:
        return record
    return replace(
        record,
        entries=[e._replace(text_key=keys.get(e.item.key, e.text_key)) for e in record.entries],
        grades=[replace(g, text_key=keys.get(g.item_key, g.text_key)) for g in record.grades],
        choices=[replace(c, text_key_a=keys.get(c.item_key, c.text_key_a)) for c in record.choices],
    )


def others_of_the_name(store: Store, records: Sequence[RunRecord]) -> list[str]:
    """Return a line for each new record that is not the run its model has in the store.

    To be asked before the records are stored.
    """
    specs: dict[tuple[str, str, str], dict[str, dict[str, Any]]] = {}
    wanted = {(record.model, record.suite) for record in records}
    runs = [run for run in list_runs(store) if (run.model, run.suite) in wanted]
    keys = {run.generation_key for run in runs}
    query = sa.select(generations).where(generations.c.generation_key.in_(keys))
    with store.read() as connection:
        made = {row.generation_key: dict(row.spec) for row in connection.execute(query)}
    for run in runs:
        spec = made.get(run.generation_key, {})
        if "told" in spec:
            name = (str(spec["imported"]), run.model, run.suite)
            specs.setdefault(name, {})[run.run_id] = spec
    lines = []
    for record in records:
        own = specs.setdefault((record.source, record.model, record.suite), {})
        if record.run_id not in own and own:
            run_id, spec = next(iter(own.items()))
            lines.append(
                f"{record.model} on {record.suite}: run {record.run_id[:12]} is another than "
                f"{run_id[:12]} of that name: it differs in "
                f"{_difference(spec, record.generation_spec)}"
            )
        own[record.run_id] = record.generation_spec
    return lines


def _difference(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    names = [name for name in dict.fromkeys([*new, *old]) if new.get(name) != old.get(name)]
    told = [
        f"{name} ({shown(new.get(name))}, there {shown(old.get(name))})"
        for name in names
        if name != "told"
    ]
    return ", ".join(told) or "answers, or what was said of them"
