"""Runs and their scores."""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa

from mipo_eval.errors import ConfigError
from mipo_eval.keys import clean_text, digest, masked, masked_values
from mipo_eval.records import Run, Score
from mipo_eval.signature import Signature
from mipo_eval.store.engine import Store, lasting, now
from mipo_eval.store.tables import generations, runs, scores, trainings, validations


@lasting
def put_run(store: Store, run: Run) -> None:
    """Store a run, or mark the one that is there as touched now."""
    row = {name: getattr(run, name) for name in Run.__dataclass_fields__}
    row |= {"model": masked(run.model), "environment": masked_values(run.environment)}
    with store.write() as connection:
        store.put(connection, runs, [row], replace=["updated_at"])


def rename_models(store: Store, names: Mapping[str, str]) -> None:
    """Let runs of checkpoints that were moved name them by where they are now."""
    with store.write() as connection:
        for before, after in names.items():
            query = sa.update(runs).where(runs.c.model == before)
            connection.execute(query.values(model=after))


def list_runs(store: Store) -> list[Run]:
    """Return every run, the latest first."""
    query = sa.select(runs).order_by(runs.c.updated_at.desc(), runs.c.run_id)
    return [Run(**row._mapping) for row in store.fetch(query)]


def find_run(store: Store, name: str) -> Run:
    """Return the run whose id starts with `name`.

    Raises:
        ConfigError: no run or several runs match.
    """
    begins = runs.c.run_id.startswith(clean_text(name), autoescape=True)
    query = sa.select(runs).where(begins)
    found = [Run(**row._mapping) for row in store.fetch(query)]
    if len(found) == 1:
        return found[0]
    if found:
        ids = ", ".join(sorted(run.run_id[:12] for run in found)[:5])
        raise ConfigError(f"several runs in {store.name} begin with {name!r}: {ids}")
    raise ConfigError(f"there is no run {name!r} in {store.name}: `mipo-eval runs` lists the runs")


def generation_spec(store: Store, generation_key: str) -> dict[str, Any]:
    """Return how the responses of a generation are made."""
    query = sa.select(generations.c.spec).where(generations.c.generation_key == generation_key)
    ((spec,),) = store.fetch(query)
    return dict(spec)


@lasting
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


def unscored_runs(store: Store) -> list[Run]:
    """Return the runs that have no score yet, the latest first."""
    query = sa.select(runs).where(runs.c.run_id.not_in(sa.select(scores.c.run_id)))
    return [Run(**row._mapping) for row in store.fetch(query.order_by(runs.c.updated_at.desc()))]


@lasting
def put_scores(store: Store, run_id: str, made: Iterable[Score]) -> None:
    """Store the scores of a run; an equal signature replaces the earlier number."""
    columns = [column.name for column in scores.columns if not column.primary_key]
    with store.write() as connection:
        store.put(connection, scores, score_rows(run_id, made), replace=columns)


def score_rows(run_id: str, made: Iterable[Score]) -> list[dict[str, Any]]:
    """Return the rows of a run's scores, made now."""
    created_at = now()
    return [
        {
            "run_id": run_id,
            "task": score.task,
            "metric": score.metric,
            "signature_key": digest(score.signature),
            "value": score.value,
            "n": score.n,
            "unscored_reasons": dict(score.unscored_reasons),
            "ci_low": score.ci95[0] if score.ci95 else None,
            "ci_high": score.ci95[1] if score.ci95 else None,
            "signature": str(score.signature),
            "parts": dict(score.signature.parts),
            "outcomes_key": score.outcomes_key,
            "created_at": created_at,
        }
        for score in made
    ]


def get_scores(store: Store, run_id: str) -> list[Score]:
    """Return the scores of a run, by task, name and signature."""
    query = sa.select(scores).where(scores.c.run_id == run_id)
    found = [_score(row) for row in store.fetch(query)]
    return sorted(found, key=lambda score: (score.task, score.name, score.signature))


def stored_scores(store: Store) -> list[tuple[Run, Score]]:
    """Return every score with its run, oldest run first; those of control entrants too."""
    known = {run.run_id: run for run in list_runs(store)}
    query = (
        sa.select(scores)
        .join(runs, scores.c.run_id == runs.c.run_id)
        .order_by(runs.c.created_at, runs.c.run_id, scores.c.task, scores.c.metric)
    )
    rows = store.fetch(query)
    # A run may have begun since the runs were read.
    return [(known[row.run_id], _score(row)) for row in rows if row.run_id in known]


def _score(row: Any) -> Score:
    return Score(
        task=row.task,
        metric=row.metric,
        value=row.value,
        n=row.n,
        unscored_reasons=row.unscored_reasons,
        ci95=None if row.ci_low is None else (row.ci_low, row.ci_high),
        signature=Signature(row.parts),
        outcomes_key=row.outcomes_key,
    )
