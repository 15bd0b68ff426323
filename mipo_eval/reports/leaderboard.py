"""The leaderboard: methods x tasks, with seeds, intervals, ranks, tie letters and tie rates."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mipo_eval.errors import DataError
from mipo_eval.metrics.rates import METRIC_NAMES, Ties
from mipo_eval.records import Score
from mipo_eval.reports.catalog import (
    RowName,
    RowRule,
    StoredJudge,
    column_signature,
    find_judge,
    list_judges,
    row_name,
    stored_scores,
)
from mipo_eval.reports.outcomes import METRICS, Sheet, outcome_sheets
from mipo_eval.signature import differences, short, split
from mipo_eval.stats import BestOf, best_of, rank_runs, seed_summaries
from mipo_eval.stats.bootstrap import Floats, Interval
from mipo_eval.store import Store
from mipo_eval.store.runs import Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a leaderboard is to show."""

    suite: str | None = None
    judge: str | None = None
    ties: Ties = "win"
    metric: str | None = None
    """None: the win rate of judged suites (mean rating without references), else accuracy."""
    rules: tuple[RowRule, ...] = ()
    variants_apart: bool = False
    """A row per variant of a method, instead of the best of them with its mark."""
    tasks: tuple[str, ...] | None = None
    ranked: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One method on one task; units are those of the metric."""

    value: float | None
    """Mean over seeds of the mean over items; None when not one item could be scored."""
    std: float | None = None
    """Over seeds (n - 1); None for one seed."""
    seeds: int
    n: int
    """Items with a value under at least one seed."""
    unscored: int
    """Items without a value, summed over seeds."""
    ci95: Interval | None = None
    """Over items, and over seeds where there are several."""
    tie_rate: float | None = None
    """Percent; None where nothing is compared with a reference."""
    rank: int | None = None
    rank_ci95: tuple[int, int] | None = None
    letters: str = ""
    """Rows that share a letter are not told apart."""
    differs: Mapping[str, tuple[str | None, str | None]]
    """Signature parts in which it differs from the column's, (column's, its own)."""
    best_of: BestOf | None = None
    """The best of several variants, chosen on these items; with the corrected estimate."""

    @property
    def best_of_text(self) -> str | None:
        """The mark of a value chosen among several, or None."""
        if self.best_of is None:
            return None
        corrected = self.best_of.corrected
        shown = "not known" if corrected is None else f"{corrected:.1f}"
        return f"best of {self.best_of.k} ({self.best_of.name}), corrected {shown}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method."""

    name: RowName
    cells: Mapping[str, Cell]
    """Task to cell; a task that was not run is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One suite under one metric and one judge."""

    suite: str
    metric: str
    judge: str | None
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    signatures: Mapping[str, str]
    """Task to the signature that most rows of its column share."""


Scored = list[tuple[Run, Score]]


def leaderboard(store: Store, asked: Asked) -> list[Section]:
    """Return a section for each suite, metric and judge of the store, best rows first.

    Raises:
        ConfigError: no such judge.
    """
    judges = {short(judge.key): judge for judge in list_judges(store)}
    only = short(find_judge(store, asked.judge).key) if asked.judge else None
    groups: dict[tuple[str, str | None], Scored] = {}
    for run, score in stored_scores(store):
        by = split(score.signature).get("judge_key")
        wanted = asked.suite in {None, run.suite} and only in {None, by}
        if wanted and (asked.tasks is None or score.task in asked.tasks):
            groups.setdefault((run.suite, by), []).append((run, score))
    sections = []
    for (suite, by), scored in groups.items():
        metric = asked.metric or _primary(scored, asked.ties, judged=by is not None)
        own = [(run, score) for run, score in scored if score.metric == metric]
        if metric is not None and own:
            judge = judges.get(by) if by else None
            sections.append(_section(store, asked, (suite, metric), own, judge))
    return sections


