"""The paper's figures 2 to 5 from the store, as data.

The figures' own values are not published as numbers: what the text says of them is a remark.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mipo_eval.errors import ConfigError
from mipo_eval.metrics.win_rate import outcome_rates
from mipo_eval.reports.catalog import RowName, RowRule, model_label, row_name
from mipo_eval.reports.snapshot import Snapshot
from mipo_eval.reports.trained import method_label, negatives_of, trained_rules
from mipo_eval.stats import Crossed
from mipo_eval.store.judges import choosers, find_judge
from mipo_eval.store.responses import paired_texts
from mipo_eval.store.runs import Run
from mipo_eval.store.trainings import get_curve
from mipo_eval.store.verdicts import pair_verdicts

_BASELINE = "Personalized prompting"
_RANKING = "ranking_accuracy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One figure's data."""

    number: int
    title: str
    value: str
    """What is drawn, with its unit."""
    rows: tuple[Mapping[str, Any], ...]
    """One per mark; all have the same fields."""
    published: str
    """What the paper says of it."""


def figure(
    now: Snapshot, number: int, *, judge: str | None = None, rules: Sequence[RowRule] = ()
) -> Figure:
    """Return a figure with what the store has for it.

    Args:
        now: the store.
        number: 2 to 5.
        judge: only this one's choices; for figure 3.
        rules: what runs are called; after them come the names of the checkpoints trained here.

    Raises:
        ConfigError: no such figure or judge.
    """
    if number not in FIGURES:
        raise ConfigError(f"figure {number}: the figures with numbers are 2 to 5")
    title, value, published, rows = FIGURES[number]
    named = (*rules, *trained_rules(now.trainings))
    if judge is not None and number == 3:
        judge = find_judge(now.store, judge).key
    found = tuple(rows(now, named, judge))
    return Figure(number=number, title=title, value=value, rows=found, published=published)


def _curves(now: Snapshot, rules: Sequence[RowRule], judge: str | None) -> Iterator[dict[str, Any]]:
    """Yield the points of every training's ranking accuracy."""
    for training in now.trainings:
        strategy, count = negatives_of(training)
        for point in get_curve(now.store, training.training_id):
            if point.metric.endswith(_RANKING):
                yield {
                    "model": model_label(training.model),
                    "method": method_label(training.method),
                    "negatives": strategy,
                    "n_negatives": count,
                    "seed": training.seed,
                    "measured_on": "held out" if point.metric != _RANKING else "training pairs",
                    "training_id": training.training_id,
                    "step": point.step,
                    "value": 100 * point.value,
                }


def _choices(
    now: Snapshot, rules: Sequence[RowRule], judge: str | None
) -> Iterator[dict[str, Any]]:
    """Yield the win rate of every method against its base model's personalized prompting."""
    runs = {run.run_id: run for run, _ in now.scores}.values()
    names = {run.run_id: row_name(run, rules)[0] for run in runs}
    bases = [run for run in runs if names[run.run_id].method == _BASELINE]
    for base in bases:
        against = [
            run
            for run in runs
            if run.list_key == base.list_key
            and names[run.run_id].model == names[base.run_id].model
            and names[run.run_id].method != _BASELINE
        ]
        if not against:
            continue
        for run in against:
            for key in [judge] if judge else [known.key for known in choosers(now.store)]:
                row = _head_to_head(now, run, base, key)
                if row is not None:
                    by = next((known.label for known in now.judges if known.key == key), key[:8])
                    yield {**_of_run(run, names[run.run_id]), "judge": by, **row}


def _head_to_head(now: Snapshot, run: Run, base: Run, judge: str) -> dict[str, Any] | None:
    """Return how often a run beats another by one judge; None where it chose between none."""
    rows = [row for row in paired_texts(now.store, run, base) if row.pair]
    said = pair_verdicts(now.store, judge, [row.pair for row in rows if row.pair])
    if not any(one.choices and one.winner for one in said):
        return None
    _, half, _, tied = outcome_rates(
        [one.credit for one in said], groups=[Crossed(row.group, row.user_id) for row in rows]
    )
    return {
        "value": half.value,
        "ci95": list(half.ci95) if half.ci95 else None,
        "tie_rate": tied.value,
        "n": half.n,
        "unscored": half.unscored,
    }


