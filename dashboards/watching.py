"""What is going on in a store: whether it changed, and how far its unfinished runs are."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import sqlalchemy as sa

from mipo_eval.store import Store
from mipo_eval.store.engine import now, utc
from mipo_eval.store.runs import Run
from mipo_eval.store.tables import (
    item_lists,
    items,
    judges,
    responses,
    runs,
    scores,
    trainings,
    validations,
    verdicts,
)

RECENT = timedelta(hours=1)
"""What was silent for longer is not at work any more: a run got no response, a training no step."""


def version(store: Store) -> str:
    """Return a text that changes whenever anything is committed to the store; cheap."""
    with store.read() as connection:
        if connection.dialect.name == "postgresql":
            return str(connection.execute(sa.text("select pg_current_snapshot()::text")).scalar())
    path = Path(store.name)
    marks = []
    for file in (path, path.with_name(f"{path.name}-wal")):
        try:
            found = file.stat()
        except FileNotFoundError:  # without readers and writers there is no -wal
            continue
        marks.append(f"{found.st_ino}.{found.st_size}.{found.st_mtime_ns}")
    return " ".join(marks)


def results_version(store: Store) -> str:
    """Return a text that changes when a run, a score, a training or a validation does.

    A run in flight writes responses and verdicts all the time, but no numbers before its end.
    """
    watched = (
        (runs, runs.c.updated_at),
        (scores, scores.c.created_at),
        (trainings, trainings.c.updated_at),
        (validations, validations.c.created_at),
    )
    parts = []
    with store.read() as connection:
        for table, touched in watched:
            query = sa.select(sa.func.count(), sa.func.max(touched)).select_from(table)
            parts.append(" ".join(str(part) for part in connection.execute(query).one()))
    return " ".join(parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flight:
    """How far an unfinished run is."""

    run: Run
    responses: int
    """Items with a response or the reason why there is none."""
    rated: int
    """Responses with a verdict, of the judge that is furthest on."""
    touched: datetime
    """When it last got a response or was asked for."""

    @property
    def seconds(self) -> float:
        """Seconds since then."""
        return (now() - self.touched).total_seconds()


def in_flight(store: Store) -> list[Flight]:
    """Return the runs without a score that were touched within the last hour, latest first."""
    scored = sa.select(scores.c.run_id)
    query = sa.select(runs).where(runs.c.run_id.not_in(scored)).order_by(runs.c.updated_at.desc())
    with store.read() as connection:
        unfinished = [Run(**row._mapping) for row in connection.execute(query)]
    found = [_flight(store, run) for run in unfinished]
    return [flight for flight in found if flight.seconds < RECENT.total_seconds()]


def _flight(store: Store, run: Run) -> Flight:
    listed = (
        sa.select(responses.c.item_key, responses.c.text_key, responses.c.created_at)
        .join(item_lists, item_lists.c.item_key == responses.c.item_key)
        .where(
            responses.c.generation_key == run.generation_key,
            item_lists.c.list_key == run.list_key,
        )
        .subquery()
    )
    totals = sa.select(sa.func.count(), sa.func.max(listed.c.created_at)).select_from(listed)
    with store.read() as connection:
        done, latest = connection.execute(totals).one()
        known = list(connection.execute(sa.select(judges.c.judge_key)).scalars())
        rated = [connection.execute(_rated(listed, judge)).scalar_one() for judge in known]
    return Flight(
        run=run,
        responses=int(done),
        rated=max(rated, default=0),
        touched=max(utc(time) for time in (run.updated_at, latest) if time is not None),
    )


def _rated(listed: sa.Subquery, judge: str) -> sa.Select[int]:
    # With the judge given, a verdict is found by its key: judge, item, text. The database would
    # rather read all verdicts if it were to find the judges itself.
    return (
        sa.select(sa.func.count(sa.distinct(listed.c.item_key)))
        .select_from(listed)
        .join(
            verdicts,
            (verdicts.c.judge_key == judge)
            & (verdicts.c.item_key == listed.c.item_key)
            & (verdicts.c.text_key == listed.c.text_key),
        )
    )


def has_items(store: Store) -> bool:
    """Return whether there is anything to show."""
    with store.read() as connection:
        return connection.execute(sa.select(items.c.item_key).limit(1)).first() is not None
