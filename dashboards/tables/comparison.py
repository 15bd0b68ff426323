"""Rows of a leaderboard against each other on their common items, and judges against judges."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import NamedTuple

import numpy as np
import pandas as pd

from mipo_eval.dashboards.links import TASK, address, run_name
from mipo_eval.dashboards.markup import label, number
from mipo_eval.dashboards.tables.headline import short_names
from mipo_eval.dashboards.tables.leaderboard import Comparisons, labels, p_of
from mipo_eval.errors import MipoEvalError
from mipo_eval.evaluation.outcomes import ENDS
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.metrics.aggregate import sign
from mipo_eval.reports.agreement import agreements
from mipo_eval.reports.leaderboard import LeaderboardQuery, Row, Section, by_seed, luck
from mipo_eval.reports.margins import margin_text
from mipo_eval.reports.strengths import suite_strengths
from mipo_eval.signature import NOTHING
from mipo_eval.stats.bootstrap import Floats
from mipo_eval.stats.margin import within
from mipo_eval.stats.paired import Comparison, compare_all
from mipo_eval.stats.seeds import over_seeds
from mipo_eval.store.judges import judge_names

OWN_BASE = "the same base model with personalized prompting"
"""The baseline of every row where there are several base models."""
TOLD, NOT_TOLD = "told apart (p < 0.05, corrected)", "not told apart"


@dataclass(frozen=True, slots=True, kw_only=True)
class RowValues:
    """Values of several rows on the items of one task, averaged over each row's seeds."""

    rows: tuple[int, ...]
    """Places in the leaderboard, one per column."""
    values: Floats
    """(items, rows, seeds), in the units of the metric; NaN where a row has no value."""
    groups: Sequence[object]

    def of(self, row: int) -> Floats:
        """Return the (items,) values of one row, means over its seeds."""
        return over_seeds(self.values[:, self.rows.index(row)])


def row_values(
    now: Snapshot, found: Section, judge: str | None, metric: str | None = None
) -> dict[str, RowValues]:
    """Return, by task, the values of all rows that were measured item by item.

    Args:
        now: the store.
        found: whose rows.
        judge: key of the judge; None without one.
        metric: another than the leaderboard's.
    """
    runs = {run.run_id: run for row in found.rows for c in row.cells.values() for run in c.runs}
    own_metric = metric in {None, found.metric}
    made = found.signatures if own_metric else dict.fromkeys(found.tasks, NOTHING)
    sheets = now.outcomes.of_scores(tuple(runs.values()), metric or found.metric, judge, made)
    values = {}
    for sheet in sheets.values() if runs else ():
        place = {run.run_id: column for column, run in enumerate(sheet.runs)}
        columns = {}
        for index, row in enumerate(found.rows):
            cell = row.cells.get(sheet.task)
            own = [place[run.run_id] for run in (cell.runs if cell else ()) if run.run_id in place]
            if not np.isnan(sheet.values[:, own]).all():
                columns[index] = own
        table = by_seed(sheet, list(columns.values()))
        values[sheet.task] = RowValues(rows=tuple(columns), values=table, groups=sheet.groups)
    return {task: values[task] for task in found.tasks if task in values}


def against_own(
    now: Snapshot, found: Section, judge: str | None
) -> dict[tuple[int, str], Comparison]:
    """Compare every row with the baseline of its own base model, as `against` does.

    P-values are corrected over a task's rows of one base model.
    """
    models = [row.name.model for row in found.rows]
    made: dict[tuple[int, str], Comparison] = {}
    for baseline in own_baselines(found.rows):
        own = [row for row, model in enumerate(models) if model == models[baseline]]
        made |= against(now, found, judge, baseline, own)
    return made


def usual_comparison(rows: Sequence[Row]) -> str | int | None:
    """Return what rows are compared with unless the reader chooses.

    What one model does with its user's context is no measure of what another has learnt, so rows of
    several base models have a baseline each.

    Returns:
        `OWN_BASE`, or the place of the row that is everybody's baseline; None: nothing.
    """
    if len({row.name.model for row in rows}) > 1:
        return OWN_BASE if own_baselines(rows) else None
    return default_baseline(rows)


