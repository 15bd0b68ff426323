"""The leaderboard: methods x tasks, with seeds, intervals, ranks, tie letters and tie rates."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from mipo_eval.errors import DataError
from mipo_eval.evaluation.graded import GRADE_MEAN
from mipo_eval.evaluation.outcomes import DERIVED, ENDS
from mipo_eval.evaluation.score import Numbers, Snapshot
from mipo_eval.evaluation.sheets import Sheet
from mipo_eval.metrics.aggregate import direction, sign, span_of
from mipo_eval.metrics.win_rate import METRIC_NAMES, Ties
from mipo_eval.records import Run, Score
from mipo_eval.reports.names import RowName, RowRule, column_signature, row_name, trained_rules
from mipo_eval.signature import Signature, join, short
from mipo_eval.stats.bootstrap import Floats, Interval
from mipo_eval.stats.ranking import BestOf, Rank, best_of, rank_runs
from mipo_eval.stats.seeds import over_seeds, seed_summaries
from mipo_eval.store.engine import Store
from mipo_eval.store.judges import StoredJudge, find_judge


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderboardQuery:
    """What a leaderboard is to show."""

    suite: str | None = None
    judge: str | None = None
    ties: Ties = "win"
    metric: str | None = None
    """None: the win rate of judged suites (mean rating without references), else accuracy."""
    rules: tuple[RowRule, ...] = ()
    """What runs are called; after them come the names of the checkpoints trained here."""
    variants_apart: bool | None = None
    """A row per variant of a method, instead of the best of them with its mark; None: the best of
    those that `rules` call variants, and a row for each checkpoint trained here."""
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
    per_seed: tuple[float, ...] = ()
    """Its value under each of several seeds."""
    seeds: int
    n: int | None
    """Items with a value under at least one seed; None where an imported number does not say."""
    unscored: int
    """Items without a value, summed over seeds."""
    ci95: Interval | None = None
    """Over items, and over seeds where there are several."""
    tie_rate: float | None = None
    """Percent; None where nothing is compared with a reference."""
    level: float | None = None
    """What it is ranked by: its value on the items that rows share, and without the luck of a
    choice among variants."""
    missing: int = 0
    """Items that another ranked row has a value for and this one has not."""
    rank: int | None = None
    rank_ci95: tuple[int, int] | None = None
    letters: str = ""
    """Rows that share a letter are not told apart."""
    differs: Mapping[str, tuple[str | None, str | None]]
    """Signature parts in which it differs from the column's, (column's, its own)."""
    best_of: BestOf | None = None
    """The best of several variants, chosen on these items; with the corrected estimate."""
    runs: tuple[Run, ...]
    """Those it is made of, one a seed: of the variant that was chosen, where there are several."""
    signature: Signature
    """What it was made with, less prompting and seed."""

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
    signatures: Mapping[str, Signature]
    """Task to the signature that most rows of its column share."""


Scored = list[tuple[Run, Score]]


def leaderboard(source: Store | Snapshot, asked: LeaderboardQuery) -> list[Section]:
    """Return a section for each suite, metric and judge of the store, best rows first.

    Args:
        source: the store, or a snapshot of it that is kept for the next leaderboard.
        asked: what to show.

    Raises:
        ConfigError: no such judge.
    """
    now = source if isinstance(source, Snapshot) else Snapshot(source)
    judges = {short(judge.key): judge for judge in now.judges}
    by_suite = {s.judge_key for run, s in now.scores if asked.suite in {None, run.suite}}
    only = short(find_judge(now.store, asked.judge, by_suite).key) if asked.judge else None
    groups: dict[tuple[str, str | None], Scored] = {}
    for run, score in now.scores:
        by = score.judge_key
        wanted = asked.suite in {None, run.suite} and only in {None, by}
        if wanted and (asked.tasks is None or score.task in asked.tasks):
            groups.setdefault((run.suite, by), []).append((run, score))
    sections = []
    for (suite, by), scored in groups.items():
        metric = asked.metric or _primary(scored, asked.ties, judged=by is not None)
        own = [] if metric is None else _of_metric(scored, metric)
        if metric is not None and own:
            judge = judges.get(by) if by else None
            lines = _lines(own, asked, trained_rules(now.trainings))
            sections.append(_section(now, asked, (suite, metric), (own, lines), judge))
    return sections


def _of_metric(scored: Scored, metric: str) -> Scored:
    """Return the scores of a metric; one that is not stored stands where the win rate does."""
    if metric not in DERIVED:
        return [(run, score) for run, score in scored if score.metric == metric]
    made = []
    for run, won in _of_metric(scored, METRIC_NAMES["win"]):
        signature = won.signature.followed_by(join(ties=DERIVED[metric]))
        blank = Score(task=won.task, metric=metric, value=None, n=0, signature=signature)
        made.append((run, blank))
    return made


def _primary(scored: Scored, ties: Ties, *, judged: bool) -> str | None:
    found = [score.metric for _, score in scored]
    wanted = [METRIC_NAMES[ties], "satisfied", "rating_mean"] if judged else []
    foreign = any("source" in score.signature.parts for _, score in scored)
    wanted += ["accuracy", GRADE_MEAN, *found] if foreign else ["accuracy"]
    return next((metric for metric in wanted if metric in found), None)


def _section(
    now: Snapshot,
    asked: LeaderboardQuery,
    about: tuple[str, str],
    made: tuple[Scored, Sequence["_Line"]],
    judge: StoredJudge | None,
) -> Section:
    suite, metric = about
    scored, lines = made
    tasks = tuple(dict.fromkeys(score.task for _, score in scored))
    signatures = {
        task: Counter(
            column_signature(score.signature) for _, score in scored if score.task == task
        ).most_common(1)[0][0]
        for task in tasks
    }
    key = judge.key if judge else None
    runs = [run for line in lines for run in line.runs]
    sheets = now.outcomes.of_scores(runs, metric, key, signatures)
    rows: dict[int, tuple[RowName, dict[str, Cell]]] = {}
    for task in tasks:
        groups = _groups(lines, task, apart=direction(metric) is None)
        column = _Column(
            task=task,
            metric=metric,
            signature=signatures[task],
            sheet=sheets.get(task),
            numbers=now.numbers,
            judge=key,
            ranked=asked.ranked and direction(metric) is not None,
            seed=asked.seed,
        )
        for group, cell in zip(groups, _cells(groups, column), strict=True):
            name = group[0].name if len(group) == 1 else replace(group[0].name, variant=None)
            rows.setdefault(id(group[0]), (name, {}))[1][task] = cell
    found = [Row(name=name, cells=cells) for name, cells in rows.values()]
    found.sort(key=lambda row: _order(row, tasks, sign(metric)))
    return Section(
        suite=suite,
        metric=metric,
        judge=judge.label if judge else None,
        tasks=tasks,
        rows=tuple(found),
        signatures=signatures,
    )


def _order(row: Row, tasks: Sequence[str], way_up: int) -> tuple[bool, float]:
    cells = (row.cells.get(task) for task in tasks)
    levels = [cell.value if cell.level is None else cell.level for cell in cells if cell]
    known = [level for level in levels if level is not None]
    return not known, -way_up * sum(known) / len(known) if known else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """A row before it is measured: its runs by seed."""

    name: RowName
    alone: bool
    """Whether it is a row of its own, and not one of several variants."""
    runs: tuple[Run, ...]
    scores: Mapping[tuple[str, str], Score]
    """(run id, task) to stored score."""

    def on(self, task: str) -> list[tuple[Run, Score]]:
        """Return the runs with a stored score on a task."""
        found = ((run, self.scores.get((run.run_id, task))) for run in self.runs)
        return [(run, score) for run, score in found if score is not None]


def _lines(scored: Scored, asked: LeaderboardQuery, trained: Sequence[RowRule]) -> list[_Line]:
    """Gather runs into rows: same name and made alike; the latest run of each seed."""
    made: dict[str, set[str]] = {}
    for run, score in scored:
        made.setdefault(run.run_id, set()).add(f"{score.task} {column_signature(score.signature)}")
    lines: dict[tuple[RowName, frozenset[str]], dict[tuple[int, int], Run]] = {}
    for run in {run.run_id: run for run, _ in scored}.values():
        name, seeds = row_name(run, (*asked.rules, *trained))
        alike = frozenset(made[run.run_id])
        if "imported" in run.environment and seeds in lines.get((name, alike), {}):
            # Another file of that model is not this one done again.
            name = replace(name, model=f"{name.model} ({run.run_id[:8]})")
        lines.setdefault((name, alike), {})[seeds] = run
    scores = {(run.run_id, score.task): score for run, score in scored}

    def apart(run: Run) -> bool:
        declared = any(rule.matches(run) for rule in asked.rules)
        return not declared if asked.variants_apart is None else asked.variants_apart

    return [
        _Line(
            name=name,
            alone=name.variant is None or apart(next(iter(runs.values()))),
            runs=tuple(runs.values()),
            scores=scores,
        )
        for (name, _), runs in lines.items()
    ]


def _groups(lines: Sequence[_Line], task: str, *, apart: bool) -> list[list[_Line]]:
    """Put the variants of a method together, as far as they were made alike on this task."""
    groups: dict[tuple[object, ...], list[_Line]] = {}
    for line in lines:
        if not (on := line.on(task)):
            continue
        alone = apart or line.alone
        method = (line.name.model, line.name.method, line.name.variant if alone else "")
        signature = column_signature(on[0][1].signature)
        groups.setdefault((*method, signature, id(line) if alone else 0), []).append(line)
    return list(groups.values())


class _Column(NamedTuple):
    """What all cells of one task share."""

    task: str
    metric: str
    signature: Signature
    """Of most of its rows."""
    sheet: Sheet | None
    """Values per item; None where the metric has none."""
    numbers: Numbers
    """What the cells' scores are now."""
    judge: str | None
    """Key of the judge."""
    ranked: bool
    seed: int


