"""How a terminal shows the paper's tables and figures.

A table has as many columns side by side as the terminal is wide.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from mipo_eval.cli.options import PUBLISHED
from mipo_eval.cli.render import Grid, inert
from mipo_eval.reports.labels import tied_group
from mipo_eval.reports.paper_grid import STANDING, GridCell, PaperGrid

if TYPE_CHECKING:
    from rich.console import RenderableType

    from mipo_eval.cli.render import Output
    from mipo_eval.reports.figures import Figure
    from mipo_eval.reports.leaderboard import LeaderboardQuery
    from mipo_eval.store.engine import Store

_NAME = 13
"""Least width of the methods' column, whose names are folded."""
_BETWEEN = 2
"""Blanks between columns, and at both edges together."""
_HEAD = 11
"""What a column's name is broken to, where it can be."""


def grid_lines(grid: PaperGrid, width: int) -> "list[RenderableType]":
    """Return the table for a terminal of this width, its warnings and its foot."""
    digits = 3 if grid.digits == 3 else 1
    cells = [[_cell(cell, digits) for cell in row.cells] for row in grid.rows]
    heads = [_broken(column.name) for column in grid.columns]
    widths = [
        max(map(_width, [heads[k], *(row[k].plain for row in cells)])) for k in range(len(heads))
    ]
    parts: list[RenderableType] = [inert(grid.title, "bold")]
    for columns in _panels(grid, widths, width - _NAME - _BETWEEN):
        groups = list(dict.fromkeys(grid.columns[k].group for k in columns))
        if len(groups) == 1:
            own = [heads[k] for k in columns]
            parts += [inert(groups[0], "italic")] if groups[0] else []
        else:
            own = [f"{_broken(grid.columns[k].group)}\n{heads[k]}" for k in columns]
        table = Grid(grid.rows_are, numbers=own)
        table.padding = (0, 1, 0, 0)
        table.columns[0].min_width = _NAME
        for row, shown in zip(grid.rows, cells, strict=True):
            if any(row.cells[k] for k in columns):
                table.add(f"{row.name} {row.source}".rstrip(), *(shown[k] for k in columns))
        parts.append(table)
    if grid.has_best:
        parts.append(inert("*: best of its column. =: not told apart from the best.", "dim"))
    parts += [
        inert(f"[{number}] {line}", "yellow") for number, line in enumerate(grid.warnings, start=1)
    ]
    return [*parts, *(inert(line, "dim") for line in grid.foot)]


def _panels(grid: PaperGrid, widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Yield columns that stand side by side; those of a group stay together where they can."""
    panel: list[int] = []
    first = 0
    for _, count in grid.groups:
        own = range(first, first + count)
        first += count
        for k in own:
            together = own if k == own[0] else [k]
            if panel and _needed(grid, widths, [*panel, *together]) > room:
                yield panel
                panel = []
            panel.append(k)
    if panel:
        yield panel


def _needed(grid: PaperGrid, widths: Sequence[int], columns: Sequence[int]) -> int:
    """Return how wide columns are; those of several groups bear their groups' names."""
    groups = [grid.columns[k].group for k in columns]
    least = [_width(_broken(name)) if len(set(groups)) > 1 else 0 for name in groups]
    return sum(max(widths[k], own) + _BETWEEN for k, own in zip(columns, least, strict=True))


def _width(text: str) -> int:
    return max(map(len, text.split("\n")))


def _broken(name: str) -> str:
    r"""Return a name in lines that are not too wide, broken after hyphens.

    Example:
        >>> _broken("ARC-Challenge")
        'ARC-\nChallenge'
    """
    lines = [""]
    for word in re.findall(r"[^-]+-?|-", name):
        if lines[-1] and len(lines[-1]) + len(word) > _HEAD:
            lines.append("")
        lines[-1] += word
    return "\n".join(lines)


def _cell(cell: GridCell | None, digits: int) -> Text:
    """Return a number, and below it what is published, by how much it differs, and its marks."""
    if cell is None:
        return Text("-", style="dim")
    value, old = cell.value(digits), cell.published(digits)
    shown = Text()
    if value:
        shown.append(f"{value}{STANDING[cell.standing]}", "bold" if cell.standing == "best" else "")
    if old:
        shown.append(f"\n{old}{cell.mark}" if value else f"{old}{cell.mark}", "cyan")
    below = f"{cell.difference(digits)} {tied_group(cell.entry.letters)}".strip()
    if below:
        shown.append(f"\n{below}")
    if cell.warnings:
        numbers = " ".join(str(number) for number in cell.warnings)
        shown.append(f"\n[{numbers}]", "yellow")
    return shown


def show_figure(
    output: "Output", store: "Store", number: int, asked: "LeaderboardQuery", path: Path | None
) -> None:
    """Print a figure's data, and draw it where a file is named."""
    from mipo_eval.evaluation.score import Snapshot
    from mipo_eval.reports.figures import draw, figure, figure_json

    found = figure(Snapshot(store), number, judge=asked.judge, rules=asked.rules)
    if path is not None:
        draw(found, path)
    output.document(figure_json(found))
    output.show(*_series(found))
    if path is not None:
        output.note(f"Written: {path}")


def _series(found: "Figure") -> "list[RenderableType]":
    from mipo_eval.reports.figures import series

    table = Grid("series", numbers=("points", f"mean {found.value}", "last"), wrap=True)
    for own in series(found):
        table.add(own.name, str(own.n), f"{own.mean:.3g}", f"{own.last:.3g}")
    nothing = inert("The store has nothing for this figure yet.", "yellow")
    told = inert(f"{PUBLISHED} published: {found.published}", "dim")
    return [inert(found.title, "bold"), table if found.rows else nothing, told]
