"""One column of a leaderboard: values over seeds, intervals, ranks, tie letters, tie rates."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from mipo_eval.errors import DataError
from mipo_eval.evaluation.outcomes import COMPARED, DERIVED, Sheet
from mipo_eval.evaluation.score import Numbers
from mipo_eval.metrics.aggregate import direction
from mipo_eval.records import Score
from mipo_eval.reports.catalog import RowName, column_signature
from mipo_eval.signature import Signature
from mipo_eval.stats import BestOf, best_of, rank_runs, seed_summaries
from mipo_eval.stats.bootstrap import Floats, Interval
from mipo_eval.store.runs import Run


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
class Line:
    """A row before it is measured: its runs by seed."""

    name: RowName
    runs: tuple[Run, ...]
    scores: Mapping[tuple[str, str], Score]
    """(run id, task) to stored score."""


def stored_score(line: Line, task: str) -> Score | None:
    """Return the stored score of a row's first run that has one."""
    found = (line.scores.get((run.run_id, task)) for run in line.runs)
    return next((score for score in found if score is not None), None)


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

    @property
    def sign(self) -> int:
        """-1 where lower is better."""
        return -1 if direction(self.metric) == "lower" else 1


def cells_of(groups: Sequence[Sequence[Line]], column: _Column) -> list[Cell]:
    """Return the cells of one task, one per group of variants."""
    if column.sheet is None:
        return [_stored_cell(group, column) for group in groups]
    chosen = [_choose(group, column.sheet, column) for group in groups]
    lines = [line for line, _ in chosen]
    cells = [_cell(line, column.sheet, column, choice) for line, choice in chosen]
    cells = _with_seeds(cells, lines, column.sheet, column.seed)
    return _with_ranks(cells, lines, column.sheet, column) if column.ranked else cells


def _columns(line: Line, sheet: Sheet) -> list[int]:
    ids = {run.run_id for run in line.runs}
    return [k for k, run in enumerate(sheet.runs) if run.run_id in ids]


def _over_seeds(line: Line, sheet: Sheet) -> Floats:
    """Return (items,) the mean over the seeds that have a value; NaN where none has."""
    own = sheet.values[:, _columns(line, sheet)]
    counts = (~np.isnan(own)).sum(axis=1)
    out = np.full(len(own), np.nan)
    np.divide(np.nansum(own, axis=1), counts, out=out, where=counts > 0)
    return out


def _choose(group: Sequence[Line], sheet: Sheet, column: _Column) -> tuple[Line, BestOf | None]:
    """Return the best of several variants, with what the choice is worth."""
    table = np.stack([_over_seeds(line, sheet) for line in group], axis=1)
    known = np.asarray(~np.isnan(table).all(axis=0))
    if len(group) == 1 or known.sum() < 2:
        return group[int(np.argmax(known))], None
    lines = [line for line, has in zip(group, known, strict=True) if has]
    names = [line.name.variant or "" for line in lines]
    best = best_of(column.sign * table[:, known], names, sheet.groups, seed=column.seed)
    return lines[names.index(best.name)], best if column.sign > 0 else _mirrored(best)


def _mirrored(best: BestOf) -> BestOf:
    """Return a choice among values whose sign was changed in the units of the metric."""
    return replace(
        best,
        shown=-best.shown,
        corrected=None if best.corrected is None else -best.corrected,
        ci95=None if best.ci95 is None else (-best.ci95[1], -best.ci95[0]),
    )


def _cell(line: Line, sheet: Sheet, column: _Column, choice: BestOf | None) -> Cell:
    own = _columns(line, sheet)
    values = sheet.values[:, own]
    means = [float(np.nanmean(v)) for v in values.T if not np.isnan(v).all()]
    if not means:  # imported scores come without the items behind them
        return _stored_cell([line], column)
    score = stored_score(line, sheet.task)
    ties = [sheet.ties[k] for k in own]
    told = [tie for tie in ties if tie is not None]
    return Cell(
        value=float(np.mean(means)),
        seeds=len(means),
        n=int((~np.isnan(values)).any(axis=1).sum()),
        unscored=sum(sum(sheet.unscored[k].values()) for k in own),
        ci95=_one_seed(sheet, own[0], score, column) if len(own) == 1 else None,
        tie_rate=sum(told) / len(told) if told else None,
        differs=_differs(score, column.signature),
        best_of=choice,
    )


