"""What the store had before an import: other runs of the same name, other words on the same texts.

What a judge said is kept by judge, item and text. Where a file tells that a judge said otherwise of
the very same text than an earlier file does - a log scored again, two models with an equal answer -
neither may take the other's place: a number would stand beside verdicts that it was not made of.
The answer then gets a key of its own, and what was said of it goes with it.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mipo_eval.importers.base import RunRecord
from mipo_eval.keys import digest
from mipo_eval.rows import shown
from mipo_eval.store.engine import Store
from mipo_eval.store.items import read_answers
from mipo_eval.store.runs import generation_spec, list_runs
from mipo_eval.store.verdicts import Grade, choices_on, grades_by
from mipo_eval.verdict import Choice

Place = tuple[str, ...]
"""Judge, item, text (for a choice both), and in which order they were shown."""


def kept_apart(store: Store, records: Sequence[RunRecord]) -> list[RunRecord]:
    """Return records in which no judge says otherwise of a text than the store or one before."""
    judges = {judge.key for record in records for judge in record.judges}
    known: dict[Place, Any] = {}
    for judge in judges:
        known.update(_said(grades_by(store, judge), choices_on(store, judge)))
    made = []
    for record in records:
        moved = _keys_of(store, record)
        if moved is None:
            said = _said(record.grades, record.choices)
            items = {place[1] for place, value in said if known.get(place, value) != value}
            moved = {
                entry.item.key: digest(["said otherwise", record.run_id, entry.text_key])
                for entry in record.entries
                if entry.item.key in items
            }
        made.append(_moved(record, moved))
        known.update(_said(made[-1].grades, made[-1].choices))
    return made


def _keys_of(store: Store, record: RunRecord) -> dict[str, str] | None:
    """Return the keys that a run's answers have in the store; None when it is not there."""
    (found,) = read_answers(store, [record.generation_key]).values()
    if not found.names and not found.why:
        return None
    return {item: name.removeprefix(item) for item, name in found.names.items()}


def _said(grades: Iterable[Grade], choices: Iterable[Choice]) -> Iterator[tuple[Place, Any]]:
    for grade in grades:
        yield (grade.judge_key, grade.item_key, grade.text_key), (grade.value,)
    for one in choices:
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
    for run in list_runs(store):
        if (run.model, run.suite) in wanted:
            spec = generation_spec(store, run.generation_key)
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
