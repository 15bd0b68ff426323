"""Who is served well and who badly: how a metric, and ratings of preferences, differ by user."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from mipo_eval.dashboards.forest import ForestRow
from mipo_eval.dashboards.links import address, run_name
from mipo_eval.dashboards.markup import label, number
from mipo_eval.dashboards.tables.comparison import row_values
from mipo_eval.dashboards.tables.headline import p_text, short_names, unit_of
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.metrics.aggregate import direction, sign
from mipo_eval.reports.labels import decimals
from mipo_eval.reports.leaderboard import Section
from mipo_eval.reports.served import Served, by_preference, by_user
from mipo_eval.stats.bootstrap import Crossed, Floats

_SURE = 0.05
_PLACES = 60
_SMALL, _LARGE = 0.2, 0.8


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
    way_up = sign(found.metric)
    best = max(served, key=lambda row: way_up * served[row].worst_tenth)
    own = served[best]
    n = max(1, round(len(own.users) / 10))
    who = f"the {f'{n:,} worst served' if n > 1 else 'worst served'} of {len(own.users):,} users"
    unit = unit_of(found.metric)
    chance = f"{number(own.by_chance, places)}{unit}"
    apart = (
        f"worse than the {chance} if all were served alike ({p_text(own.p_alike)})"
        if own.p_alike < _SURE
        else f"no worse than by chance ({chance} if all were served alike)"
    )
    value = f"{number(own.worst_tenth, places)}{unit}"
    served_so = f"does most for {who}:" if len(served) > 1 else f"gives {who}"
    return f"{names[best]} {served_so} {value}, {apart}."


def spread_rows(found: Section, served: dict[int, Served]) -> list[ForestRow]:
    """Return the rows of a picture: the mean over users, a dot for all users of a value."""
    names, places = short_names(found.rows), decimals(found.metric)
    return [
        ForestRow(
            name=names[row],
            value=float(own.means.mean()),
            dots=_dots(own.means),
            gain=(
                f"{number(own.worst_tenth, places)} ({number(own.by_chance, places)}),",
                p_text(own.p_alike),
            ),
            n=f"{len(own.users):,}",
        )
        for row, own in served.items()
    ]


def _dots(means: Floats) -> tuple[tuple[float, float], ...]:
    """Return where users are, in so few places as can be told apart, and how large a dot is."""
    low, high = float(means.min()), float(means.max())
    places = np.round((means - low) / ((high - low) or 1.0) * _PLACES) / _PLACES
    values, counts = np.unique(low + places * (high - low), return_counts=True)
    sizes = _SMALL + (_LARGE - _SMALL) * np.sqrt(counts / counts.max())
    return tuple(zip(values.tolist(), sizes.tolist(), strict=True))


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
    return pd.DataFrame(lines, columns=["user", "value", "number of items", "behind"])


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
