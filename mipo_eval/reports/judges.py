"""The judges of a store: what they said, and what their validations found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mipo_eval.store import Store
from mipo_eval.store.judges import StoredJudge, list_judges
from mipo_eval.store.tables import choices, verdicts
from mipo_eval.store.validations import failing_judges, largest_validations


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRow:
    """One judge or person."""

    judge: StoredJudge
    protocol: str
    """"person" for people; empty where it is not known."""
    ratings: int
    choices: int
    strict: Mapping[str, float]
    """Strict accuracy, 0-100, by data it was validated on."""
    failings: Sequence[str]


def judge_rows(store: Store) -> list[JudgeRow]:
    """Return every judge of the store, by name."""
    counts = [_counts(store, table) for table in (verdicts, choices)]
    failing = failing_judges(store)
    strict: dict[str, dict[str, float]] = {}
    for own in largest_validations(store):
        score = own.figures.get("judge", {}).get("strict")
        if score:
            strict.setdefault(own.judge_key, {})[own.data] = score["value"]
    return [
        JudgeRow(
            judge=judge,
            protocol="person"
            if judge.spec.get("kind") == "human"
            else str(judge.spec.get("protocol", "")),
            ratings=counts[0].get(judge.key, 0),
            choices=counts[1].get(judge.key, 0),
            strict=strict.get(judge.key, {}),
            failings=failing.get(judge.key, ()),
        )
        for judge in list_judges(store)
    ]


def _counts(store: Store, table: sa.Table) -> dict[str, int]:
    query = sa.select(table.c.judge_key, sa.func.count()).group_by(table.c.judge_key)
    with store.read() as connection:
        return {key: int(n) for key, n in connection.execute(query)}


def judge_row_json(row: JudgeRow) -> dict[str, Any]:
    """Return a judge as `--json` shows it."""
    return {
        "name": row.judge.name,
        "key": row.judge.key,
        "spec": row.judge.spec.get("spec"),
        "protocol": row.protocol,
        "ratings": row.ratings,
        "choices": row.choices,
        "strict_accuracy": dict(row.strict),
        "failings": list(row.failings),
    }