def _primary(scored: Scored, ties: Ties, *, judged: bool) -> str | None:
    found = {score.metric for _, score in scored}
    wanted = (METRIC_NAMES[ties], "rating_mean") if judged else ("accuracy",)
    return next((metric for metric in wanted if metric in found), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A row before it is measured: its runs by seed."""

    name: RowName
    runs: tuple[Run, ...]
    scores: Mapping[tuple[str, str], Score]
    """(run id, task) to stored score."""


def _section(
    store: Store, asked: Asked, about: tuple[str, str], scored: Scored, judge: StoredJudge | None
) -> Section:
    suite, metric = about
    tasks = tuple(dict.fromkeys(score.task for _, score in scored))
    signatures = {
        task: Counter(
            column_signature(score.signature) for _, score in scored if score.task == task
        ).most_common(1)[0][0]
        for task in tasks
    }
    lines = _lines(scored, asked)
    sheets: dict[str, Sheet] = {}
    if metric in METRICS:
        runs = [run for line in lines for run in line.runs]
        found = outcome_sheets(store, runs, metric, judge.key if judge else None)
        sheets = {sheet.task: sheet for sheet in found}
    rows: dict[int, tuple[RowName, dict[str, Cell]]] = {}
    for task in tasks:
        groups = _groups(lines, task, apart=asked.variants_apart)
        cells = _column(groups, sheets.get(task), (task, signatures[task]), asked)
        for group, cell in zip(groups, cells, strict=True):
            name = group[0].name if len(group) == 1 else replace(group[0].name, variant=None)
            rows.setdefault(id(group[0]), (name, {}))[1][task] = cell
    made = [Row(name=name, cells=cells) for name, cells in rows.values()]
    made.sort(key=lambda row: _order(row, tasks))
    return Section(
        suite=suite,
        metric=metric,
        judge=judge.label if judge else None,
        tasks=tasks,
        rows=tuple(made),
        signatures=signatures,
    )


def _order(row: Row, tasks: Sequence[str]) -> tuple[bool, float]:
    values = [cell.value for task in tasks if (cell := row.cells.get(task)) is not None]
    known = [value for value in values if value is not None]
    return not known, -sum(known) / len(known) if known else 0.0


def _lines(scored: Scored, asked: Asked) -> list[_Line]:
    """Gather runs into rows: same name and made alike; the latest run of each seed."""
    made: dict[str, set[str]] = {}
    for run, score in scored:
        made.setdefault(run.run_id, set()).add(f"{score.task} {column_signature(score.signature)}")
    lines: dict[tuple[RowName, frozenset[str]], dict[tuple[int, int], Run]] = {}
    for run in {run.run_id: run for run, _ in scored}.values():
        name, seeds = row_name(run, asked.rules)
        lines.setdefault((name, frozenset(made[run.run_id])), {})[seeds] = run
    scores = {(run.run_id, score.task): score for run, score in scored}
    return [
        _Line(name=name, runs=tuple(runs.values()), scores=scores)
        for (name, _), runs in lines.items()
    ]


def _groups(lines: Sequence[_Line], task: str, *, apart: bool) -> list[list[_Line]]:
    """Put the variants of a method together, as far as they were made alike on this task."""
    groups: dict[tuple[object, ...], list[_Line]] = {}
    for line in lines:
        score = _score(line, task)
        if score is None:
            continue
        alone = apart or line.name.variant is None
        method = (line.name.model, line.name.method, line.name.variant if alone else "")
        signature = column_signature(score.signature)
        groups.setdefault((*method, signature, id(line) if alone else 0), []).append(line)
    return list(groups.values())


def _score(line: _Line, task: str) -> Score | None:
    found = (line.scores.get((run.run_id, task)) for run in line.runs)
    return next((score for score in found if score is not None), None)


def _column(
    groups: Sequence[Sequence[_Line]], sheet: Sheet | None, about: tuple[str, str], asked: Asked
) -> list[Cell]:
    """Return the cells of one task, one per group of variants."""
    task, signature = about
    if sheet is None:
        return [_stored_cell(group, task, signature) for group in groups]
    chosen = [_choose(group, sheet, asked.seed) for group in groups]
    cells = [_cell(line, sheet, signature, choice) for line, choice in chosen]
    cells = _with_seeds(cells, [line for line, _ in chosen], sheet, asked.seed)
    return _with_ranks(cells, [line for line, _ in chosen], sheet, asked) if asked.ranked else cells


def _columns(line: _Line, sheet: Sheet) -> list[int]:
    ids = {run.run_id for run in line.runs}
    return [k for k, run in enumerate(sheet.runs) if run.run_id in ids]


def _over_seeds(line: _Line, sheet: Sheet) -> Floats:
    """Return (items,) the mean over the seeds that have a value; NaN where none has."""
    own = sheet.values[:, _columns(line, sheet)]
    counts = (~np.isnan(own)).sum(axis=1)
    out = np.full(len(own), np.nan)
    np.divide(np.nansum(own, axis=1), counts, out=out, where=counts > 0)
    return out


def _choose(group: Sequence[_Line], sheet: Sheet, seed: int) -> tuple[_Line, BestOf | None]:
    """Return the best of several variants, with what the choice is worth."""
    table = np.stack([_over_seeds(line, sheet) for line in group], axis=1)
    known = np.asarray(~np.isnan(table).all(axis=0))
    if len(group) == 1 or known.sum() < 2:
        return group[int(np.argmax(known))], None
    lines = [line for line, has in zip(group, known, strict=True) if has]
    names = [line.name.variant or "" for line in lines]
    best = best_of(table[:, known], names, sheet.groups, seed=seed)
    return lines[names.index(best.name)], best


def _cell(line: _Line, sheet: Sheet, signature: str, choice: BestOf | None) -> Cell:
    own = _columns(line, sheet)
    values = sheet.values[:, own]
    means = [float(np.nanmean(v)) for v in values.T if not np.isnan(v).all()]
    if not means:  # imported scores come without the items behind them
        return _stored_cell([line], sheet.task, signature)
    score = _score(line, sheet.task)
    ties = [sheet.ties[k] for k in own]
    told = [tie for tie in ties if tie is not None]
    return Cell(
        value=float(np.mean(means)),
        seeds=len(means),
        n=int((~np.isnan(values)).any(axis=1).sum()),
        unscored=sum(sum(sheet.unscored[k].values()) for k in own),
        ci95=score.ci95 if score and len(own) == 1 else None,
        tie_rate=sum(told) / len(told) if told else None,
        differs=_differs(score, signature),
        best_of=choice,
    )


def _differs(score: Score | None, signature: str) -> dict[str, tuple[str | None, str | None]]:
    return differences(signature, column_signature(score.signature)) if score else {}


def _stored_cell(group: Sequence[_Line], task: str, signature: str) -> Cell:
    """Return a cell of a metric that has no value per item, from stored scores."""
    line = group[0]
    found = [line.scores.get((run.run_id, task)) for run in line.runs]
    scores = [score for score in found if score is not None]
    values = [score.value for score in scores if score.value is not None]
    return Cell(
        value=float(np.mean(values)) if values else None,
        std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        seeds=len(values),
        n=max(score.n for score in scores),
        unscored=sum(score.unscored for score in scores),
        ci95=scores[0].ci95 if len(scores) == 1 else None,
        differs=_differs(scores[0], signature),
    )


def _with_seeds(
    cells: Sequence[Cell], lines: Sequence[_Line], sheet: Sheet, seed: int
) -> list[Cell]:
    """Add the spread over seeds, and intervals over items and seeds, where there are several."""
    several = [k for k, cell in enumerate(cells) if cell.seeds > 1 and cell.std is None]
    if not several:
        return list(cells)
    tables = []
    for k in several:
        values = sheet.values[:, _columns(lines[k], sheet)].T
        tables.append(values[~np.isnan(values).all(axis=1)])
    made = list(cells)
    for k, found in zip(several, seed_summaries(tables, sheet.groups, seed=seed), strict=True):
        made[k] = replace(cells[k], std=found.std, ci95=_possible(found.ci95, sheet.metric))
    return made


def _possible(interval: Interval | None, metric: str) -> Interval | None:
    """Keep an interval within what the metric can be: the t-distribution of seeds has no ends."""
    low, high = {"rating_mean": (1.0, 5.0), "response_tokens": (0.0, math.inf)}.get(
        metric, (0.0, 100.0)
    )
    return (max(interval[0], low), min(interval[1], high)) if interval else None


def _with_ranks(
    cells: Sequence[Cell], lines: Sequence[_Line], sheet: Sheet, asked: Asked
) -> list[Cell]:
    """Add ranks and letters to the cells that can be compared with most of their column."""
    values = {k: _over_seeds(lines[k], sheet) for k, cell in enumerate(cells) if not cell.differs}
    alike = [k for k, own in values.items() if not np.isnan(own).all()]
    if len(alike) < 2:
        return list(cells)
    table = np.stack([values[k] for k in alike], axis=1)
    try:
        ranked = rank_runs(table, [str(k) for k in alike], sheet.groups, seed=asked.seed)
    except DataError:  # two rows have no scored item in common: there is no order to speak of
        return list(cells)
    made = list(cells)
    for rank in ranked:
        k = int(rank.name)
        made[k] = replace(cells[k], rank=rank.rank, rank_ci95=rank.rank_ci95, letters=rank.letters)
    return made


def section_json(section: Section) -> dict[str, Any]:
    """Return a section as `--json` shows it."""
    return {
        "suite": section.suite,
        "metric": section.metric,
        "judge": section.judge,
        "signatures": dict(section.signatures),
        "rows": [
            {
                "model": row.name.model,
                "method": row.name.method,
                "variant": row.name.variant,
                "cells": {task: _cell_json(cell) for task, cell in row.cells.items()},
            }
            for row in section.rows
        ],
    }


def _cell_json(cell: Cell) -> dict[str, Any]:
    chosen = cell.best_of
    return {
        "value": cell.value,
        "std": cell.std,
        "seeds": cell.seeds,
        "n": cell.n,
        "unscored": cell.unscored,
        "ci95": list(cell.ci95) if cell.ci95 else None,
        "tie_rate": cell.tie_rate,
        "rank": cell.rank,
        "rank_ci95": list(cell.rank_ci95) if cell.rank_ci95 else None,
        "letters": cell.letters,
        "signature_differs": {name: list(both) for name, both in cell.differs.items()},
        "best_of": None
        if chosen is None
        else {"k": chosen.k, "variant": chosen.name, "corrected": chosen.corrected},
    }
