"""The leaderboard as a picture or as LaTeX, and how to cite its numbers: made when asked for."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pandas as pd

from mipo_eval import __version__
from mipo_eval.dashboards.forest import ForestRow, Scale
from mipo_eval.dashboards.markup import MEASURED, PAPER, label
from mipo_eval.errors import ConfigError
from mipo_eval.metrics.aggregate import direction
from mipo_eval.records import Score
from mipo_eval.reports.labels import metric_title
from mipo_eval.reports.leaderboard import Cell, Section

if TYPE_CHECKING:
    from mipo_eval.reports.export import ExportCell


def picture(rows: Sequence[ForestRow], scale: Scale, form: str) -> bytes:
    """Return the forest of a leaderboard as a file.

    Args:
        rows: as they are on the page.
        scale: what the values are.
        form: "svg" or "png".

    Raises:
        ConfigError: what draws it is not installed.
    """
    try:
        import vl_convert
    except ModuleNotFoundError:
        raise ConfigError("pictures need vl-convert: pip install 'mipo-eval[board]'") from None
    from mipo_eval.dashboards.plots import interval_plot

    lines = [
        {"row": label(row.name), "value": row.value, "source": PAPER if row.published else MEASURED}
        | dict(zip(("low", "high"), row.ci95 or (None, None), strict=True))
        for row in rows
    ]
    frame = pd.DataFrame(lines).assign(method=[label(row.name) for row in rows])
    spec = interval_plot(frame, axis=scale.title, ends=scale.ends).properties(width=560).to_dict()
    if form == "svg":
        return str(vl_convert.vegalite_to_svg(spec)).encode()
    return bytes(vl_convert.vegalite_to_png(spec, scale=2))


def latex(found: Section, names: Sequence[str]) -> str:
    """Return the rows of a leaderboard as a table for a paper, a column a data set."""
    from mipo_eval.reports.export import ExportTable, templates  # takes long to import

    better = max if direction(found.metric) != "lower" else min
    lines = []
    for task in found.tasks:
        cells = [row.cells.get(task) for row in found.rows]
        values = [cell.value for cell in cells if cell and cell.value is not None]
        best = better(values) if len(values) > 1 else None
        own = [None if cell is None else _cell(found, task, cell, best) for cell in cells]
        lines.append(((task, metric_title(found.metric), found.judge or ""), own))
    table = ExportTable(list(names), lines)
    made = dict.fromkeys(str(cell.signature) for row in found.rows for cell in row.cells.values())
    template = templates().get_template("export.tex.jinja")
    tables = [(found.suite, table)]
    return template.render(runs=(), tables=tables, signatures=made, version=__version__)


def _cell(found: Section, task: str, cell: Cell, best: float | None) -> "ExportCell":
    from mipo_eval.reports.export import ExportCell, shown

    score = Score(
        task=task,
        metric=found.metric,
        value=cell.value,
        n=cell.n,
        ci95=cell.ci95,
        signature=cell.signature,
    )
    best_of_column = cell.value is not None and cell.value == best
    return ExportCell(score, *shown(score), best_of_column, cell.letters)


def citation(found: Section) -> str:
    """Return what a paper cites for the numbers of a leaderboard, as BibTeX."""
    by = f", judged by {found.judge}" if found.judge else ""
    note = label(f"{found.suite}, {metric_title(found.metric)}{by}", 200)
    made = "; ".join(dict.fromkeys(label(str(one), 400) for one in found.signatures.values()))
    return (
        "@software{mipo-eval,\n"
        f"  title = {{mipo-eval}},\n  version = {{{__version__}}},\n"
        f"  note = {{{note}}}\n}}\n% made with: {made}\n"
    )
