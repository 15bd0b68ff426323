"""A table of the paper as a grid: methods down, models and data sets across, marks and a foot."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from mipo_eval.metrics.aggregate import sign
from mipo_eval.reports.paper import PAPER, TITLES, Table, published
from mipo_eval.reports.paper_entries import DATASETS, METRICS, SIZES, PaperEntry

_MARKS = ("\u2021", "\u00a7", "\u00b6")
_PAPER_MARK = "\u2020"
_NAMED = 3
"""Numbers that a warning names; of more it says how many."""

Standing = Literal["best", "tied", ""]
STANDING: Mapping[Standing, str] = {"best": "*", "tied": "=", "": ""}
"""What marks the best number of a column, and those not told apart from it."""


class GridCell(NamedTuple):
    """One place of the grid."""

    entry: PaperEntry
    standing: Standing
    warnings: tuple[int, ...]
    """Numbers of the grid's warnings that hold for it."""
    mark: str
    """Of who printed its number; empty where nobody did."""

    def value(self, digits: int) -> str:
        """Return the measured number, mean (standard deviation); empty where there is none."""
        return printed(self.entry.measured, self.entry.std, digits)

    def published(self, digits: int) -> str:
        """Return the printed number the same way; empty where nobody printed one."""
        number = self.entry.published
        return printed(number.value, number.std, digits) if number else ""

    def difference(self, digits: int) -> str:
        """Return measured less published."""
        value = self.entry.difference
        return "" if value is None else f"{value:+.{digits}f}"

    @property
    def marks(self) -> str:
        """The letters of its tie group, and the numbers of its warnings."""
        numbers = " ".join(str(number) for number in self.warnings)
        return " ".join(part for part in (self.entry.letters, numbers and f"[{numbers}]") if part)


class GridColumn(NamedTuple):
    """One column: a model, and a data set; of Table 7 a data set, and a kind of accuracy."""

    group: str
    name: str


class GridRow(NamedTuple):
    """One method, of the paper and the store or of somebody else."""

    name: str
    source: str
    """Mark of who else printed it; empty for the paper's and the store's."""
    cells: tuple[GridCell | None, ...]
    """One per column."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PaperGrid:
    """A table of the paper, laid out."""

    title: str
    digits: int
    """Decimals of what is printed in full."""
    rows_are: str
    columns: tuple[GridColumn, ...]
    rows: tuple[GridRow, ...]
    warnings: tuple[str, ...]
    """The first is number 1."""
    foot: tuple[str, ...]
    """What the marks mean, and of each column by whom, over how many and how it was made."""

    @property
    def has_best(self) -> bool:
        """Whether a column has a number that is marked as its best."""
        return any(cell.standing for row in self.rows for cell in row.cells if cell)

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Groups of columns in their order, with how many columns each has."""
        counts: dict[str, int] = {}
        for column in self.columns:
            counts[column.group] = counts.get(column.group, 0) + 1
        return list(counts.items())


def printed(value: float | None, std: float | None, digits: int) -> str:
    """Return a number as tables print it.

    Example:
        >>> printed(93.666, 1.2583, 2)
        '93.67 (1.26)'
    """
    if value is None:
        return ""
    return f"{value:.{digits}f}" + ("" if std is None else f" ({std:.{digits}f})")


def paper_grid(table: Table, entries: Sequence[PaperEntry]) -> PaperGrid:
    """Lay out the entries of a table."""
    sources = dict.fromkeys(e.published.source for e in entries if e.published)
    others = [source for source in sources if source != PAPER]
    marks = {
        source: _MARKS[k] if k < len(_MARKS) else f"\u2021{k}" for k, source in enumerate(others)
    }
    places = [_place(table, entry, marks) for entry in entries]
    columns = _columns(column for _, column in places)
    warnings, numbers = _warnings(entries)
    standing = _standings(entries, [column for _, column in places], table)
    rows: dict[tuple[str, str], list[GridCell | None]] = {}
    for k, (entry, (row, column)) in enumerate(zip(entries, places, strict=True)):
        cells = rows.setdefault(row, [None] * len(columns))
        cells[columns.index(column)] = GridCell(
            entry, standing[k], numbers[k], row[1] or (_PAPER_MARK if entry.published else "")
        )
    return PaperGrid(
        title=TITLES[table],
        digits=3 if table in {3, 4} else 2,
        rows_are="judge" if table == 7 else "method",
        columns=tuple(columns),
        rows=tuple(GridRow(name, mark, tuple(cells)) for (name, mark), cells in rows.items()),
        warnings=tuple(warnings),
        foot=(*_legend(table, entries, marks), *_made(entries)),
    )


def _place(
    table: Table, entry: PaperEntry, marks: Mapping[str, str]
) -> tuple[tuple[str, str], GridColumn]:
    """Return the row of an entry, its name and mark, and its column."""
    mark = marks.get(entry.published.source, "") if entry.published else ""
    if table == 7:
        return (entry.model, mark), GridColumn(entry.dataset, entry.method)
    if table == "results":
        of_paper = entry.measured is None and not mark and entry.published is not None
        name = entry.method if of_paper else f"{entry.model} {entry.method}"
        return (name, mark), GridColumn("", entry.dataset)
    return (entry.method, mark), GridColumn(entry.model, entry.dataset)


