"""Judges against people, hostile texts and control entrants: whether one can be believed."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from mipo_eval.dashboards.scored import MEASURED, PAPER
from mipo_eval.evaluation.score import Numbers
from mipo_eval.reports.names import row_name, trained_rules
from mipo_eval.reports.paper import TASKS, published
from mipo_eval.store import Store
from mipo_eval.store.judges import list_judges
from mipo_eval.store.runs import stored_scores
from mipo_eval.store.trainings import list_trainings
from mipo_eval.store.validations import Validation, list_validations

ACCURACIES = {"strict": "strict", "tie_tolerant": "tie-tolerant"}
"""Name among a validation's figures to the paper's."""


def judge_names(store: Store) -> dict[str, str]:
    """Return what judges are called, by key; those of equal name with the key's beginning."""
    known = list_judges(store)
    names = [judge.name for judge in known]
    return {
        judge.key: judge.name if names.count(judge.name) == 1 else judge.label for judge in known
    }


def accuracy_table(store: Store) -> pd.DataFrame:
    """Return how judges meet human labels, with Table 7 below.

    Columns: judge, judge_key, data, accuracy ("strict" or "tie-tolerant"), value, low, high
    (percent), n, source. The constant judge, which always ties, has 0 and 100.
    """
    names = judge_names(store)
    lines: list[dict[str, Any]] = []
    for one in list_validations(store):
        for figure, accuracy in ACCURACIES.items():
            found = _figure(one.figures, "judge", figure)
            if found:
                low, high = found.get("ci95") or (None, None)
                lines.append(
                    {
                        "judge": names.get(one.judge_key, one.judge_key[:8]),
                        "judge_key": one.judge_key,
                        "data": one.data,
                        "accuracy": accuracy,
                        "value": found.get("value"),
                        "low": low,
                        "high": high,
                        "n": found.get("n"),
                        "source": MEASURED,
                    }
                )
    lines += [
        {
            "judge": number.model,
            "data": TASKS.get(number.dataset, number.dataset),
            "accuracy": number.method,
            "value": number.value,
            "source": PAPER,
        }
        for number in published(7)
    ]
    columns = ["judge", "judge_key", "data", "accuracy", "value", "low", "high", "n", "source"]
    frame = pd.DataFrame(lines, columns=columns)
    for name in ("value", "low", "high"):
        frame[name] = frame[name].astype(float)
    return frame


def _figure(figures: Mapping[str, Any], *path: str) -> Mapping[str, Any] | None:
    found: Any = figures
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


def validation_table(store: Store) -> pd.DataFrame:
    """Return one line per judge and data: accuracies, ties, what it must beat, biases, failings."""
    names = judge_names(store)
    found = [one for one in list_validations(store) if "judge" in one.figures]
    return pd.DataFrame(
        [
            {
                "judge": names.get(one.judge_key, one.judge_key[:8]),
                "data": one.data,
                "pairs": one.figures.get("pairs"),
                "judged": one.figures.get("judged"),
                **{
                    title: _value(one, *path)
                    for title, path in {
                        "strict (%)": ("judge", "strict"),
                        "tie-tolerant (%)": ("judge", "tie_tolerant"),
                        "tie rate (%)": ("judge", "tie_rate"),
                        "ties half (%)": ("judge", "half_ties"),
                        "longest, ties half (%)": ("longest", "half_ties"),
                        "over longest (points)": ("over_longest",),
                        "named the first place (%)": ("first_place_rate",),
                        "same verdict in both orders (%)": ("same_verdict_rate",),
                    }.items()
                },
                "kappa": (_figure(one.figures, "judge") or {}).get("kappa"),
                "excess for longer (points)": (_figure(one.figures, "length") or {}).get("excess"),
                "unparsed (%)": one.figures.get("unparsed_rate"),
                "failings": "; ".join(one.failings),
            }
            for one in found
        ]
    )


def _value(one: Validation, *path: str) -> float | None:
    found = (_figure(one.figures, *path) or {}).get("value")
    return None if found is None else float(found)


def attack_table(store: Store) -> pd.DataFrame:
    """Return how often hostile responses win, by judge and kind of attack; a tie is half a win.

    Columns: judge, judge_key, kind, value, low, high (percent), n, source, row.
    """
    names = judge_names(store)
    lines = []
    for one in list_validations(store):
        attacks = _figure(one.figures, "attacks") or {}
        over_all = attacks.get("hostile_win_rate")
        for kind in [*attacks.get("by_kind", ()), *([over_all] if over_all else ())]:
            low, high = kind.get("ci95") or (None, None)
            judge = names.get(one.judge_key, one.judge_key[:8])
            name = kind["kind"] or "all kinds"
            about = (judge, one.judge_key, name, kind["value"], low, high, kind["n"], MEASURED)
            lines.append((*about, f"{judge} · {name}"))
    columns = ["judge", "judge_key", "kind", "value", "low", "high", "n", "source", "row"]
    return pd.DataFrame(lines, columns=columns)


def control_table(store: Store) -> pd.DataFrame:
    """Return win rates of control entrants beside the model's own: they must be far below.

    Columns: row, task, judge, entrant ("model", "echo", ...), metric, value, low, high, n, source,
    run_id.
    """
    rules = trained_rules(list_trainings(store))
    found, controlled = [], set()
    numbers = Numbers(store)
    for run, stored in stored_scores(store):
        control, metric = stored.control, stored.metric
        if metric not in {"win_rate_tie_inclusive", "rating_mean"}:
            continue
        score = numbers.current(run, stored)
        if score.value is None:
            continue
        name, _ = row_name(run, rules)
        judge = score.judge or ""
        key = (run.run_id, score.task, judge, metric)
        if control is not None:
            controlled.add(key)
        low, high = score.ci95 or (None, None)
        found.append(
            (
                key,
                {
                    "row": f"{name.model} · {name.method}",
                    "task": score.task,
                    "judge": judge,
                    "entrant": control or "model",
                    "metric": metric,
                    "value": score.value,
                    "low": low,
                    "high": high,
                    "n": score.n,
                    "source": MEASURED,
                    "run_id": run.run_id,
                },
            )
        )
    return pd.DataFrame([line for key, line in found if key in controlled])