def _cells(groups: Sequence[Sequence[_Line]], column: _Column) -> list[Cell]:
    """Return the cells of one task, one per group of variants."""
    if column.sheet is None:
        return [_stored_cell(group, column) for group in groups]
    chosen = [_choose(group, column.sheet, column) for group in groups]
    lines = [line for line, _ in chosen]
    cells = [_cell(line, column.sheet, column, choice) for line, choice in chosen]
    cells = _with_seeds(cells, lines, column.sheet)
    return _with_ranks(cells, lines, column.sheet) if column.ranked else cells


def _columns(line: _Line, sheet: Sheet) -> list[int]:
    ids = {run.run_id for run in line.runs}
    return [k for k, run in enumerate(sheet.runs) if run.run_id in ids]


def by_seed(sheet: Sheet, rows: Sequence[Sequence[int]]) -> Floats:
    """Return (items, rows, seeds) values of rows that have these columns; NaN for no such seed."""
    table = np.full((len(sheet.keys), len(rows), max(map(len, rows), default=0)), np.nan)
    for place, own in enumerate(rows):
        table[:, place, : len(own)] = sheet.values[:, list(own)]
    return table


def _choose(group: Sequence[_Line], sheet: Sheet, column: _Column) -> tuple[_Line, BestOf | None]:
    """Return the best of several variants, with what the choice is worth."""
    table = over_seeds(by_seed(sheet, [_columns(line, sheet) for line in group]))
    known = np.asarray(~np.isnan(table).all(axis=0))
    if len(group) == 1 or known.sum() < 2:
        return group[int(np.argmax(known))], None
    lines = [line for line, has in zip(group, known, strict=True) if has]
    names = [line.name.variant or "" for line in lines]
    way_up = sign(sheet.metric)
    best = best_of(way_up * table[:, known], names, sheet.groups, seed=column.seed)
    return lines[names.index(best.name)], best if way_up > 0 else _mirrored(best)


