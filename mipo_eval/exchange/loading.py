"""A stored run as a record again, for writing it in the formats of others."""

from itertools import islice

import sqlalchemy as sa

from mipo_eval.evaluation.score import Numbers
from mipo_eval.exchange.records import Entry, JudgeRecord, RunRecord
from mipo_eval.store import Store, tables
from mipo_eval.store.responses import answered
from mipo_eval.store.runs import Run, generation_spec
from mipo_eval.store.validations import failing_by_short_key
from mipo_eval.store.verdicts import get_choices, get_grades, ratings_of, totals
from mipo_eval.verdict import Choice

_DERIVED = "from ratings"
_RATED = 20
"""Items whose single ratings are loaded: a report shows fewer."""


def load_record(store: Store, run: Run) -> RunRecord:
    """Return everything the store holds of a run.

    Ratings of response and reference are shown as the choice that follows from them: the higher
    sum wins; an item with a rating missing has no choice.
    """
    spec = generation_spec(store, run.generation_key)
    keys = _text_keys(store, run)
    entries = [
        Entry(
            a.task,
            a.item,
            a.response.text if a.response else None,
            keys[a.item.key][0] or "",
            keys[a.item.key][1],
        )
        for a in answered(store, run.list_key, run.generation_key)
    ]
    ours = {(entry.item.key, entry.text_key) for entry in entries}
    choices = [c for c in get_choices(store, run.list_key) if (c.item_key, c.text_key_a) in ours]
    grades = [g for g in get_grades(store, run.list_key) if (g.item_key, g.text_key) in ours]
    judges = _judges(store)
    for key in _rubric_judges(store, run):
        choices += _from_ratings(store, run, key, entries)
    used = {c.judge_key for c in choices} | {g.judge_key for g in grades}
    return RunRecord(
        source=str(spec.get("imported", "mipo-eval")),
        model=run.model,
        suite=run.suite,
        entries=entries,
        judges=[judge for key, judge in judges.items() if key in used],
        choices=choices,
        grades=grades,
        ratings=_ratings(store, entries),
        scores=Numbers(store).of_run(run),
        failing=failing_by_short_key(store),
        about={name: spec[name] for name in ("baseline",) if name in spec},
    )


def _judges(store: Store) -> dict[str, JudgeRecord]:
    query = sa.select(tables.judges).order_by(tables.judges.c.name, tables.judges.c.judge_key)
    with store.read() as connection:
        return {
            row.judge_key: JudgeRecord(
                source=str(row.spec.get("imported", _DERIVED)), name=row.name, stored=row.judge_key
            )
            for row in connection.execute(query)
        }


def _ratings(store: Store, entries: list[Entry]) -> dict[tuple[str, str], list[str]]:
    """Return what was rated of the first items with a text, each preference beside its reference.

    Preferences are counted from 1, as a report lists them.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for entry in islice((entry for entry in entries if entry.text), _RATED):
        key = entry.item.key
        other = {
            (judge, aspect): rating
            for judge, aspect, rating, _ in ratings_of(store, key, entry.reference_key or "")
        }
        lines = [
            f"{judge}: preference {aspect + 1} rated {why if rating is None else rating}"
            f" (reference {other.get((judge, aspect)) or 'none'})"
            for judge, aspect, rating, why in ratings_of(store, key, entry.text_key)
        ]
        if lines:
            found[key, entry.text_key] = lines
    return found


def _rubric_judges(store: Store, run: Run) -> list[str]:
    of_list = sa.select(tables.item_lists.c.item_key).where(
        tables.item_lists.c.list_key == run.list_key
    )
    query = (
        sa.select(tables.verdicts.c.judge_key)
        .where(tables.verdicts.c.item_key.in_(of_list))
        .distinct()
        .order_by(tables.verdicts.c.judge_key)
    )
    with store.read() as connection:
        return list(connection.execute(query).scalars())


def _from_ratings(store: Store, run: Run, judge_key: str, entries: list[Entry]) -> list[Choice]:
    found = totals(store, judge_key, run.list_key)
    made = []
    for entry in entries:
        mine = found.get((entry.item.key, entry.text_key))
        other = found.get((entry.item.key, entry.reference_key or ""))
        wanted = len(entry.item.preferences)
        if mine is None or other is None or entry.reference_key is None:
            continue
        whole = mine.rated == other.rated == wanted
        ahead = mine.points - other.points
        made.append(
            Choice(
                judge_key=judge_key,
                item_key=entry.item.key,
                text_key_a=entry.text_key,
                text_key_b=entry.reference_key,
                shown_first="?",
                winner=None if not whole else "a" if ahead > 0 else "b" if ahead < 0 else "tie",
                reason=None if whole else mine.reason or other.reason,
            )
        )
    return made


def _text_keys(store: Store, run: Run) -> dict[str, tuple[str | None, str | None]]:
    """Return per item the keys of its response and of its reference; stand-ins among them."""
    query = (
        sa.select(
            tables.items.c.item_key, tables.responses.c.text_key, tables.items.c.reference_key
        )
        .join(tables.item_lists, tables.item_lists.c.item_key == tables.items.c.item_key)
        .outerjoin(
            tables.responses,
            (tables.responses.c.item_key == tables.items.c.item_key)
            & (tables.responses.c.generation_key == run.generation_key),
        )
        .where(tables.item_lists.c.list_key == run.list_key)
    )
    with store.read() as connection:
        return {item: (text, reference) for item, text, reference in connection.execute(query)}
