"""The rows of the leaderboard's picture: one data set, measured and published."""

from collections.abc import Sequence

import pandas as pd

from mipo_eval.dashboards.forest import ForestRow, rank_text, shares
from mipo_eval.dashboards.links import TASK, address, run_name
from mipo_eval.dashboards.markup import PAPER, interval, number
from mipo_eval.dashboards.tables.comparison import TOLD
from mipo_eval.dashboards.tables.headline import p_text, short_names
from mipo_eval.dashboards.tables.leaderboard import Comparisons, p_of
from mipo_eval.evaluation.outcomes import DERIVED
from mipo_eval.evaluation.score import Numbers
from mipo_eval.metrics.aggregate import direction
from mipo_eval.reports.labels import decimals
from mipo_eval.reports.leaderboard import LeaderboardQuery, Row, Section
from mipo_eval.reports.names import model_label
from mipo_eval.stats.paired import Comparison
from mipo_eval.store.engine import Store
from mipo_eval.store.judges import list_judges
from mipo_eval.store.tallies import in_flight

_SEED = 0.45
"""Size of a seed's dot (rem)."""


def forest_rows(
    found: Section, task: str, rows: Sequence[Row], against: Comparisons, published: pd.DataFrame
) -> list[ForestRow]:
    """Return the rows of a picture, best first.

    Args:
        found: the leaderboard.
        task: of which data set.
        rows: those to show.
        against: rows compared with a baseline.
        published: of `paper_numbers`.
    """
    names = short_names(found.rows)
    lower = direction(found.metric) == "lower"
    known = [row.cells[task] for row in found.rows if task in row.cells]
    best = next((set(cell.letters) for cell in known if cell.rank == 1), set())
    together = sum(bool(best & set(cell.letters)) for cell in known)
    several = len({row.name.model for row in found.rows}) > 1
    every = {run.prompting for row in found.rows for c in row.cells.values() for run in c.runs}
    made = []
    for place, row in enumerate(found.rows):
        cell = row.cells.get(task)
        if cell is None or cell.value is None or row not in rows:
            continue
        prompting = next((run.prompting for run in cell.runs if run.prompting), "")
        model, name = row.name.model, names[place]
        about = [model] if several and name.startswith(f"{model} \u00b7 ") else []
        prompted = f"{prompting} prompting" if prompting and len(every) > 1 else ""
        about += [prompted] if prompted and prompted not in name.lower() else []
        about += [f"{cell.seeds} seeds"] if cell.seeds > 1 else []
        made.append(
            ForestRow(
                name=name.removeprefix(f"{model} \u00b7 "),
                about=" \u00b7 ".join(filter(None, [*about, cell.best_of_text])),
                value=cell.value,
                ci95=cell.ci95,
                rank=rank_text(cell),
                gain=_gain(against.get((place, task)), decimals(found.metric)),
                shares=shares(found.metric, cell),
                n=f"{'?' if cell.n is None else f'{cell.n:,}'}"
                + (f" ({cell.unscored:,})" if cell.unscored else ""),
                link=address("pairs", a=run_name(cell.runs[0]), **{TASK: task}),
                alike=together > 1 and bool(best & set(cell.letters)),
                dots=tuple((value, _SEED) for value in cell.per_seed),
            )
        )
    for line in published[published["task"] == task].to_dict("records"):
        std = None if pd.isna(line["std_seeds"]) else line["std_seeds"]
        made.append(
            ForestRow(
                name=line["method"],
                about=f"{line['model']} \u00b7 published",
                value=line["value"],
                ci95=None if std is None else (line["value"] - std, line["value"] + std),
                published=True,
            )
        )
    return sorted(made, key=lambda row: row.value if lower else -row.value)


def running_rows(store: Store, asked: LeaderboardQuery, task: str) -> list[ForestRow]:
    """Return what is known so far of the runs of a suite that are not done; none has a rank.

    Args:
        store: where they are.
        asked: of which suite, judge and metric.
        task: of which data set.
    """
    judge = next((one for one in list_judges(store) if one.key == asked.judge), None)
    if judge is None:
        return []
    numbers, metric = Numbers(store), asked.metric or ""
    made = []
    for run in (flight.run for flight in in_flight(store)):
        if run.suite != asked.suite or task not in numbers.outcomes.listed(run).tasks:
            continue
        if metric in DERIVED:
            scores = [numbers.derived(run, task, metric, judge.key)]
        else:
            scores = [one for one in numbers.judged(run, task, judge) if one.metric == metric]
        made += [
            ForestRow(
                name=model_label(run.model),
                about=f"{run.prompting} prompting \u00b7 still running: "
                f"{score.n:,} of {score.n + score.unscored:,} items so far",
                value=score.value,
                ci95=score.ci95,
                link=address("pairs", a=run_name(run), **{TASK: task}),
                running=True,
            )
            for score in scores
            if score.n and score.value is not None
        ]
    return made


def difference_rows(table: pd.DataFrame) -> list[ForestRow]:
    """Return the rows of a picture of `comparison.forest_table`, the largest difference first."""
    made = [
        ForestRow(
            name=line["row"],
            value=line["difference"],
            ci95=None if pd.isna(line["low"]) else (line["low"], line["high"]),
            gain=() if pd.isna(line["p"]) else (p_text(line["p"]),),
            n=f"{line['n']:,}",
            link=line["items"],
            alike=line["verdict"] != TOLD,
        )
        for line in table.to_dict("records")
    ]
    return sorted(made, key=lambda row: -row.value)


def number_rows(table: pd.DataFrame, apart: str | None = None) -> list[ForestRow]:
    """Return the rows of a picture of `scores.score_table`, in their order.

    Numbers that differ only in their seeds are one row: their mean, and a dot for each.

    Args:
        table: numbers of one task.
        apart: column that tells several numbers of a row apart.
    """
    names = table["row"] if apart is None else table["row"] + " \u00b7 " + table[apart]
    known = table.assign(named=names).dropna(subset="value")
    made = []
    for (name, source), own in known.groupby(["named", "source"], sort=False):
        seeds = own["seed"].nunique() if "seed" in own else 0
        lines = [own] if seeds == len(own) > 1 else [own.iloc[[n]] for n in range(len(own))]
        made += [_number_row(str(name), line, published=source == PAPER) for line in lines]
    return made


def _number_row(name: str, own: pd.DataFrame, *, published: bool) -> ForestRow:
    first, seeds = own.iloc[0], len(own)
    lone = seeds == 1 and not pd.isna(first["low"])
    return ForestRow(
        name=name,
        about=f"{seeds} seeds" if seeds > 1 else "",
        value=float(own["value"].mean()),
        ci95=(first["low"], first["high"]) if lone else None,
        n="" if pd.isna(first.get("n")) else f"{first['n']:,}",
        published=published,
        dots=tuple((value, _SEED) for value in own["value"]) if seeds > 1 else (),
    )


def _gain(pair: Comparison | None, places: int) -> tuple[str, ...]:
    if pair is None:
        return ()
    within = interval(pair.ci95, places, signed=True)
    p = p_of(pair)
    told = "" if p is None else p_text(p)
    return number(pair.difference, places, signed=True), within, told
