"""One row of a leaderboard against another: who wins, and where the difference comes from."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mipo_eval.dashboards.forest import ForestRow
from mipo_eval.dashboards.markup import label
from mipo_eval.dashboards.tables.comparison import Wins, row_values, wins
from mipo_eval.evaluation.outcomes import ENDS
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.metrics.aggregate import sign
from mipo_eval.reports.equal_length import UNITS
from mipo_eval.reports.leaderboard import Section
from mipo_eval.reports.served import Part, by_length, by_preference, by_user, parts
from mipo_eval.stats.bootstrap import Floats
from mipo_eval.store.runs import generation_spec

Shares = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Versus:
    """Two rows on the items of a task that both have."""

    metric: str
    """By which items are won: a judge's ratings where it gives some, else the leaderboard's."""
    items: tuple[int, int, int]
    """Won by the first, tied, won by the second."""
    preferences: tuple[ForestRow, ...]
    """Differences of ratings."""
    lengths: tuple[ForestRow, ...]
    """Differences of the leaderboard's number where the first is longer, as long, shorter."""
    users: tuple[int, int, int] | None
    """Better served by the first, alike, by the second; None where items name no users."""


def versus(
    now: Snapshot, found: Section, judge: str | None, rows: tuple[int, int], task: str
) -> Versus:
    """Return what tells two rows apart."""
    both = replace(found, rows=tuple(found.rows[row] for row in rows))
    won = wins(now, both, judge, task)
    lengths: tuple[ForestRow, ...] = ()
    users = None
    own = row_values(now, both, judge).get(task)
    if own is not None and len(own.rows) == 2:
        values = np.stack([own.of(0), own.of(1)], axis=1)
        lengths = _lengths(now, both, values, own.groups, task)
        way_up = sign(found.metric)
        served = by_user(way_up * (values[:, 0] - values[:, 1]), own.groups)
        users = None if served is None else _signs(served.means)
    return Versus(
        metric=won.metric,
        items=_first(won),
        preferences=_preferences(now, both, judge, task),
        lengths=lengths,
        users=users,
    )


def _first(won: Wins) -> tuple[int, int, int]:
    if won.table.empty:
        return (0, 0, 0)
    line = won.table.iloc[0]
    return int(line["wins"]), int(line["ties"]), int(line["losses"])


def _signs(differences: Floats) -> tuple[int, int, int]:
    alike = np.isclose(differences, 0.0)
    better = int((~alike & (differences > 0)).sum())
    return better, int(alike.sum()), len(differences) - better - int(alike.sum())


def _lengths(
    now: Snapshot, both: Section, values: Floats, groups: Sequence[object], task: str
) -> tuple[ForestRow, ...]:
    for unit in UNITS:  # of all responses in the same one: tokens where they are known
        told = row_values(now, both, None, f"response_{unit}").get(task)
        if told is not None and len(told.rows) == 2:
            lengths = np.stack([told.of(0), told.of(1)], axis=1)
            if not np.isnan(lengths[~np.isnan(values).any(axis=1)]).any():
                found = by_length(values, lengths, groups, ENDS.get(both.metric))
                return _lines([part._replace(name=f"A is {part.name}") for part in found])
    return ()


def _preferences(
    now: Snapshot, both: Section, judge: str | None, task: str
) -> tuple[ForestRow, ...]:
    cells = [row.cells.get(task) for row in both.rows]
    if judge is None or not now.outcomes.rates(judge) or None in cells:
        return ()
    rated = by_preference(now, [cell.runs for cell in cells if cell], judge, task)
    if rated is None:
        return ()
    return _lines(parts(rated.names, rated.values, rated.groups, ENDS["rating_mean"]))


def _lines(found: Sequence[Part]) -> tuple[ForestRow, ...]:
    return tuple(
        ForestRow(
            name=f"{part.name} ({part.found.n:,})",
            value=part.found.difference,
            ci95=part.found.ci95,
        )
        for part in found
    )


def shares_of(counts: tuple[int, int, int]) -> Shares | None:
    """Return counts of wins, ties and losses in percent; None of nothing."""
    n = sum(counts)
    return None if not n else (100 * counts[0] / n, 100 * counts[1] / n, 100 * counts[2] / n)


def settings_apart(now: Snapshot, found: Section, rows: tuple[int, int], task: str) -> pd.DataFrame:
    """Return in what two rows were made differently: setting, first, second; nothing is alike.

    Of how numbers were made and of what the responses were drawn with.
    """
    told = []
    for row in rows:
        cell = found.rows[row].cells[task]
        parts_of = {f"signature: {name}": its for name, its in cell.signature.parts.items()}
        run = cell.runs[0]
        of_run = {"model": run.model, "prompting": run.prompting, "seeds": cell.seeds}
        of_run |= {"made (UTC)": f"{run.created_at:%Y-%m-%d %H:%M}", "items": run.n_items}
        told.append(of_run | _flat(generation_spec(now.store, run.generation_key)) | parts_of)
    first, second = told
    lines = [
        (label(name), _text(first.get(name)), _text(second.get(name)))
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    ]
    return pd.DataFrame(lines, columns=["setting", "first", "second"])


def _flat(spec: object, before: str = "") -> dict[str, object]:
    if not isinstance(spec, dict):
        return {before: spec}
    found: dict[str, object] = {}
    for name, value in spec.items():
        found |= _flat(value, f"{before}.{name}" if before else str(name))
    return found


def _text(value: object) -> str:
    return "" if value is None else label(str(value), 200)