def _entropies(metric: str) -> Callable[..., Iterator[dict[str, Any]]]:
    """Return a figure's rows: a value per question of every run asked by likelihood."""

    def rows(
        now: Snapshot, rules: Sequence[RowRule], judge: str | None
    ) -> Iterator[dict[str, Any]]:
        suites: dict[str, dict[str, Run]] = {}
        for run, score in now.scores:
            if score.metric == metric and not score.is_imported:
                suites.setdefault(run.suite, {})[run.run_id] = run
        for runs in suites.values():
            for sheet in now.outcomes.sheets(list(runs.values()), metric):
                for column, run in enumerate(sheet.runs):
                    about = _of_run(run, row_name(run, rules)[0])
                    for row in np.flatnonzero(~np.isnan(sheet.values[:, column])).tolist():
                        value = float(sheet.values[row, column])
                        item = sheet.keys[row][:12]
                        yield {**about, "task": sheet.task, "item": item, "value": value}

    return rows


def _of_run(run: Run, name: RowName) -> dict[str, Any]:
    return {
        "model": name.model,
        "method": name.method,
        "variant": name.variant,
        "seed": run.seed,
        "suite": run.suite,
        "run_id": run.run_id,
    }


FIGURES: Mapping[int, tuple[str, str, str, Callable[..., Iterator[dict[str, Any]]]]] = {
    2: (
        "Figure 2: how often chosen is ranked above rejected while training",
        "ranking accuracy (%)",
        "ten negatives; flat after 6,000 to 7,000 steps",
        _curves,
    ),
    3: (
        "Figure 3: chosen over personalized prompting, both orders, a tie is half",
        "win rate (%)",
        "Llama-3.3-70B-Instruct with LoRA on MB: 54 to 62 % by four judges",
        _choices,
    ),
    4: (
        "Figure 4: entropy over the choices of questions answered right",
        "answer entropy (nats)",
        "lower after MIPO than before, on 500 ARC questions",
        _entropies("answer_entropy_correct"),
    ),
    5: (
        "Figure 5: entropy over the choices of questions answered wrong",
        "answer entropy (nats)",
        "measured beside figure 4, on the same questions",
        _entropies("answer_entropy_wrong"),
    ),
}
"""Number to title, what is drawn, what the paper says, and where the rows come from."""


def figure_json(found: Figure) -> dict[str, Any]:
    """Return a figure as `--json` shows it."""
    return {
        "figure": found.number,
        "title": found.title,
        "value": found.value,
        "published": found.published,
        "rows": [dict(row) for row in found.rows],
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The marks of a figure that belong together: a training, a judge and method, or a run."""

    name: str
    n: int
    mean: float
    last: float
    """The last mark, which of a learning curve is where it ended."""


def series(found: Figure) -> list[Series]:
    """Return what a figure shows in a line each."""
    own: dict[str, list[float]] = {}
    for row in found.rows:
        own.setdefault(series_name(row), []).append(row["value"])
    return [
        Series(name=name, n=len(values), mean=sum(values) / len(values), last=values[-1])
        for name, values in own.items()
    ]


def series_name(row: Mapping[str, Any]) -> str:
    """Return what tells a row's series from the others."""
    variant = row.get("variant") or row.get("negatives")
    count = row.get("n_negatives")
    several = f" x {count}" if count and count > 1 else ""
    parts = [row["model"], row["method"] + (f" ({variant}{several})" if variant else "")]
    parts += [str(row[name]) for name in ("judge", "task", "measured_on") if row.get(name)]
    parts.append(f"seed {row['seed']}")
    return ", ".join(parts)