def _columns(found: Iterable[GridColumn]) -> list[GridColumn]:
    """Return every column once, those of a group side by side."""
    groups: dict[str, dict[GridColumn, None]] = {}
    for column in found:
        groups.setdefault(column.group, {})[column] = None
    return [column for group in groups.values() for column in group]


def _standings(
    entries: Sequence[PaperEntry], columns: Sequence[GridColumn], table: Table
) -> list[Standing]:
    """Return which numbers are the best of their columns, and which not told apart from it."""
    way_up = sign(METRICS[table][0])
    made: list[Standing] = [""] * len(entries)
    for column in dict.fromkeys(columns):
        own = {
            k: way_up * level
            for k, entry in enumerate(entries)
            if columns[k] == column and (level := entry.level) is not None
        }
        if len(own) < 2:
            continue
        best = max(own, key=lambda k: own[k])
        for k, level in own.items():
            shared = set(entries[k].letters) & set(entries[best].letters)
            made[k] = "best" if level == own[best] else "tied" if shared else ""
    return made


def _warnings(entries: Sequence[PaperEntry]) -> tuple[list[str], list[tuple[int, ...]]]:
    """Return each warning once, with what it holds for, and the numbers of them by entry."""
    held: dict[str, list[tuple[PaperEntry, str]]] = {}
    for entry in entries:
        for what, each in entry.warned:
            held.setdefault(what, []).append((entry, each))
    numbers = {what: number for number, what in enumerate(held, start=1)}
    told = [f"{what}: {_holds_for(of)}" for what, of in held.items()]
    return told, [tuple(sorted(numbers[what] for what, _ in entry.warned)) for entry in entries]


def _holds_for(held: Sequence[tuple[PaperEntry, str]]) -> str:
    same = {each for _, each in held}
    if len(held) > _NAMED:
        each = f", {'; '.join(sorted(same - {''}))}" if 0 < len(same - {""}) <= _NAMED else ""
        return f"{len(held)} numbers{each}"
    return "; ".join(
        f"{entry.model} {entry.method} on {entry.dataset}{f' ({each})' if each else ''}"
        for entry, each in held
    )


def _legend(table: Table, entries: Sequence[PaperEntry], marks: Mapping[str, str]) -> list[str]:
    """Return what the marks mean, as far as they stand in the table."""
    measured = [entry for entry in entries if entry.measured is not None]
    sizes = ", ".join(f"{name} {SIZES[name]}" for name in DATASETS[table] if name in SIZES)
    of = "" if table == 7 else f", on {sizes} items; (standard deviation) over three seeds"
    lines = [f"{_PAPER_MARK} published, {PAPER}: other runs and judge calls{of}"]
    lines += [f"{mark} published, {source}" for source, mark in marks.items()]
    if table in {3, 4}:
        lines.append("it is not known which numbers are not told apart: single items have no value")
    if table in {1, 2}:
        lines.append(
            f"{_PAPER_MARK} MIPO is the best of several kinds of negatives, chosen on these items"
        )
    if table == "results":
        models = "; ".join(f"{n.dataset} {n.model or 'not said'}" for n in published(table))
        lines.append(f"{_PAPER_MARK} is of several models: {models}")
    if not measured:
        return [*lines, "the store has nothing for this table yet"]
    lines.append(
        "measured here: mean (standard deviation over seeds); below it the published number, "
        "and the difference"
    )
    if any(entry.letters for entry in measured):
        lines.append(
            "numbers on a data set that share a letter are not told apart (5 % over all pairs)"
        )
    lines += [
        f"{entry.model} {entry.method} on {entry.dataset}: {entry.best_of}"
        for entry in measured
        if entry.best_of
    ]
    return lines


def _made(entries: Sequence[PaperEntry]) -> list[str]:
    """Return a line per way in which the numbers of a data set were made."""
    ways: dict[tuple[str, str], list[PaperEntry]] = {}
    for entry in entries:
        if entry.signature is not None:
            ways.setdefault((entry.dataset, entry.signature), []).append(entry)
    lines = []
    for (dataset, signature), own in ways.items():
        judge = f", judged by {own[0].judge}" if own[0].judge else ""
        ties = [entry.tie_rate for entry in own if entry.tie_rate is not None]
        rates = f", ties {_span(ties, '.1f')} %" if ties else ""
        counts = _span([entry.n for entry in own if entry.n is not None], "d") or "not known"
        seeds = _span([entry.seeds for entry in own if entry.seeds is not None], "d")
        lines.append(f"{dataset}: n {counts}, seeds {seeds}{judge}{rates}; {signature}")
    return lines


def _span(values: Sequence[float], form: str) -> str:
    """Return the one value of several, or the least and the greatest."""
    if not values:
        return ""
    ends = [f"{end:{form}}" for end in (min(values), max(values))]
    return "-".join(dict.fromkeys(ends))
