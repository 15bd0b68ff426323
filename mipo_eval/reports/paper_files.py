"""A table of the paper in a file: Markdown, LaTeX, HTML, CSV or JSON."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mipo_eval.errors import ConfigError
from mipo_eval.reports.export import templates, to_csv, write_text
from mipo_eval.reports.paper import Table
from mipo_eval.reports.paper_entries import entry_json
from mipo_eval.reports.paper_grid import PaperGrid


def grid_json(table: Table, grid: PaperGrid) -> dict[str, Any]:
    """Return a table as `--json` shows it, a row per number, with what stands below it."""
    cells = (cell for row in grid.rows for cell in row.cells if cell is not None)
    rows = [entry_json(cell.entry) | {"standing": cell.standing} for cell in cells]
    about = {"table": table, "title": grid.title}
    return about | {"rows": rows, "warnings": grid.warnings, "foot": grid.foot}


def write_table(table: Table, grid: PaperGrid, path: Path) -> None:
    """Write a table to a file whose ending says in which form.

    Raises:
        ConfigError: an ending that means nothing, or the file cannot be written.
    """
    form = next((form for form in FORMS if path.name.lower().endswith(form)), None)
    if form is None:
        raise ConfigError(f"{path.name}: the name of a table's file must end in {', '.join(FORMS)}")
    if not path.parent.is_dir():
        raise ConfigError(f"{path} cannot be written: the folder {path.parent} is not there")
    write_text(path, FORMS[form](table, grid))


def _csv(table: Table, grid: PaperGrid) -> str:
    rows = grid_json(table, grid)["rows"]
    return to_csv([row | {"warnings": "; ".join(row["warnings"])} for row in rows])


def _json(table: Table, grid: PaperGrid) -> str:
    return json.dumps(grid_json(table, grid), indent=2, ensure_ascii=False) + "\n"


def _of_template(name: str) -> Callable[[Table, PaperGrid], str]:
    def render(_: Table, grid: PaperGrid) -> str:
        made = templates()
        made.filters["tex"] = _tex
        return made.get_template(name).render(grid=grid)

    return render


def _tex(number: tuple[float | None, float | None], digits: int) -> str:
    """Return a number in LaTeX, with its standard deviation over seeds."""
    value, std = number
    if value is None:
        return ""
    return f"{value:.{digits}f}" + ("" if std is None else f" $\\pm$ {std:.{digits}f}")


FORMS: Mapping[str, Callable[[Table, PaperGrid], str]] = {
    ".md": _of_template("table.md.jinja"),
    ".tex": _of_template("table.tex.jinja"),
    ".html": _of_template("table.html.jinja"),
    ".csv": _csv,
    ".json": _json,
}
"""Ending of a file to what is written into it."""