def _mirrored(best: BestOf) -> BestOf:
    """Return a choice among values whose sign was changed in the units of the metric."""
    return replace(
        best,
        shown=-best.shown,
        corrected=None if best.corrected is None else -best.corrected,
        ci95=None if best.ci95 is None else (-best.ci95[1], -best.ci95[0]),
    )


def _cell(line: _Line, sheet: Sheet, column: _Column, choice: BestOf | None) -> Cell:
    own = _columns(line, sheet)
    means = [mean for k in own if (mean := sheet.mean(k)) is not None]
    if not means:  # imported scores come without the items behind them
        return _stored_cell([line], column)
    made = line.on(sheet.task)
    signature = column_signature(made[0][1].signature)
    told = [tie for k in own if (tie := sheet.ties[k]) is not None]
    return Cell(
        value=float(np.mean(means)),
        seeds=len(means),
        n=int((~np.isnan(sheet.values[:, own])).any(axis=1).sum()),
        unscored=sum(sum(sheet.unscored[k].values()) for k in own),
        ci95=_one_seed(sheet, own[0], made[0][1], column) if len(own) == 1 else None,
        tie_rate=sum(told) / len(told) if told else None,
        differs=column.signature.differences(signature),
        runs=tuple(run for run, _ in made),
        signature=signature,
        best_of=choice,
    )


def _one_seed(sheet: Sheet, own: int, score: Score, column: _Column) -> Interval | None:
    """Return the interval over items, of the very outcomes the value is of."""
    run = sheet.runs[own]
    if column.metric in DERIVED and column.judge is not None:
        made = column.numbers.derived
        return made(run, column.task, column.metric, column.judge).ci95
    return column.numbers.current(run, score).ci95


