"""What numbers would be if responses were as long as what they are compared with."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.evaluation.outcomes import Outcomes
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.metrics.win_rate import METRIC_NAMES
from mipo_eval.records import Run
from mipo_eval.reports.leaderboard import Section, by_seed
from mipo_eval.stats.bootstrap import Floats, Labels
from mipo_eval.stats.length import LengthControlled, length_controlled
from mipo_eval.store.items import get_items
from mipo_eval.store.judges import find_judge

UNITS = ("tokens", "characters")
Lengths = Mapping[tuple[str, str], Floats]
"""Lengths of responses by unit and task."""


class EqualLength(NamedTuple):
    """A comparison as it would be if both runs' responses were equally long."""

    found: LengthControlled
    """Of the first run against the second; a tie is half a win."""
    unit: str
    """Of the lengths: tokens, or characters where a response's tokens are not known."""

    @property
    def difference(self) -> float:
        """Difference of the values, in points."""
        return 2 * self.found.rate - 100

    @property
    def ci95(self) -> tuple[float, float] | None:
        """Interval of the difference."""
        interval = self.found.ci95
        return interval and (2 * interval[0] - 100, 2 * interval[1] - 100)


def row_lengths(outcomes: Outcomes, runs: Sequence[Run], metric: str) -> Lengths:
    """Return the lengths of all responses, by unit and task.

    Raises:
        ConfigError: the metric's items do not lie between losing (0) and winning (100).
    """
    if not can_be_controlled(metric):
        raise ConfigError(
            f"--control-length works for win rates and accuracy, not for {metric}: choose another "
            "--metric, or leave --control-length out"
        )
    return {
        (unit, sheet.task): sheet.values
        for unit in UNITS
        for sheet in outcomes.sheets(runs, f"response_{unit}")
    }


def can_be_controlled(metric: str) -> bool:
    """Whether a metric's items lie between losing (0) and winning (100)."""
    return metric in {*METRIC_NAMES.values(), "accuracy"}


def equal_length(values: Floats, lengths: Mapping[str, Floats], groups: Labels) -> EqualLength:
    """Return how two runs compare at equal length.

    Args:
        values: (items, 2) rates in percent.
        lengths: by unit, (items, 2).
        groups: one label per item.

    Raises:
        DataError: no item has both values and lengths.
    """
    differences = values[:, 0] - values[:, 1]
    common = ~np.isnan(differences)
    # Tokens and characters must not be mixed: one response without tokens, and all are measured
    # in characters.
    unit = "characters" if np.isnan(lengths["tokens"][common]).any() else "tokens"
    own, rival = lengths[unit].T
    # From -100 to 100 points to 0 to 1, so that a predicted rate is a predicted difference.
    outcomes = (differences + 100) / 200
    return EqualLength(length_controlled(outcomes, own, rival, groups), unit)


def equal_json(equal: EqualLength) -> dict[str, Any]:
    """Return a comparison at equal length as `--json` shows it."""
    return {
        "difference": equal.difference,
        "ci95": equal.ci95,
        "raw_difference": 2 * equal.found.raw_rate - 100,
    } | controlled_json(equal.found, equal.unit)


def controlled_json(found: LengthControlled, unit: str) -> dict[str, Any]:
    """Return a rate at equal length as `--json` shows it."""
    return {
        "win_rate": found.rate,
        "raw_win_rate": found.raw_rate,
        "unit": unit,
        "mean_length_difference": found.mean_difference,
        "share_longer": found.share_longer,
        "length_effect": found.length_effect,
        "extrapolated": found.extrapolated,
        "n": found.n,
        "unscored": found.unscored,
    }


def against_references(now: Snapshot, found: Section) -> dict[tuple[int, str], LengthControlled]:
    """Return what win rates of a leaderboard would be at the length of the references.

    Lengths are characters, since nobody counted a reference's tokens. Seeds of a row are items of
    the same groups.

    Args:
        now: the store.
        found: its rows; a leaderboard of another number than a win rate has none.

    Returns:
        By place of the row, and task.
    """
    key = next((made.parts.get("judge_key") for made in found.signatures.values()), None)
    judge = find_judge(now.store, key).key if key else None
    runs = {run.run_id: run for row in found.rows for c in row.cells.values() for run in c.runs}
    if found.metric not in METRIC_NAMES.values() or not runs or judge is None:
        return {}
    lists = {run.list_key for run in runs.values()}
    references = {
        item.key: float(len(item.reference)) if item.reference else np.nan
        for list_key in lists
        for _, item in get_items(now.store, list_key)
    }
    listed = tuple(runs.values())
    lengths = {s.task: s for s in now.outcomes.sheets(listed, "response_characters")}
    made = {}
    for sheet in now.outcomes.sheets(listed, found.metric, judge):
        rival = np.array([references[item_key] for item_key in sheet.keys])
        place = {run.run_id: column for column, run in enumerate(sheet.runs)}
        for index, row in enumerate(found.rows):
            cell = row.cells.get(sheet.task)
            own = [place[run.run_id] for run in (cell.runs if cell else ()) if run.run_id in place]
            if not own:
                continue
            won = by_seed(sheet, [own])[:, 0].T
            sizes = by_seed(lengths[sheet.task], [own])[:, 0].T
            try:
                made[index, sheet.task] = length_controlled(
                    won.ravel() / 100,
                    sizes.ravel(),
                    np.tile(rival, len(own)),
                    list(sheet.groups) * len(own),
                )
            except DataError:  # no item has a verdict and both lengths
                continue
    return made
