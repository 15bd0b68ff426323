"""Addresses of the items behind numbers: pages show them as links beside each line."""

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from mipo_eval.dashboards.links import address, run_name
from mipo_eval.store import Store
from mipo_eval.store.judges import StoredJudge, list_judges
from mipo_eval.store.runs import Run, list_runs
from mipo_eval.store.tables import choices, item_lists, responses, runs, verdicts


def of_ratings(store: Store) -> dict[str, str]:
    """Return, by judge key, where to read ratings of a judge: in the latest run it has rated.

    A judge that rated no response of a run is not there.
    """
    known = {run.run_id: run for run in list_runs(store)}
    found = {}
    with store.read() as connection:
        for judge in list_judges(store):
            run_id = connection.execute(_latest_rated(judge.key)).scalar()
            if run_id is not None:
                found[judge.key] = address("pairs", a=run_name(known[run_id]), by=judge.label)
    return found


def _latest_rated(judge: str) -> sa.Select[Any]:
    # The join begins with the run's items, so that each look-up is one by key.
    rated = (
        sa.select(sa.literal(1))
        .select_from(item_lists)
        .join(
            responses,
            (responses.c.generation_key == runs.c.generation_key)
            & (responses.c.item_key == item_lists.c.item_key),
        )
        .join(
            verdicts,
            (verdicts.c.judge_key == judge)
            & (verdicts.c.item_key == responses.c.item_key)
            & (verdicts.c.text_key == responses.c.text_key),
        )
        .where(item_lists.c.list_key == runs.c.list_key)
        .correlate(runs)
    )
    latest = sa.select(runs.c.run_id).where(rated.exists())
    return latest.order_by(runs.c.created_at.desc(), runs.c.run_id).limit(1)


def of_choices(store: Store) -> dict[str, str]:
    """Return, by judge key, where to read choices of a judge: between the runs of one of them.

    A judge that chose between no run's responses is not there.
    """
    known = list_runs(store)
    found = {}
    for judge in list_judges(store):
        pair = _compared(store, judge, known)
        if pair is not None:
            first, second = pair
            found[judge.key] = address(
                "pairs",
                a=run_name(first),
                b=run_name(second) if second else None,
                by=judge.label,
            )
    return found


def _compared(
    store: Store, judge: StoredJudge, known: Sequence[Run]
) -> tuple[Run, Run | None] | None:
    """Return the latest runs with the texts of a choice; None for a side that is no run's."""
    query = sa.select(choices.c.item_key, choices.c.text_key_a, choices.c.text_key_b)
    with store.read() as connection:
        row = connection.execute(query.where(choices.c.judge_key == judge.key).limit(1)).first()
        if row is None:
            return None
        said = sa.select(responses.c.generation_key, responses.c.text_key).where(
            responses.c.generation_key.in_({run.generation_key for run in known}),
            responses.c.item_key == row.item_key,
        )
        texts = {generation: text for generation, text in connection.execute(said)}
    sides = [
        next((run for run in known if texts.get(run.generation_key) == text), None)
        for text in (row.text_key_a, row.text_key_b)
    ]
    first, second = sides if sides[0] else sides[::-1]
    return None if first is None else (first, second)
