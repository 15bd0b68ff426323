"""What each round of a training reached: where its curves ended, and what its checkpoint scored."""

from collections import defaultdict
from typing import Any

import pandas as pd

from mipo_eval.dashboards.markup import MEASURED
from mipo_eval.dashboards.tables.scores import measured, number_frame
from mipo_eval.dashboards.tables.training import AXES, training_label
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.metrics.win_rate import METRIC_NAMES
from mipo_eval.reports.labels import metric_title
from mipo_eval.reports.names import checkpoint_names
from mipo_eval.store.trainings import Training, last_values, rounds_up_to

_SCORES = (METRIC_NAMES["win"], METRIC_NAMES["half"], "rating_mean", "accuracy", "self_bleu_4")
"""Metrics of evaluated rounds, in the order pages offer them."""
_CURVES = ("ranking_accuracy", "margin_saved", "loss", "mi_lower_bound", "kl")
"""Curves of which the last value is shown."""
_COLUMNS = ("rounds", "round", "measure", "task", "judge", "value", "low", "high", "n", "unscored")


def _chains(trainings: list[Training]) -> list[list[Training]]:
    """Return the rounds of each training that went on, the latest first; one round is no chain."""
    parents = {one.parent for one in trainings}
    last = [one for one in trainings if one.parent and one.training_id not in parents]
    return [rounds_up_to(one, trainings) for one in last]


def rounds_table(now: Snapshot) -> pd.DataFrame:
    """Return a line per number of each round; round 0 is the base model, prompted as its rounds.

    Columns: rounds (what the last of them is called), round, measure, task and judge (empty for
    curves), value, low, high, n, unscored, source, run_id.
    """
    last = last_values(now.store)
    lines: list[dict[str, Any]] = []
    places: dict[str, set[tuple[str, int]]] = defaultdict(set)
    for chain in _chains(now.trainings):
        label = training_label(chain[-1])
        for name in checkpoint_names(chain[0].model):
            places[name].add((label, 0))
        for one in chain:
            ends = last.get(one.training_id, {})
            lines += [
                {"rounds": label, "round": one.round, "measure": AXES.get(metric, metric)}
                | {"value": ends[metric], "source": MEASURED}
                for metric in _CURVES
                if metric in ends
            ]
            for name in checkpoint_names(one.checkpoint) if one.checkpoint else ():
                places[name].add((label, one.round))
    for metric in _SCORES:
        lines += [
            {"rounds": label, "round": number, "measure": metric_title(metric)}
            | {"task": score.task, "judge": score.judge, "run_id": run.run_id}
            | measured(now.numbers.current(run, score))
            for run, score in now.scores
            if score.metric == metric and run.prompting != "default"
            for label, number in places.get(run.model, ())
        ]
    return number_frame(lines, [*_COLUMNS, "source", "run_id"])
