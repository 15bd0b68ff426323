"""Trainings: learning curves (Figure 2), ablations of the negatives (Tables 5, 6), pair reports."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mipo_eval.dashboards.tables.scores import number_frame, printed, score_table
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.metrics.win_rate import METRIC_NAMES
from mipo_eval.reports.names import (
    marks,
    method_label,
    negatives_of,
    recipe_value,
    training_variant,
)
from mipo_eval.reports.paper import TASKS, published
from mipo_eval.store.engine import Store, now, utc
from mipo_eval.store.runs import list_runs
from mipo_eval.store.tallies import RECENT
from mipo_eval.store.trainings import Training, get_curve, last_values

AXES = {
    "ranking_accuracy": "chosen ranked over rejected (0-1)",
    "held_out_ranking_accuracy": "the same on held-out pairs (0-1)",
    "loss": "loss (nats)",
    "kl": "KL from the base model (nats)",
    "tokens_per_second": "tokens a second",
    "reward_chosen": "implicit reward of the chosen (nats)",
    "reward_rejected": "implicit reward of the rejected (nats)",
    "reward_margin": "margin of the implicit rewards (nats)",
    "margin_learned": "margin of the trained weights at the end (nats)",
    "margin_saved": "margin of the saved checkpoint (nats)",
    "learning_rate": "learning rate",
    "grad_norm": "gradient norm",
}
"""Metric of a curve to the title of its axis, in the order pages offer them."""
ENDS = dict.fromkeys(("ranking_accuracy", "held_out_ranking_accuracy"), (0.0, 1.0))
"""Metric of a curve to its lowest and highest possible value, if it has any."""
STEP_AXIS = "optimizer step"
_POINTS = 400
"""More points than this are averaged over equal stretches of steps: a screen shows no more."""
_WIN, _ACCURACY = METRIC_NAMES["win"], "accuracy"
_BASE = "none (base)"


def axis_title(metric: str) -> str:
    """Return what a curve's axis is called; an unknown metric keeps its name."""
    return AXES.get(metric, metric.replace("_", " "))


def training_label(training: Training) -> str:
    """Return what a training is called in plots: method, negatives, base model, seed, id."""
    variant = training_variant(training)
    parts = [method_label(training.method), *([variant] if variant else [])]
    parts += [training.model.rstrip("/").rsplit("/", 1)[-1], f"seed {training.seed}"]
    return f"{', '.join(parts)} ({training.training_id[:6]})"


def training_table(store: Store, trainings: Sequence[Training]) -> pd.DataFrame:
    """Return one line per training: what it was, how it went, and where each curve ended.

    Column `run_id` is the latest run of its checkpoint, if one was evaluated.
    """
    last = last_values(store)
    measured = {run.model.rstrip("/"): run.run_id for run in reversed(list_runs(store))}
    return pd.DataFrame(
        [
            _line(one, last.get(one.training_id, {}))
            | {"run_id": measured.get((one.checkpoint or "").rstrip("/"))}
            for one in trainings
        ]
    )


def _line(training: Training, last: Mapping[str, float]) -> dict[str, Any]:
    strategy, count = negatives_of(training)
    status, reason = training.status, training.reason
    if status == "running" and now() - utc(training.updated_at) > RECENT:
        status, reason = "stopped", "silent for more than an hour: killed, or its machine is gone"
    return {
        "training": training.training_id[:12],
        "method": method_label(training.method),
        "base model": training.model,
        "suite": training.suite,
        "seed": training.seed,
        "round": training.round,
        "status": status,
        "why": reason,
        "negatives": strategy,
        "N": count,
        "learning rate": recipe_value(training.recipe, "learning_rate"),
        "beta": recipe_value(training.recipe, "beta"),
        "ranking accuracy": last.get("ranking_accuracy"),
        "loss": last.get("loss"),
        "KL": last.get("kl"),
        "margin learned": last.get("margin_learned"),
        "margin saved": last.get("margin_saved"),
        "tokens a second": last.get("tokens_per_second"),
        "minutes": (training.updated_at - training.created_at).total_seconds() / 60,
        "checkpoint": training.checkpoint,
        "updated": training.updated_at,
    }


def curve_metrics(store: Store, training_ids: Sequence[str]) -> list[str]:
    """Return the metrics these trainings measured, the best known first."""
    last = last_values(store)
    found = {metric for one in training_ids for metric in last.get(one, ())}
    known = [metric for metric in AXES if metric in found]
    return [*known, *sorted(found - set(known))]