def own_baselines(rows: Sequence[Row]) -> tuple[int, ...]:
    """Return the usual baseline of every base model that has one, and another row."""
    places: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        places.setdefault(row.name.model, []).append(place)
    usual = (
        (own, default_baseline([rows[place] for place in own]))
        for own in places.values()
        if len(own) > 1
    )
    return tuple(own[place] for own, place in usual if place is not None)


def default_baseline(rows: Sequence[Row]) -> int | None:
    """Return the row that others are usually compared with: personalized prompting, else default.

    Of several such rows, the lowest of a model that has others, too: a checkpoint that was trained
    elsewhere also looks like a prompted model, and the winner is nobody's baseline. None where no
    row is a base model's.
    """
    models = Counter(row.name.model for row in rows)
    for wanted in ("Personalized prompting", "Base", "Default prompting"):
        own = [place for place, row in enumerate(rows) if row.name.method == wanted]
        if own:  # best rows come first
            return max(own, key=lambda place: (models[rows[place].name.model] > 1, place))
    return None


def against(
    now: Snapshot,
    found: Section,
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
    cells = [row.cells for row in found.rows]
    for task, measured in row_values(now, found, judge).items():
        if baseline not in measured.rows:
            continue
        common = [
            row
            for row in measured.rows
            if (rows is None or row in rows)
            and cells[row][task].signature == cells[baseline][task].signature
            and (~np.isnan(measured.of(row) - measured.of(baseline))).any()
        ]
        if len(common) > 1:
            table = measured.values[:, [measured.rows.index(row) for row in common]]
            table = table + np.array([[luck(cells[row][task])] for row in common])
            pairs = compare_all(
                table,
                list(map(str, common)),
                list(measured.groups),
                baseline=str(baseline),
                span=ENDS.get(found.metric),
            )
            made |= {(int(pair.first), task): pair for pair in pairs}
    return made


def forest_table(
    found: Section, comparisons: Comparisons, baseline: int, margin: float | None = None
) -> pd.DataFrame:
    """Return one row per comparison with the baseline: difference, interval, tests, items.

    Columns: row, task, difference, low, high, p, verdict (`TOLD` or `NOT_TOLD`), detectable, n,
    wins, ties, losses, items (address of the pairs behind it); with a margin also margin (what is
    shown of it) and margin_p.
    """
    names = list(map(label, short_names(found.rows)))
    lines = []
    told = [] if margin is None else within([p.evidence for p in comparisons.values()], margin)
    for place, ((row, task), pair) in enumerate(comparisons.items()):
        low, high = pair.ci95 or (None, None)
        first, second = (run_name(found.rows[n].cells[task].runs[0]) for n in (row, baseline))
        lines.append(
            {
                "row": names[row],
                "task": task,
                "difference": pair.difference,
                "low": low,
                "high": high,
                "p": p_of(pair),
                "verdict": TOLD if pair.significant() else NOT_TOLD,
                "detectable": pair.detectable,
                "n": pair.n,
                "wins": pair.wins,
                "ties": pair.ties,
                "losses": pair.losses,
                "items": address("pairs", a=first, b=second, **{TASK: task}),
            }
        )
        if told and (shown := told[place]):
            names_of = ("it is", "the baseline is")
            lines[-1] |= {"margin": margin_text(shown, names_of, found.metric), "margin_p": shown.p}
    columns = ["row", "task", "difference", "low", "high", "p", "verdict", "detectable"]
    columns += ["margin", "margin_p"] if told else []
    return pd.DataFrame(lines, columns=[*columns, "n", "wins", "ties", "losses", "items"])


def strengths_table(now: Snapshot, asked: LeaderboardQuery) -> tuple[pd.DataFrame, list[str]]:
    """Return Bradley-Terry strengths of a suite's methods, and why a judge's have none.

    Columns: judge, method, elo, low, high, games.
    """
    found = suite_strengths(now, asked)
    lines = [
        (label(one.judge), label(of.name), of.elo, *of.elo_ci95, of.games)
        for one in found
        for of in one.strengths
    ]
    table = pd.DataFrame(lines, columns=["judge", "method", "elo", "low", "high", "games"])
    return table, [f"{one.judge}: {one.reason}" for one in found if one.reason]


class Wins(NamedTuple):
    """How often rows beat each other on the items of a task that both have."""

    metric: str
    """What they are compared by: a judge's ratings where it gives some, else the leaderboard's."""
    table: pd.DataFrame
    """A row per ordered pair: first, second, rate (percent; a tie is half), wins, ties, losses."""


def wins(now: Snapshot, found: Section, judge: str | None, task: str) -> Wins:
    """Return how often each row of a task beats each other one."""
    rated = judge is not None and now.outcomes.rates(judge)
    metric = "rating_mean" if rated else found.metric
    way_up = sign(metric)
    names = list(map(label, short_names(found.rows)))
    lines = []
    measured = row_values(now, found, judge, metric).get(task)
    if measured is None:
        return Wins(metric, pd.DataFrame())
    for first, second in permutations(measured.rows, 2):
        margin = way_up * (measured.of(first) - measured.of(second))
        better, worse = int((margin > 0).sum()), int((margin < 0).sum())
        n = int((~np.isnan(margin)).sum())
        if n:
            ties = n - better - worse
            rate = 100 * (better + ties / 2) / n
            lines.append((names[first], names[second], rate, better, ties, worse))
    columns = ["first", "second", "rate", "wins", "ties", "losses"]
    return Wins(metric, pd.DataFrame(lines, columns=columns))


def judge_table(found: Mapping[str, Section], task: str) -> pd.DataFrame:
    """Return every judge's number of every row of a task: judge, row, value, n.

    Args:
        found: name of the judge to its leaderboard, all of the same metric.
        task: which data set.
    """
    lines = [
        (label(judge), label(name), cell.value, cell.n)
        for judge, section in found.items()
        for name, row in zip(labels(section.rows), section.rows, strict=True)
        if (cell := row.cells.get(task)) is not None and cell.value is not None
    ]
    return pd.DataFrame(lines, columns=["judge", "row", "value", "n"])


def agreement_table(now: Snapshot, suite: str) -> pd.DataFrame:
    """Return how every two judges of a suite agree on who won against the references.

    Both ways round: first, second, share, kappa, n.
    """
    runs = list({run.run_id: run for run, _ in now.scores if run.suite == suite}.values())
    names = judge_names(now.store)
    try:
        found = agreements(now.store, runs, now.judges).pairs
    except MipoEvalError:  # fewer than two judges, or nothing that two of them judged
        found = []
    lines = [
        (label(first), label(second), one.verdicts.share, one.verdicts.kappa, one.verdicts.n)
        for one in found
        if one.verdicts.n
        for first, second in permutations((names[one.first.key], names[one.second.key]))
    ]
    return pd.DataFrame(lines, columns=["first", "second", "share", "kappa", "n"])


def length_table(now: Snapshot, found: Section, judge: str | None) -> pd.DataFrame:
    """Return each row's mean length and number: row, task, tokens, value."""
    names = list(map(label, short_names(found.rows)))
    numbers = row_values(now, found, judge)
    lines = [
        (names[row], task, float(np.nanmean(lengths.of(row))), float(np.nanmean(own.of(row))))
        for task, lengths in row_values(now, found, None, "response_tokens").items()
        if (own := numbers.get(task)) is not None
        for row in lengths.rows
        if row in own.rows
    ]
    return pd.DataFrame(lines, columns=["row", "task", "tokens", "value"])


def judges_finding(table: pd.DataFrame) -> str:
    """Return what a plot of `judge_table` shows: whom each judge puts first and last."""
    ordered = table.sort_values("value", ascending=False).groupby("judge", sort=False)["row"]
    told = [f"{judge}: {of.iloc[0]} highest, {of.iloc[-1]} lowest" for judge, of in ordered]
    return "; ".join(told)


def length_finding(table: pd.DataFrame) -> str:
    """Return what a plot of `length_table` shows: whether longer responses go with more."""
    told = f"{len(table)} methods by mean length and number"
    if len(table) < 3 or 1 in (table["tokens"].nunique(), table["value"].nunique()):
        return told
    rank = float(table["tokens"].corr(table["value"], method="spearman"))
    return f"{told}: rank correlation {number(rank, 2, signed=True)}"
