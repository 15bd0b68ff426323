"""Who is served well and who badly: how a metric, and ratings of preferences, differ by user."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from mipo_eval.dashboards.links import address, run_name
from mipo_eval.dashboards.markup import label, number
from mipo_eval.dashboards.tables.comparison import row_values
from mipo_eval.dashboards.tables.headline import short_names
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.metrics.aggregate import direction
from mipo_eval.reports.labels import decimals
from mipo_eval.reports.leaderboard import Section
from mipo_eval.reports.served import Served, by_preference, by_user
from mipo_eval.stats.bootstrap import Crossed

_SURE = 0.05


def served_by(now: Snapshot, found: Section, judge: str | None, task: str) -> dict[int, Served]:
    """Return how each row serves its users, by place of the row; those that name no users are out.

    Args:
        now: the store.
        found: whose rows.
        judge: key of the judge; None without one.
        task: of which data set.
    """
    measured = row_values(now, found, judge).get(task)
    if measured is None:
        return {}
    lower = direction(found.metric) == "lower"
    made = ((row, by_user(measured.of(row), measured.groups, lower=lower)) for row in measured.rows)
    return {row: served for row, served in made if served is not None}


def users_headline(found: Section, served: dict[int, Served]) -> str:
    """Return the sentence that says who serves the worst-off best, and whether users differ."""
    if not served:
        return "The items of this suite name no users, or no row has a value for each item."
    names, places = short_names(found.rows), decimals(found.metric)
    sign = -1 if direction(found.metric) == "lower" else 1
    best = max(served, key=lambda row: sign * served[row].worst_tenth)
    own = served[best]
    n = max(1, round(len(own.users) / 10))
    who = f"the {n} worst served of {len(own.users):,} users"
    chance = number(own.by_chance, places)
    apart = (
        f"less than the {chance} of users served alike (p = {own.p_alike:.3f})"
        if own.p_alike < _SURE
        else f"no less than chance makes it ({chance} if all were served alike)"
    )
    value = number(own.worst_tenth, places)
    return f"{names[best]} does most for {who}: {value}, {apart}."


def spread_table(found: Section, served: dict[int, Served]) -> pd.DataFrame:
    """Return, for each row, how many users have each value: row, value, users."""
    names = short_names(found.rows)
    lines = [
        (label(names[row]), float(value), int(n))
        for row, own in served.items()
        for value, n in zip(*np.unique(own.means.round(6), return_counts=True), strict=True)
    ]
    return pd.DataFrame(lines, columns=["row", "value", "users"])


def worst_table(found: Section, served: dict[int, Served]) -> pd.DataFrame:
    """Return a line a row: what its users have.

    Columns: row, users, worst tenth, by chance, p, median, best tenth.
    """
    names = short_names(found.rows)
    lines = [
        (
            label(names[row]),
            len(own.users),
            own.worst_tenth,
            own.by_chance,
            own.p_alike,
            float(np.median(own.means)),
            float(own.means[-max(1, round(len(own.users) / 10)) :].mean()),
        )
        for row, own in served.items()
    ]
    columns = ["row", "users", "worst tenth", "by chance", "p", "median", "best tenth"]
    return pd.DataFrame(lines, columns=columns)


def user_table(
    now: Snapshot, found: Section, served: dict[int, Served], of: tuple[int, str]
) -> pd.DataFrame:
    """Return a line a user of one row, the worst served first: user, value, items, behind.

    Args:
        now: the store.
        found: whose rows.
        served: of `served_by`.
        of: place of the row, and the task.
    """
    row, task = of
    run = found.rows[row].cells[task].runs[0]
    first: dict[object, int] = {}
    for position, group in enumerate(now.outcomes.listed(run).groups):
        if isinstance(group, Crossed):
            first.setdefault(group.user, position)
    own = served[row]
    lines = [
        (
            label(str(user)),
            float(mean),
            int(n),
            address("pairs", a=run_name(run), item=first[user]) if user in first else None,
        )
        for user, mean, n in zip(own.users, own.means, own.items, strict=True)
    ]
    return pd.DataFrame(lines, columns=["user", "value", "items of them", "behind"])


class Wishes(NamedTuple):
    """Mean ratings by preference and row."""

    preferences: Sequence[str]
    rows: Sequence[str]
    cells: dict[tuple[str, str], float]


def wishes(
    now: Snapshot, found: Section, judge: str | None, rows: Sequence[int], task: str
) -> Wishes | None:
    """Return what a judge's ratings of each preference are under some rows; None without any."""
    cells = [found.rows[row].cells.get(task) for row in rows]
    runs = [cell.runs for cell in cells if cell and cell.runs]
    if judge is None or not runs or not now.outcomes.rates(judge):
        return None
    rated = by_preference(now, runs, judge, task)
    if rated is None:
        return None
    every = short_names(found.rows)
    names = [label(every[row]) for row, cell in zip(rows, cells, strict=True) if cell and cell.runs]
    means = pd.DataFrame(rated.values, columns=names).groupby(list(rated.names)).mean()
    order = means.mean(axis=1).sort_values().index
    told = {
        (label(str(wish)), name): float(means.loc[wish, name]) for wish in order for name in names
    }
    return Wishes([label(str(wish)) for wish in order], names, told)