def curve_table(
    store: Store, trainings: Sequence[Training], metric: str, smoothing: float = 0.0
) -> pd.DataFrame:
    """Return the learning curves of one metric.

    Columns: training (its label), training_id, step, value, smooth. A long curve is averaged over
    stretches of steps; `smooth` is the exponential mean with weight `smoothing` on what was
    before, corrected for its start, and equals `value` without smoothing.

    Args:
        store: where the curves are.
        trainings: whose.
        metric: name of the metric.
        smoothing: 0 (none) to below 1.
    """
    parts = []
    for one in sorted(trainings, key=lambda training: training.training_id):
        if points := get_curve(store, one.training_id, metric):
            own = _thinned(pd.DataFrame(points))
            smooth = _smoothed(own["value"].tolist(), smoothing)
            label = training_label(one)
            parts.append(own.assign(training_id=one.training_id, training=label, smooth=smooth))
    columns = ["training", "training_id", "step", "value", "smooth"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _thinned(curve: pd.DataFrame) -> pd.DataFrame:
    """Average a curve over equal stretches of steps if it has more points than are shown."""
    finite = curve.loc[np.isfinite(curve["value"]), ["step", "value"]]
    if len(finite) <= _POINTS:
        return pd.DataFrame(finite)
    places = np.arange(len(finite)) * _POINTS // len(finite)
    means = pd.DataFrame(finite.groupby(places).mean())
    means["step"] = means["step"].round().astype(int)
    return means


def _smoothed(values: Sequence[float], weight: float) -> list[float]:
    mean, total, out = 0.0, 0.0, []
    for value in values:
        mean = weight * mean + (1 - weight) * value
        total = weight * total + (1 - weight)
        out.append(mean / total)
    return out


def negatives_table(now: Snapshot) -> pd.DataFrame:
    """Return scores of MIPO checkpoints by how their negatives were made, with Table 5 below.

    Columns: task, metric, model, negatives, value, low, high, n, seed, source, run_id; only N = 1.
    The paper's rows are of the tasks that the store has too, or all where it has none.
    """
    measured = _of_trainings(now)
    own = measured[(measured["count"] == 1) & measured["negatives"].notna()]
    known = [
        {"task": TASKS[one.dataset], "model": one.model}
        | {"negatives": "none" if one.method == _BASE else one.method}
        | printed(one)
        for one in published(5)
        if one.dataset in TASKS
    ]
    return _joined(own, known)


def count_table(now: Snapshot) -> pd.DataFrame:
    """Return scores of MIPO checkpoints by negatives per positive, with Table 6 below.

    Columns as in `negatives_table`, and `count` for N. The paper's row of random strings is no
    count and stands in `negatives_table`'s measured rows only.
    """
    measured = _of_trainings(now)
    known = [
        {"task": TASKS["MB"], "model": one.model, "count": int(one.method)} | printed(one)
        for one in published(6)
        if one.method.isdecimal()
    ]
    return _joined(measured[measured["count"].notna()], known)


def _joined(measured: pd.DataFrame, known: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    paper = number_frame(known, list(measured.columns))
    tasks = set(measured["task"])
    if tasks & set(paper["task"]):
        paper = paper[paper["task"].isin(tasks)]
    return paper if measured.empty else pd.concat([measured, paper], ignore_index=True)


def _of_trainings(now: Snapshot) -> pd.DataFrame:
    """Return win rates and accuracies of checkpoints that MIPO trained, with their negatives."""
    columns = ["task", "metric", "model", "negatives", "count", "value", "low", "high", "n", "seed"]
    columns += ["source", "run_id"]
    trained = {
        one.checkpoint.rstrip("/"): one
        for one in reversed(now.trainings)
        if one.checkpoint and method_label(one.method) == "MIPO"
    }
    models = {run.run_id: run.model.rstrip("/") for run, _ in now.scores}
    lines = []
    for row in score_table(now, {_WIN, _ACCURACY}, rules=()).to_dict("records"):
        training = trained.get(models[row["run_id"]])
        if training is None:
            continue
        strategy, count = negatives_of(training)
        about = {
            "model": training.model.rstrip("/").rsplit("/", 1)[-1],
            "negatives": strategy and strategy + marks(training),
            "count": count or 1,
            "seed": training.seed,
        }
        lines.append({name: (row | about)[name] for name in columns})
    return pd.DataFrame(lines, columns=columns)


def flat_table(report: Mapping[str, Any]) -> pd.DataFrame:
    """Return a nested report as a table of names and values, one line each.

    Example:
        >>> flat_table({"pairs": 2, "length": {"chosen": 7.5}}).values.tolist()
        [['pairs', '2'], ['length · chosen', '7.5']]
    """
    lines = [(name, _shown(value)) for name, value in _flat(report)]
    return pd.DataFrame(lines, columns=["name", "value"])


def _flat(report: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in report.items():
        label = f"{above} · {name}" if above else str(name)
        found += _flat(value, label) if isinstance(value, Mapping) else [(label, value)]
    return found


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, list | tuple) and any(isinstance(one, Mapping) for one in value):
        return f"{len(value)} examples"
    if isinstance(value, list | tuple):
        return ", ".join(_shown(one) for one in value)
    return str(value)
