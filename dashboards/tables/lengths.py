"""Numbers as they would be at equal length, for the eye and as files."""

import numpy as np
import pandas as pd

from mipo_eval.dashboards.markup import label
from mipo_eval.dashboards.tables.comparison import RowValues, row_values
from mipo_eval.dashboards.tables.leaderboard import labels
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.reports.equal_length import (
    UNITS,
    EqualLength,
    against_references,
    can_be_controlled,
    equal_length,
)
from mipo_eval.reports.leaderboard import Section
from mipo_eval.stats.bootstrap import Floats, Interval

COLUMNS = [
    *("row", "task", "at_equal_length", "low", "high", "raw"),
    *("longer", "by", "unit", "pays", "n", "seen"),
]
FORMATS = dict.fromkeys(("at_equal_length", "low", "high", "raw", "longer"), "%.1f") | {
    "by": "%+.0f",
    "pays": "%+.2f",
}
TITLES = {
    "at_equal_length": "at equal length",
    "raw": "as measured",
    "longer": "longer responses (%)",
    "by": "longer by (mean)",
    "unit": "counted in",
    "pays": "gain by length (log-odds)",
    "seen": "equal lengths seen",
}
"""Columns to their heads on a page."""
NOTES = (
    "Longer responses: how many are longer than what they are compared with. Gain by length: "
    "log-odds that one standard deviation more of length earns.",
    "Equal lengths seen: unticked where nearly every response is longer, or shorter. Then hardly "
    "any had equal length, and the number is a guess.",
)


def rate_table(now: Snapshot, found: Section) -> pd.DataFrame:
    """Return what win rates would be if responses were as long as the references."""
    names = list(map(label, labels(found.rows)))
    lines = [
        (names[row], task, of.rate, *_ends(of.ci95), of.raw_rate, *_of(EqualLength(of, UNITS[1])))
        for (row, task), of in against_references(now, found).items()
    ]
    return pd.DataFrame(lines, columns=COLUMNS)


def _ends(interval: Interval | None) -> tuple[float | None, float | None]:
    return interval or (None, None)


def _of(equal: EqualLength) -> tuple[float, float, str, float, int, bool]:
    of = equal.found
    length = of.share_longer, of.mean_difference, equal.unit
    return *length, of.length_effect, of.n, not of.extrapolated


def difference_table(
    now: Snapshot, found: Section, judge: str | None, baseline: int, task: str
) -> pd.DataFrame:
    """Return what the differences to a baseline would be between equally long responses.

    Lengths are means over seeds.
    """
    names, lines = list(map(label, labels(found.rows))), []
    own = row_values(now, found, judge).get(task) if can_be_controlled(found.metric) else None
    lengths = {unit: row_values(now, found, None, f"response_{unit}").get(task) for unit in UNITS}
    if own is not None and baseline in own.rows and lengths["characters"] is not None:
        nothing = np.full(len(own.groups), np.nan)

        def both(of: RowValues | None, row: int) -> Floats:
            one, two = (of.of(r) if of and r in of.rows else nothing for r in (row, baseline))
            return np.stack([one, two], axis=1)

        for row in own.rows:
            values = both(own, row)
            if row == baseline or np.isnan(values.sum(axis=1)).all():
                continue
            equal = equal_length(
                values, {unit: both(lengths[unit], row) for unit in UNITS}, list(own.groups)
            )
            raw = 2 * equal.found.raw_rate - 100
            lines.append((names[row], task, equal.difference, *_ends(equal.ci95), raw, *_of(equal)))
    return pd.DataFrame(lines, columns=COLUMNS)
