"""Values of several runs on the same items, in one table.

An item stands in one row, whichever lists it is in: runs over different lists are paired by the
items they share.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from mipo_eval.records import Run
from mipo_eval.stats.bootstrap import Crossed, Floats
from mipo_eval.store.items import Index, ItemList
from mipo_eval.verdict import NO_WISH

OVERALL = "average"
"""What a number over the items of all tasks has in place of a task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One metric of several runs on the items of one task."""

    task: str
    metric: str
    keys: tuple[str, ...]
    """Item keys, in order of first appearance."""
    groups: tuple[Crossed, ...]
    runs: tuple[Run, ...]
    values: Floats
    """(items, runs), in the units of the metric; NaN where a run has no value."""
    unscored: tuple[Mapping[str, int], ...]
    """Per run: its own items without a value, counted by reason."""
    ties: tuple[float | None, ...]
    """Per run: tie rate in percent; None where nothing is compared with a reference."""

    def n(self, column: int) -> int:
        """Return how many items of a run have a value."""
        return int((~np.isnan(self.values[:, column])).sum())

    def mean(self, column: int) -> float | None:
        """Return a run's mean over its items with a value; None without any."""
        return float(np.nanmean(self.values[:, column])) if self.n(column) else None


class Column(NamedTuple):
    """One run's values of all items of its list."""

    values: Floats
    """(items,); NaN where there is none."""
    why: Mapping[int, str]
    """Why, by row."""
    tied: Floats | None
    """(items,) 1 for a tie with the reference, 0 for none, NaN where nothing was compared."""


class SheetPart(NamedTuple):
    """What one run gives to one sheet."""

    run: Run
    listed: ItemList
    column: Column


def sheet_of(task: str, metric: str, parts: Sequence[SheetPart]) -> Sheet:
    """Return what several runs have on the items of one task."""
    # Runs of one list (seeds, methods) share its places, found once; two rows of a list that hold
    # the same item keep the last value.
    row: dict[str, int] = {}
    groups: list[Crossed] = []
    places: dict[str, list[int]] = {}
    for part in parts:
        if part.run.list_key in places:
            continue
        for index in part.listed.tasks[task].tolist():
            key = part.listed.keys[index]
            if key not in row:
                row[key] = len(row)
                groups.append(part.listed.groups[index])
            places.setdefault(part.run.list_key, []).append(row[key])
    table = np.full((len(row), len(parts)), np.nan)
    for number, part in enumerate(parts):
        own = part.column.values[part.listed.tasks[task]]
        table[places[part.run.list_key], number] = own
    return Sheet(
        task=task,
        metric=metric,
        keys=tuple(row),
        groups=tuple(groups),
        runs=tuple(part.run for part in parts),
        values=table,
        unscored=tuple(_unscored(part.column, part.listed.tasks[task]) for part in parts),
        ties=tuple(_tie_rate(part.column, part.listed.tasks[task]) for part in parts),
    )


def overall(sheets: Sequence[Sheet]) -> dict[str, Sheet]:
    """Return the items of all tasks as one; nothing where not all runs have all tasks."""
    if not sheets or any(sheet.runs != sheets[0].runs for sheet in sheets):
        return {}
    unscored: list[Counter[str]] = [
        sum(map(Counter, own), Counter()) for own in zip(*(s.unscored for s in sheets), strict=True)
    ]
    whole = replace(
        sheets[0],
        task=OVERALL,
        keys=tuple(key for sheet in sheets for key in sheet.keys),
        groups=tuple(group for sheet in sheets for group in sheet.groups),
        values=np.concatenate([sheet.values for sheet in sheets]),
        unscored=tuple(unscored),
        ties=(None,) * len(sheets[0].runs),
    )
    return {OVERALL: whole}


def _unscored(column: Column, rows: Index) -> Mapping[str, int]:
    absent = rows[np.isnan(column.values[rows])].tolist()
    return Counter(column.why[row] for row in absent if column.why[row] != NO_WISH)


def _tie_rate(column: Column, rows: Index) -> float | None:
    if column.tied is None:
        return None
    known = column.tied[rows]
    known = known[~np.isnan(known)]
    return 100 * float(known.mean()) if len(known) else None
