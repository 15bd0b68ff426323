"""The rows of the leaderboard's picture: one data set, measured and published."""

from collections.abc import Sequence

import pandas as pd

from mipo_eval.dashboards.forest import ForestRow, rank_text, shares
from mipo_eval.dashboards.links import TASK, address, run_name
from mipo_eval.dashboards.markup import interval, number
from mipo_eval.dashboards.tables.headline import short_names
from mipo_eval.dashboards.tables.leaderboard import Comparisons, p_of
from mipo_eval.metrics.aggregate import direction
from mipo_eval.reports.labels import decimals
from mipo_eval.reports.leaderboard import Row, Section
from mipo_eval.stats.paired import Comparison


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
    made = []
    for place, row in enumerate(found.rows):
        cell = row.cells.get(task)
        if cell is None or cell.value is None or row not in rows:
            continue
        prompting = next((run.prompting for run in cell.runs if run.prompting), "")
        about = [row.name.model, f"{prompting} prompting" if prompting else ""]
        about += [f"{cell.seeds} seeds"] if cell.seeds > 1 else []
        made.append(
            ForestRow(
                name=names[place],
                about=" \u00b7 ".join(filter(None, [*about, cell.best_of_text])),
                value=cell.value,
                ci95=cell.ci95,
                rank=rank_text(cell),
                gain=_gain(against.get((place, task)), decimals(found.metric)),
                shares=shares(found.metric, cell),
                n=f"{'?' if cell.n is None else f'{cell.n:,}'}"
                + (f" ({cell.unscored:,})" if cell.unscored else ""),
                link=address("pairs", a=run_name(cell.runs[0]), **{TASK: task}),
                alike=bool(best & set(cell.letters)) and len(known) > 1,
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


def _gain(pair: Comparison | None, places: int) -> str:
    if pair is None:
        return ""
    told = f"{number(pair.difference, places, signed=True)} {interval(pair.ci95, places)}"
    p = p_of(pair)
    return told + ("" if p is None else " p < 0.001" if p < 0.001 else f" p = {p:.3f}")
