"""Rows against each other on their common items: paired differences, and who beats whom."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mipo_eval.dashboards.methods import Method, Standing
from mipo_eval.errors import MipoEvalError
from mipo_eval.evaluation.outcomes import Sheet, has_values
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.reports import agreement
from mipo_eval.reports.agreement import JudgesAgreement
from mipo_eval.stats import Comparison, compare_all
from mipo_eval.stats.bootstrap import Floats
from mipo_eval.store.judges import list_judges
from mipo_eval.store.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Values of several rows on the items of one task, averaged over each row's seeds."""

    task: str
    rows: tuple[int, ...]
    """Places in the list of methods, one per column."""
    values: Floats
    """(items, rows), in the units of the metric; NaN where a row has no value."""
    groups: Sequence[object]


def outcomes(
    now: Snapshot, found: Standing, judge: str | None, metric: str | None = None
) -> dict[str, Outcome]:
    """Return, by task, the values of all rows that were measured item by item.

    Args:
        now: the store.
        found: whose rows.
        judge: key of the judge; None without one.
        metric: another than the leaderboard's.
    """
    metric = metric or found.section.metric
    runs = {run.run_id: run for method in found.methods for run in method.all_runs}
    made = found.section.signatures.values() if metric == found.section.metric else ()
    if not has_values(metric, judge, made) or not runs:
        return {}
    sheets = {sheet.task: sheet for sheet in _sheets(now, tuple(runs.values()), metric, judge)}
    return {
        task: _outcome(sheets[task], found.methods)
        for task in found.section.tasks
        if task in sheets
    }


def _sheets(
    now: Snapshot, runs: tuple[Run, ...], metric: str, judge: str | None
) -> Sequence[Sheet]:
    return now.outcomes.sheets(runs, metric, judge)


def _outcome(sheet: Sheet, methods: Sequence[Method]) -> Outcome:
    place = {run.run_id: column for column, run in enumerate(sheet.runs)}
    rows, columns = [], []
    for index, method in enumerate(methods):
        own = [place[run.run_id] for run in method.runs.get(sheet.task, ()) if run.run_id in place]
        if own:
            values = over_seeds(sheet.values[:, own])
            if not np.isnan(values).all():
                rows.append(index)
                columns.append(values)
    table = np.stack(columns, axis=1) if columns else np.empty((len(sheet.keys), 0))
    return Outcome(task=sheet.task, rows=tuple(rows), values=table, groups=sheet.groups)


def over_seeds(values: Floats) -> Floats:
    """Return (items,) the mean of (items, seeds) over the seeds with a value; NaN without any."""
    known = ~np.isnan(values)
    counts = known.sum(axis=1)
    total = np.where(known, values, 0.0).sum(axis=1)
    out = np.full(len(values), np.nan)
    np.divide(total, counts, out=out, where=counts > 0)
    return out


def against_own(
    now: Snapshot, found: Standing, judge: str | None
) -> dict[tuple[int, str], Comparison]:
    """Compare every row with the baseline of its own base model, as `against` does.

    P-values are corrected over a task's rows of one base model.
    """
    models = [method.row.name.model for method in found.methods]
    made: dict[tuple[int, str], Comparison] = {}
    for baseline in own_baselines(found.methods):
        own = [row for row, model in enumerate(models) if model == models[baseline]]
        made |= against(now, found, judge, baseline, own)
    return made


def own_baselines(methods: Sequence[Method]) -> tuple[int, ...]:
    """Return the usual baseline of every base model that has one, and another row."""
    rows: dict[str, list[int]] = {}
    for row, method in enumerate(methods):
        rows.setdefault(method.row.name.model, []).append(row)
    usual = {
        model: default_baseline([methods[row] for row in own])
        for model, own in rows.items()
        if len(own) > 1
    }
    return tuple(rows[model][place] for model, place in usual.items() if place is not None)


def against(
    now: Snapshot,
    found: Standing,
    judge: str | None,
    baseline: int,
    rows: Sequence[int] | None = None,
) -> dict[tuple[int, str], Comparison]:
    """Compare every row with a baseline, task by task, paired; corrected over a task's rows.

    Rows that were made differently from the baseline (another signature) are left out: their
    difference would be one of measuring.

    Args:
        now: the store.
        found: whose rows.
        judge: key of the judge; None without one.
        baseline: its place in the rows.
        rows: only these, by their places; all of them without.

    Returns:
        By (row, task); a row without an item in common with the baseline is not there.
    """
    made: dict[tuple[int, str], Comparison] = {}
    for task, outcome in outcomes(now, found, judge).items():
        signature = found.methods[baseline].signatures.get(task)
        alike = [
            column
            for column, row in enumerate(outcome.rows)
            if found.methods[row].signatures.get(task) == signature
            and (rows is None or row in rows)
        ]
        if baseline not in (outcome.rows[column] for column in alike):
            continue
        base = outcome.values[:, outcome.rows.index(baseline)]
        common = [k for k in alike if (~np.isnan(outcome.values[:, k] - base)).any()]
        names = [str(outcome.rows[k]) for k in common]
        if len(names) > 1:
            groups: list[object] = list(outcome.groups)
            pairs = compare_all(outcome.values[:, common], names, groups, baseline=str(baseline))
            made |= {(int(pair.first), task): pair for pair in pairs}
    return made


@dataclass(frozen=True, slots=True, kw_only=True)
class Duel:
    """How often one row beats another on the items both have."""

    first: int
    second: int
    rate: float
    """Percent of common items on which the first is better; a tie counts half."""
    wins: int
    ties: int
    losses: int


def duels(outcome: Outcome, *, lower: bool = False) -> list[Duel]:
    """Return every ordered pair of rows of a task with an item in common.

    Args:
        outcome: values of the rows.
        lower: whether smaller values are the better ones.
    """
    found = []
    for a, first in enumerate(outcome.rows):
        for b, second in enumerate(outcome.rows):
            margin = outcome.values[:, a] - outcome.values[:, b]
            margin = -margin if lower else margin
            known = margin[~np.isnan(margin)]
            if a == b or not len(known):
                continue
            wins, losses = int((known > 0).sum()), int((known < 0).sum())
            ties = len(known) - wins - losses
            rate = 100 * (wins + ties / 2) / len(known)
            found.append(
                Duel(first=first, second=second, rate=rate, wins=wins, ties=ties, losses=losses)
            )
    return found


def default_baseline(methods: Sequence[Method]) -> int | None:
    """Return the row that others are usually compared with: personalized prompting, else default.

    None where no row is a base model's.
    """
    for wanted in ("Personalized prompting", "Base", "Default prompting"):
        for index, method in enumerate(methods):
            if method.row.name.method == wanted:
                return index
    return None


def agreements(now: Snapshot, suite: str) -> list[JudgesAgreement]:
    """Return how every two judges of a suite agree on who won against the references."""
    runs = list({run.run_id: run for run, _ in now.scores if run.suite == suite}.values())
    try:
        found = agreement.agreements(now.store, runs, list_judges(now.store))
    except MipoEvalError:  # fewer than two judges, or nothing that two of them judged
        return []
    return [one for one in found if one.verdicts.n]
