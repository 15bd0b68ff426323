"""Stored scores as tables, one line a number with where it comes from, and the paper's beside."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import pandas as pd

from mipo_eval.dashboards.markup import MEASURED, PAPER
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.records import Score
from mipo_eval.reports.names import RowName, RowRule, row_name, trained_rules
from mipo_eval.reports.paper import TASKS, Published, published

COLUMNS = (
    *("row", "model", "method", "variant", "seed", "suite", "task", "metric"),
    *("value", "low", "high", "n", "unscored", "source", "run_id", "signature"),
)
"""`low` and `high` are the 95 % interval; of published numbers the standard deviation over seeds
to both sides. `run_id` and `signature` are empty for published numbers."""


def score_table(
    now: Snapshot, metrics: Collection[str], rules: Sequence[RowRule] | None = None
) -> pd.DataFrame:
    """Return the scores of these metrics, oldest run first; columns are `COLUMNS`.

    Args:
        now: where the scores are.
        metrics: names of metrics.
        rules: what runs are called; None: trained checkpoints by the store's trainings.
    """
    named = trained_rules(now.trainings) if rules is None else rules
    lines = []
    for run, score in now.scores:
        if score.metric in metrics:
            name, (trained, _) = row_name(run, named)
            about = {
                "row": name.in_full,
                "model": name.model,
                "method": name.method,
                "variant": name.variant,
                "seed": trained,
                "suite": run.suite,
                "task": score.task,
                "metric": score.metric,
                "run_id": run.run_id,
                "signature": score.signature,
            }
            lines.append(about | measured(now.numbers.current(run, score)))
    return number_frame(lines, COLUMNS)


def published_table(number: int, metric: str) -> pd.DataFrame:
    """Return a table of the paper with the columns of `score_table`; averages are left out."""
    lines = [
        {
            "row": RowName(model=one.model, method=one.method).in_full,
            "model": one.model,
            "method": one.method,
            "suite": "paper",
            "task": TASKS[one.dataset],
            "metric": metric,
        }
        | printed(one)
        for one in published(number)
        if one.dataset in TASKS
    ]
    return number_frame(lines, COLUMNS)


def with_published(measured: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Return measured numbers with the published ones of the same tasks below them."""
    own = known[known["task"].isin(measured["task"].unique())]
    return own if measured.empty else pd.concat([measured, own]) if len(own) else measured


def of_same(table: pd.DataFrame, by: str = "model") -> pd.DataFrame:
    """Return measured numbers, and published ones of the same base models (or judges) only."""
    own = table.loc[table["source"] == MEASURED, by].unique()
    return table[(table["source"] == MEASURED) | table[by].isin(own)]


def measured(score: Score) -> dict[str, Any]:
    """Return the columns of a number: value, interval, items, source."""
    low, high = score.ci95 or (None, None)
    about = {"value": score.value, "low": low, "high": high, "n": score.n}
    return about | {"unscored": score.unscored, "source": MEASURED}


def printed(number: Published) -> dict[str, Any]:
    """Return the same columns of a number of the paper."""
    value, std = number.value, number.std
    ends = (None, None) if std is None else (value - std, value + std)
    return {"value": value, "low": ends[0], "high": ends[1], "source": PAPER}


def number_frame(lines: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """Return lines of numbers as a table, whose missing numbers are absent and not objects."""
    frame = pd.DataFrame(list(lines), columns=list(columns))
    whole = dict.fromkeys({"seed", "n", "unscored"} & {*columns}, "Int64")
    return frame.astype({"value": "float64", "low": "float64", "high": "float64", **whole})