def _one_seed(sheet: Sheet, own: int, score: Score | None, column: _Column) -> Interval | None:
    """Return the interval over items, of the very outcomes the value is of."""
    run = sheet.runs[own]
    if column.metric in DERIVED and column.judge is not None:
        made = column.numbers.derived(
            run, column.task, column.metric, column.judge, seed=column.seed
        )
        return made.ci95
    return column.numbers.current(run, score).ci95 if score else None


def _differs(score: Score | None, signature: Signature) -> dict[str, tuple[str | None, str | None]]:
    return signature.differences(column_signature(score.signature)) if score else {}


def _stored_cell(group: Sequence[Line], column: _Column) -> Cell:
    """Return a cell of a metric that has no value per item, from stored scores."""
    found = [
        (
            line,
            [
                column.numbers.current(run, line.scores[key])
                for run in line.runs
                if (key := (run.run_id, column.task)) in line.scores
            ],
        )
        for line in group
    ]
    means = [_mean(scores) for _, scores in found]
    known = [k for k, mean in enumerate(means) if mean is not None]
    best = max(known, key=lambda k: column.sign * (means[k] or 0.0), default=0)
    line, scores = found[best]
    values = [score.value for score in scores if score.value is not None]
    return Cell(
        value=means[best],
        std=float(np.std(values, ddof=1)) if len(values) > 1 else None,
        seeds=len(values),
        n=max(score.n for score in scores),
        unscored=sum(score.unscored for score in scores),
        ci95=scores[0].ci95 if len(scores) == 1 else None,
        differs=_differs(scores[0], column.signature),
        best_of=_uncorrected(line, len(known), means[best]) if len(known) > 1 else None,
    )


def _mean(scores: Sequence[Score]) -> float | None:
    values = [score.value for score in scores if score.value is not None]
    return float(np.mean(values)) if values else None


def _uncorrected(line: Line, k: int, shown: float | None) -> BestOf:
    """Return the mark of a choice whose worth cannot be known without values per item."""
    return BestOf(
        name=line.name.variant or "",
        k=k,
        shown=shown or 0.0,
        corrected=None,
        ci95=None,
    )


def _with_seeds(
    cells: Sequence[Cell], lines: Sequence[Line], sheet: Sheet, seed: int
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
    known = {"rating_mean": (1.0, 5.0), "net_win_rate": (-100.0, 100.0)}
    rate = metric in COMPARED or metric in {"accuracy", "truncation_rate"}
    low, high = known.get(metric, (0.0, 100.0 if rate else math.inf))
    return (max(interval[0], low), min(interval[1], high)) if interval else None


def _with_ranks(
    cells: Sequence[Cell], lines: Sequence[Line], sheet: Sheet, column: _Column
) -> list[Cell]:
    """Add ranks and letters to the cells that can be compared with most of their column."""
    values = {k: _over_seeds(lines[k], sheet) for k, cell in enumerate(cells) if not cell.differs}
    alike = [k for k, own in values.items() if not np.isnan(own).all()]
    if len(alike) < 2:
        return list(cells)
    table = np.stack([values[k] for k in alike], axis=1)
    try:
        ranked = rank_runs(
            column.sign * table, [str(k) for k in alike], sheet.groups, seed=column.seed
        )
    except DataError:  # two rows have no scored item in common: there is no order to speak of
        return list(cells)
    made = list(cells)
    for rank in ranked:
        k = int(rank.name)
        made[k] = replace(cells[k], rank=rank.rank, rank_ci95=rank.rank_ci95, letters=rank.letters)
    return made


def cell_json(cell: Cell) -> dict[str, Any]:
    """Return a cell as `--json` shows it."""
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
