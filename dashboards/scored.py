"""Stored scores as tables, one line a number with where it comes from, and the paper's beside."""

from collections.abc import Collection, Sequence

import pandas as pd

from mipo_eval.evaluation.score import Numbers
from mipo_eval.reports.names import RowRule, row_name, trained_rules
from mipo_eval.reports.paper import TASKS, published
from mipo_eval.store import Store
from mipo_eval.store.runs import stored_scores
from mipo_eval.store.trainings import list_trainings

MEASURED, PAPER = "measured", "paper"
COLUMNS = (
    "row",
    "model",
    "method",
    "variant",
    "seed",
    "suite",
    "task",
    "metric",
    "value",
    "low",
    "high",
    "n",
    "unscored",
    "source",
    "run_id",
    "signature",
)
"""`low` and `high` are the 95 % interval; of published numbers the standard deviation over seeds
to both sides. `run_id` and `signature` are empty for published numbers."""


def score_table(
    store: Store, metrics: Collection[str], rules: Sequence[RowRule] | None = None
) -> pd.DataFrame:
    """Return the stored scores of these metrics, oldest run first; columns are `COLUMNS`.

    Args:
        store: where the scores are.
        metrics: names of metrics.
        rules: what runs are called; None: trained checkpoints by the store's trainings.
    """
    named = trained_rules(list_trainings(store)) if rules is None else rules
    lines = []
    numbers = Numbers(store)
    for run, stored in stored_scores(store):
        if stored.control is not None or stored.metric not in metrics:
            continue
        score = numbers.current(run, stored)
        name, (trained, _) = row_name(run, named)
        low, high = score.ci95 or (None, None)
        lines.append(
            (
                row_label(name.model, name.method, name.variant),
                name.model,
                name.method,
                name.variant,
                trained,
                run.suite,
                score.task,
                score.metric,
                score.value,
                low,
                high,
                score.n,
                score.unscored,
                MEASURED,
                run.run_id,
                score.signature,
            )
        )
    return _frame(lines)


def published_table(number: int, metric: str) -> pd.DataFrame:
    """Return a table of the paper with the columns of `score_table`; averages are left out."""
    lines = [
        (
            row_label(one.model, one.method, None),
            one.model,
            one.method,
            None,
            None,
            "paper",
            TASKS[one.dataset],
            metric,
            one.value,
            None if one.std is None else one.value - one.std,
            None if one.std is None else one.value + one.std,
            None,
            None,
            PAPER,
            None,
            None,
        )
        for one in published(number)
        if one.dataset in TASKS
    ]
    return _frame(lines)


def row_label(model: str, method: str, variant: str | None) -> str:
    """Return what a row of a plot is called."""
    return " · ".join(part for part in (model, method, variant) if part)


def with_published(measured: pd.DataFrame, known: pd.DataFrame) -> pd.DataFrame:
    """Return measured numbers with the published ones of the same tasks below them."""
    own = known[known["task"].isin(measured["task"].unique())]
    return own if measured.empty else pd.concat([measured, own]) if len(own) else measured


def _frame(lines: Sequence[tuple[object, ...]]) -> pd.DataFrame:
    frame = pd.DataFrame(list(lines), columns=list(COLUMNS))
    for name in ("value", "low", "high"):
        frame[name] = frame[name].astype(float)
    for name in ("seed", "n", "unscored"):
        frame[name] = frame[name].astype("Int64")
    return frame
