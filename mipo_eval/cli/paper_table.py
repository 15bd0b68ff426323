"""How a terminal shows a table of the paper: as many columns side by side as it is wide."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.text import Text

from mipo_eval.cli.render import Grid, inert
from mipo_eval.reports.paper_grid import STANDING, GridCell, PaperGrid

if TYPE_CHECKING:
    from rich.console import RenderableType

_NAME, _NUMBER = 13, 13
"""Least width of the methods' column, and that of a number with what stands beside it."""


def grid_lines(grid: PaperGrid, width: int) -> "list[RenderableType]":
    """Return the table for a terminal of this width, its warnings and its foot."""
    parts: list[RenderableType] = [inert(grid.title, "bold")]
    for columns in _panels(grid, max(1, (width - _NAME) // _NUMBER)):
        groups = {grid.columns[k].group: None for k in columns}
        if len(groups) == 1:
            parts.append(inert(next(iter(groups)), "italic"))
        parts.append(_panel(grid, columns, in_head=len(groups) > 1))
    parts += [
        inert(f"[{number}] {line}", "yellow") for number, line in enumerate(grid.warnings, start=1)
    ]
    return [*parts, *(inert(line, "dim") for line in grid.foot)]


def _panels(grid: PaperGrid, most: int) -> Iterator[list[int]]:
    """Yield columns that stand side by side; those of a group stay together where they can."""
    panel: list[int] = []
    first = 0
    for _, count in grid.groups:
        own = list(range(first, first + count))
        first += count
        if len(panel) + count > most and panel:
            yield panel
            panel = []
        while len(own) > most:
            yield own[:most]
            own = own[most:]
        panel += own
    if panel:
        yield panel


def _panel(grid: PaperGrid, columns: Sequence[int], *, in_head: bool) -> Grid:
    digits = 3 if grid.digits == 3 else 1
    heads = [_head(grid, k, in_head=in_head) for k in columns]
    table = Grid(grid.rows_are, numbers=heads)
    table.columns[0].min_width = min(_NAME, max(len(row.name) for row in grid.rows))
    for row, cells in grid.part(columns):
        table.add(f"{row.name} {row.source}".rstrip(), *(_cell(cell, digits) for cell in cells))
    return table


def _head(grid: PaperGrid, column: int, *, in_head: bool) -> str:
    """Return what a column is called, its group above it in lines that are not too wide."""
    group, name = grid.columns[column]
    if not in_head:
        return name
    lines = [""]
    for word in group.replace("-", "-\n").split("\n"):
        if len(lines[-1]) + len(word) <= _NUMBER - 2:
            lines[-1] += word
        else:
            lines.append(word)
    return "\n".join([*lines, name])


def _cell(cell: GridCell | None, digits: int) -> Text:
    """Return a number, and below it what is published, by how much it differs, and its marks."""
    if cell is None:
        return Text("-", style="dim")
    value, old = cell.value(digits), cell.published(digits)
    shown = Text()
    if value:
        shown.append(
            f"{value}{STANDING[cell.standing]}", "bold" if cell.standing == "best" else ""
        )
    if old:
        shown.append(f"{'\n' if value else ''}{old}{cell.mark}", "cyan")
    below = f"{cell.difference(digits)} {cell.entry.letters}".strip()
    if below:
        shown.append(f"\n{below}")
    if cell.warnings:
        numbers = " ".join(str(number) for number in cell.warnings)
        shown.append(f"\n[{numbers}]", "yellow")
    return shown
