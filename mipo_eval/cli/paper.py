"""The paper's tables and figures on a terminal: published beside measured, and figures' data."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from mipo_eval.cli.output import Output
    from mipo_eval.reports.figures import Figure
    from mipo_eval.reports.names import RowRule
    from mipo_eval.reports.paper import PaperEntry


def show_figure(
    output: "Output",
    about: tuple[str, int, str | None],
    rules: "Sequence[RowRule]",
    path: Path | None,
    *,
    as_json: bool,
) -> None:
    """Print a figure's data, and draw it where a file is named."""
    from mipo_eval.evaluation.score import Snapshot
    from mipo_eval.reports.figures import draw, figure, figure_json
    from mipo_eval.store import Store

    url, number, judge = about
    with Store.open(url, mode="read") as opened:
        found = figure(Snapshot(opened), number, judge=judge, rules=rules)
    if path is not None:
        draw(found, path)
    if as_json:
        output.document(figure_json(found))
        return
    output.show(*_series(found))
    if path is not None:
        output.note(f"wrote {path}")


def _series(found: "Figure") -> list["RenderableType"]:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from mipo_eval.cli.tables import inert
    from mipo_eval.reports.figures import series

    title = inert(found.title)
    title.stylize("bold")
    table = Table(header_style="bold", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("series", overflow="fold")
    for column in ("points", f"mean {found.value}", "last"):
        table.add_column(column, justify="right")
    for own in series(found):
        table.add_row(inert(own.name), str(own.n), f"{own.mean:.3g}", f"{own.last:.3g}")
    told = Text(f"\u2020 published: {found.published}", style="dim")
    nothing = Text("nothing in the store for it yet", style="yellow")
    return [title, table if found.rows else nothing, told]


def show_table(
    output: "Output",
    about: tuple[str, int, str | None],
    rules: "Sequence[RowRule]",
    *,
    as_json: bool,
) -> None:
    """Print a table of the paper with the store's numbers beside the published ones."""
    from mipo_eval.cli.tables import inert
    from mipo_eval.reports.paper import TITLES, entry_json, paper_table
    from mipo_eval.store import Store

    url, number, judge = about
    with Store.open(url, mode="read") as opened:
        entries = paper_table(opened, number, judge=judge, rules=rules)
    if as_json:
        rows = [entry_json(entry) for entry in entries]
        output.document({"table": number, "title": TITLES[number], "rows": rows})
        return
    title = inert(TITLES[number])
    title.stylize("bold")
    output.show(title, _entries(entries))
    absent = sum(entry.measured is None for entry in entries)
    output.note(
        f"{len(entries) - absent} of {len(entries)} numbers measured, {absent} absent. "
        "Which runs are which method: --rows FILE."
    )
    for entry in entries:
        if entry.best_of:
            number_ = entry.published
            output.note(f"{number_.model} {number_.method} on {number_.dataset}: {entry.best_of}")


def _entries(entries: "Sequence[PaperEntry]") -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(header_style="bold", box=SIMPLE_HEAD)
    table.add_column("model, method", overflow="fold")
    table.add_column("data set", no_wrap=True)
    for column in ("published", "measured", "diff", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    model = None
    for entry in entries:
        number = entry.published
        if number.model != model:
            model = number.model
            table.add_section()
            table.add_row(model, style="italic")
        difference = entry.difference
        digits = 3 if number.table in {3, 4} else 1
        table.add_row(
            f"  {number.method}",
            number.dataset,
            printed(number.value, number.std),
            "absent" if entry.measured is None else printed(entry.measured, entry.std),
            "" if difference is None else f"{difference:+.{digits}f}",
            "" if entry.n is None else str(entry.n),
            style="" if entry.measured is not None else "dim",
        )
    return table


def printed(value: float | None, std: float | None) -> str:
    """Return a number as the paper prints it, with its standard deviation over seeds."""
    if value is None:
        return "-"
    digits = 3 if abs(value) < 1 and value else 1
    return f"{value:.{digits}f}" + (f" \u00b1 {std:.{digits}f}" if std is not None else "")
