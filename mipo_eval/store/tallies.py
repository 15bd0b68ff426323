"""What judges said, counted: by rating, by place, by run, and how far unfinished runs are."""

from collections.abc import Collection
from datetime import timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from mipo_eval.records import Run
from mipo_eval.store.calls import Spending, spending
from mipo_eval.store.engine import Store, lasting, now, utc
from mipo_eval.store.judges import list_judges
from mipo_eval.store.responses import Absence, listed_responses
from mipo_eval.store.runs import unscored_runs
from mipo_eval.store.tables import choices, item_lists, items, responses, runs, verdicts
from mipo_eval.verdict import Shown, Verdict


def _on_responses(generation_key: Any, judge_key: str) -> sa.Join:
    """Join the responses of a generation with what one judge said of them.

    With the judge given, a verdict is found by its key: judge, item, text.
    """
    return listed_responses(generation_key).join(
        verdicts,
        (verdicts.c.judge_key == judge_key)
        & (verdicts.c.item_key == responses.c.item_key)
        & (verdicts.c.text_key == responses.c.text_key),
    )


def latest_rated(store: Store, judge_key: str) -> str | None:
    """Return the id of the latest run with a response that a judge rated; None without any."""
    rated = (
        sa.select(sa.literal(1))
        .select_from(_on_responses(runs.c.generation_key, judge_key))
        .where(item_lists.c.list_key == runs.c.list_key)
        .correlate(runs)
    )
    latest = sa.select(runs.c.run_id).where(rated.exists())
    found = store.fetch(latest.order_by(runs.c.created_at.desc(), runs.c.run_id).limit(1))
    return found[0].run_id if found else None


def unrated(store: Store, run: Run, judge_key: str, *, references: bool = False) -> list[Absence]:
    """Return why verdicts of a judge on a run's responses, or on the references, have no rating."""
    if references:
        own = (verdicts.c.item_key == items.c.item_key) & (
            verdicts.c.text_key == items.c.reference_key
        )
        joined = item_lists.join(items, items.c.item_key == item_lists.c.item_key).join(
            verdicts, (verdicts.c.judge_key == judge_key) & own
        )
    else:
        joined = _on_responses(run.generation_key, judge_key)
    number = sa.func.count(sa.distinct(verdicts.c.item_key))
    query = (
        sa.select(verdicts.c.reason, number, sa.func.min(item_lists.c.position))
        .select_from(joined)
        .where(item_lists.c.list_key == run.list_key, verdicts.c.rating.is_(None))
        .group_by(verdicts.c.reason)
    )
    return [Absence(str(why), n, first) for why, n, first in store.fetch(query)]


def judging_spent(store: Store, run: Run, judge_key: str) -> list[Spending]:
    """Return what a judge's ratings of a run's responses took, by backend.

    A call that served several runs is counted in each.
    """
    own = (
        sa.select(verdicts.c.call_key)
        .select_from(_on_responses(run.generation_key, judge_key))
        .where(item_lists.c.list_key == run.list_key)
    )
    return spending(store, own)


def judge_spent(store: Store, judge_key: str, list_keys: Collection[str]) -> list[Spending]:
    """Return what all of a judge's ratings on the items of some lists took, each call once."""
    listed = sa.select(item_lists.c.item_key).where(item_lists.c.list_key.in_(list_keys))
    own = sa.select(verdicts.c.call_key).where(
        verdicts.c.judge_key == judge_key, verdicts.c.item_key.in_(listed)
    )
    return spending(store, own)


RECENT = timedelta(hours=1)
"""What was silent for longer is not at work any more: a run got no response, a training no step."""


class Flight(NamedTuple):
    """How far an unfinished run is."""

    run: Run
    responses: int
    """Items with a response or the reason why there is none."""
    rated: int
    """Responses with a verdict, of the judge that is furthest on."""


@lasting
def in_flight(store: Store) -> list[Flight]:
    """Return the runs without a score that were touched within the last hour, latest first.

    One that lacks nothing is at its end: too short to be scored, such as a file of one response.
    """
    known = list_judges(store)
    found = []
    for run in unscored_runs(store):
        of_list = item_lists.c.list_key == run.list_key
        made = sa.select(
            sa.func.count(), sa.func.count(responses.c.text), sa.func.max(responses.c.created_at)
        ).where(of_list)
        number = sa.select(sa.func.count(sa.distinct(verdicts.c.item_key))).where(of_list)
        with store.read() as connection:
            done, texts, latest = connection.execute(
                made.select_from(listed_responses(run.generation_key))
            ).one()
            rated = [
                connection.execute(
                    number.select_from(_on_responses(run.generation_key, judge.key))
                ).scalar_one()
                for judge in known
            ]
        touched = max(utc(time) for time in (run.updated_at, latest) if time is not None)
        furthest = max(rated, default=0)
        if now() - touched < RECENT and (done < run.n_items or furthest < texts):
            found.append(Flight(run, int(done), furthest))
    return found


def rating_counts(store: Store) -> list[tuple[str, int | None, int]]:
    """Return (judge key, rating, verdicts) of all verdicts; without a rating it is None."""
    keys = (verdicts.c.judge_key, verdicts.c.rating)
    query = sa.select(*keys, sa.func.count()).group_by(*keys)
    return [(key, rating, n) for key, rating, n in store.fetch(query)]


def choice_counts(store: Store) -> list[tuple[str, Shown, Verdict | None, int]]:
    """Return (judge key, which text stood first, winner, choices) of all choices."""
    keys = (choices.c.judge_key, choices.c.shown_first, choices.c.winner)
    query = sa.select(*keys, sa.func.count()).group_by(*keys)
    return [(key, shown, won, n) for key, shown, won, n in store.fetch(query)]


def mean_ratings(store: Store, judge_key: str, below: str | None) -> list[tuple[str, str, float]]:
    """Return (item key, text key, mean rating) of a judge, of items with keys below one."""
    keys = (verdicts.c.item_key, verdicts.c.text_key)
    query = (
        sa.select(*keys, sa.func.avg(verdicts.c.rating))
        .where(
            verdicts.c.judge_key == judge_key,
            verdicts.c.rating.is_not(None),
            *([] if below is None else [verdicts.c.item_key < below]),
        )
        .group_by(*keys)
    )
    return [(item, text, float(mean)) for item, text, mean in store.fetch(query)]