def _stored_cell(group: Sequence[_Line], column: _Column) -> Cell:
    """Return a cell of a metric that has no value per item, from stored scores."""
    found = [
        [column.numbers.current(run, score) for run, score in line.on(column.task)]
        for line in group
    ]
    values = [[score.value for score in of if score.value is not None] for of in found]
    means = {k: float(np.mean(own)) for k, own in enumerate(values) if own}
    best = max(means, key=lambda k: sign(column.metric) * means[k], default=0)
    line, scores, several = group[best], found[best], len(values[best]) > 1
    signature = column_signature(scores[0].signature)
    # What a choice is worth cannot be known without values per item.
    name, shown = line.name.variant or "", means.get(best, 0.0)
    choice = BestOf(name=name, k=len(means), shown=shown, corrected=None, ci95=None)
    return Cell(
        value=means.get(best),
        std=float(np.std(values[best], ddof=1)) if several else None,
        seeds=len(values[best]),
        n=max((score.n for score in scores if score.n is not None), default=None),
        unscored=sum(score.unscored for score in scores),
        ci95=scores[0].ci95 if len(scores) == 1 else None,
        differs=column.signature.differences(signature),
        runs=tuple(run for run, _ in line.on(column.task)),
        signature=signature,
        best_of=choice if len(means) > 1 else None,
    )


def _with_seeds(cells: Sequence[Cell], lines: Sequence[_Line], sheet: Sheet) -> list[Cell]:
    """Add the spread over seeds, and intervals over items and seeds, where there are several."""
    made = list(cells)
    several = [k for k, cell in enumerate(cells) if cell.seeds > 1 and cell.std is None]
    if not several:
        return made
    columns = [sheet.values[:, _columns(lines[k], sheet)].T for k in several]
    tables = [values[~np.isnan(values).all(axis=1)] for values in columns]
    span = ENDS.get(sheet.metric) or span_of(sheet.metric)
    for k, found in zip(several, seed_summaries(tables, sheet.groups, span), strict=True):
        made[k] = replace(cells[k], std=found.std, ci95=found.ci95, per_seed=found.per_seed)
    return made


def _with_ranks(cells: Sequence[Cell], lines: Sequence[_Line], sheet: Sheet) -> list[Cell]:
    """Add ranks and letters to the cells that can be compared with most of their column."""
    alike = [k for k, cell in enumerate(cells) if not cell.differs]
    made = list(cells)
    if not alike:
        return made
    table = by_seed(sheet, [_columns(lines[k], sheet) for k in alike])
    table += np.array([[luck(cells[k])] for k in alike])
    way_up = sign(sheet.metric)
    for place, rank in ranks(table, sheet).items():
        made[alike[place]] = replace(
            cells[alike[place]],
            level=way_up * rank.mean,
            missing=rank.missing,
            rank=rank.rank,
            rank_ci95=rank.rank_ci95,
            letters=rank.letters,
        )
    return made


def luck(cell: Cell) -> float:
    """Return what the choice among variants adds to a cell's value, to be taken out of it."""
    chosen = cell.best_of
    return 0.0 if chosen is None or chosen.corrected is None else chosen.corrected - chosen.shown


def ranks(table: Floats, sheet: Sheet) -> dict[int, Rank]:
    """Return the ranks of rows over a sheet's items; of those without a value there is none.

    Args:
        table: (items, rows) or (items, rows, seeds) values, in the units of the metric.
        sheet: whose items they are.
    """
    has = ~np.isnan(table)
    known = np.flatnonzero(has.any(axis=tuple(axis for axis in range(table.ndim) if axis != 1)))
    if len(known) < 2:
        return {}
    names = [str(k) for k in known.tolist()]
    try:
        ranked = rank_runs(sign(sheet.metric) * table[:, known], names, sheet.groups)
    except DataError:  # two of them have no scored item in common: there is no order to speak of
        return {}
    return {int(rank.name): rank for rank in ranked}


def section_json(section: Section) -> dict[str, Any]:
    """Return a section as `--json` shows it."""
    return {
        "suite": section.suite,
        "metric": section.metric,
        "judge": section.judge,
        "signatures": section.signatures,
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
    """Return a cell as `--json` shows it."""
    told = asdict(replace(cell, runs=()))
    del told["runs"], told["signature"]
    told["signature_differs"] = told.pop("differs")
    chosen = told.pop("best_of")
    told["best_of"] = chosen and {
        as_shown: chosen[name]
        for as_shown, name in (("k", "k"), ("variant", "name"), ("corrected", "corrected"))
    }
    return told
