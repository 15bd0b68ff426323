"""The leaderboard as tables: one line a number for the download, one line a method for the eye."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mipo_eval.dashboards import looks
from mipo_eval.dashboards.inert import label
from mipo_eval.dashboards.links import address, run_name
from mipo_eval.dashboards.methods import Method, Standing
from mipo_eval.dashboards.scored import MEASURED, PAPER
from mipo_eval.metrics.aggregate import direction
from mipo_eval.reports.labels import decimals
from mipo_eval.reports.leaderboard import Cell
from mipo_eval.reports.paper import published_rows
from mipo_eval.signature import Signature
from mipo_eval.stats import Comparison

FROM_PAPER = 1_000_000
"""Place of the first published row."""

COLUMNS = {
    "interval": "95 %",
    "delta": "\u0394",
    "p": "p",
    "detectable": "detectable",
    "ties": "ties %",
    "n": "n",
    "unscored": "unscored",
    "seeds": "\u00b1 seeds",
    "rank": "rank",
    "group": "group",
    "date": "made",
}
"""What can stand beside each value, to what its column is called."""
SHOWN = ("interval", "delta", "ties", "n", "group")
"""Columns shown unless the reader chooses others."""

_CHOSEN = " *"
"""Marks a number that is the best of several, chosen on the items it is over."""

Comparisons = Mapping[tuple[int, str], Comparison]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wide:
    """One row per method, indexed by its place among all; paper rows from `FROM_PAPER` on."""

    table: pd.DataFrame
    values: tuple[str, ...]
    """The columns that hold the metric's values."""
    apart: Mapping[str, str]
    """Value column to the signature parts in which it differs from its data set's first."""


def numbers(found: Standing, methods: Sequence[Method], comparisons: Comparisons) -> pd.DataFrame:
    """Return one row per method and data set with everything that is known of the number.

    Args:
        found: the leaderboard.
        methods: the rows to show.
        comparisons: with a baseline, by place among all methods and task.
    """
    place = {id(method): index for index, method in enumerate(found.methods)}
    rows = [
        {"row": place[id(method)]}
        | _number(method, task, cell, comparisons.get((place[id(method)], task)))
        for method in methods
        for task, cell in method.row.cells.items()
    ]
    return pd.DataFrame(rows, columns=list(_FIELDS)).assign(metric=found.section.metric)


_FIELDS = (
    "row",
    "model",
    "method",
    "variant",
    "source",
    "task",
    "value",
    "ci_low",
    "ci_high",
    "std_seeds",
    "seeds",
    "n",
    "unscored",
    "tie_rate",
    "rank",
    "group",
    "best_of",
    "difference",
    "difference_low",
    "difference_high",
    "p_adjusted",
    "detectable",
    "made",
    "signature",
    "runs",
)


def _number(method: Method, task: str, cell: Cell, comparison: Comparison | None) -> dict[str, Any]:
    runs = method.runs.get(task, ())
    row: dict[str, Any] = {
        "model": label(method.row.name.model),
        "method": label(method.row.name.method),
        "variant": label(method.row.name.variant or ""),
        "source": MEASURED,
        "task": label(task),
        "value": cell.value,
        "ci_low": cell.ci95[0] if cell.ci95 else None,
        "ci_high": cell.ci95[1] if cell.ci95 else None,
        "std_seeds": cell.std,
        "seeds": cell.seeds,
        "n": cell.n,
        "unscored": cell.unscored,
        "tie_rate": cell.tie_rate,
        "rank": cell.rank,
        "group": cell.letters,
        "best_of": label(cell.best_of_text or ""),
        "made": max((run.created_at for run in runs), default=None),
        "signature": method.signatures.get(task),
        "runs": " ".join(run.run_id[:12] for run in runs),
    }
    if comparison is not None:
        p = comparison.p_permutation if comparison.p_adjusted is None else comparison.p_adjusted
        low, high = comparison.ci95 or (None, None)
        row |= {
            "difference": comparison.difference,
            "difference_low": low,
            "difference_high": high,
            "p_adjusted": p,
            "detectable": comparison.detectable,
        }
    return row


def paper_numbers(found: Standing, models: Sequence[str] = ()) -> pd.DataFrame:
    """Return the paper's numbers of this metric and these data sets; none for another metric.

    Args:
        found: the leaderboard.
        models: only these base models; all of them without.
    """
    rows = [
        {
            "row": FROM_PAPER + index,
            "model": model,
            "method": method,
            "variant": "",
            "source": PAPER,
            "task": task,
            "value": number.value,
            "std_seeds": number.std,
        }
        for index, (model, method, cells) in enumerate(published_rows(found.section))
        if not models or model in models
        for task, number in cells.items()
    ]
    return pd.DataFrame(rows, columns=list(_FIELDS)).assign(metric=found.section.metric)


def wide(
    table: pd.DataFrame, tasks: Sequence[str], shown: Sequence[str], known: Iterable[Signature]
) -> Wide:
    """Return one row per method, with a group of columns per data set.

    Numbers of one data set that were made differently get columns of their own, so that no two
    signatures share one.

    Args:
        table: of `numbers`, with `paper_numbers` after it.
        tasks: data sets in order.
        shown: which of `COLUMNS`, in this order.
        known: signatures of the numbers.
    """
    names, apart = _column_names(table, tasks, {str(signature): signature for signature in known})
    values = list(dict.fromkeys([*tasks, *names.values()]))
    lone = len(values) == 1
    lines: dict[int, dict[str, Any]] = {}
    for row in table.to_dict("records"):
        line = lines.setdefault(
            row["row"], {"model": row["model"], "method": _method(row), "source": row["source"]}
        )
        name = names.get((row["task"], row["signature"]), row["task"])
        line[name] = row["value"]
        line |= {_beside_name(name, part, lone=lone): _beside(row, part) for part in shown}
    columns = ["method", "model", "source"]
    for name in values:
        columns += [name, *(_beside_name(name, part, lone=lone) for part in shown)]
    made = pd.DataFrame(list(lines.values()), index=list(lines), columns=columns)
    kept = [name for name in columns if name == "method" or _told(made[name])]
    told = tuple(name for name in values if name in kept)
    return Wide(table=made[kept], values=told, apart=apart)


def _beside_name(name: str, part: str, *, lone: bool) -> str:
    return COLUMNS[part] if lone else f"{name} \u00b7 {COLUMNS[part]}"


def part_of(column: str) -> str:
    """Return which of `COLUMNS` a column is, by its title."""
    return column.rpartition(" \u00b7 ")[2]


def _told(column: "pd.Series[Any]") -> bool:
    """Return whether a column says anything: it is not empty, nor the same word everywhere."""
    if column.name in {"model", "source"}:
        return column.nunique() > 1
    return bool((column.notna() & (column != "")).any())


def _method(row: Mapping[Any, Any]) -> str:
    variant = f" ({row['variant']})" if row["variant"] else ""
    return f"{row['method']}{variant}{_CHOSEN if _best_of(row) else ''}"


def _best_of(row: Mapping[Any, Any]) -> str:
    told = row["best_of"]
    return told if isinstance(told, str) else ""


def _beside(row: Mapping[Any, Any], part: str) -> Any:
    """Return what stands beside a value, as text where it is more than a number."""
    places = decimals(row["metric"])
    if part == "interval":
        ends = (row["ci_low"], row["ci_high"])
        return "" if pd.isna(ends[0]) else looks.interval(ends, places)
    field = {
        "delta": "difference",
        "p": "p_adjusted",
        "ties": "tie_rate",
        "seeds": "std_seeds",
        "date": "made",
    }.get(part, part)
    return row[field]


def _column_names(
    table: pd.DataFrame, tasks: Sequence[str], made: Mapping[str, Signature]
) -> tuple[dict[tuple[str, str], str], dict[str, str]]:
    """Return (task, signature) to column, and what is different about columns with a number."""
    names: dict[tuple[str, str], str] = {}
    apart: dict[str, str] = {}
    for task in tasks:
        own = table[(table["task"] == task) & table["signature"].notna()]["signature"]
        for signature, _ in own.value_counts(sort=True).items():
            first = next((s for t, s in names if t == task), None)
            if first is None:
                names[task, str(signature)] = task
                continue
            name = f"{task} [{len(apart) + 1}]"
            names[task, str(signature)] = name
            apart[name] = ", ".join(
                f"{part} {label(str(its))} (not {label(str(others))})"
                for part, (others, its) in made[first].differences(made[str(signature)]).items()
            )
    return names, apart


def ordered(wide: Wide, by: str, *, lower: bool) -> pd.DataFrame:
    """Return the rows of a wide table, best first by one column or by the mean of all values.

    Rows without a value come last.
    """
    table = wide.table
    if by in {"model", "method"} and by in table:
        return table.sort_values(by, kind="stable")
    keys = table[by] if by in wide.values else table[list(wide.values)].mean(axis=1)
    return table.loc[keys.sort_values(ascending=lower, na_position="last", kind="stable").index]


def lower_is_better(metric: str) -> bool:
    """Return whether smaller numbers are the better ones."""
    return direction(metric) == "lower"


def linked(table: pd.DataFrame, methods: Sequence[Method]) -> pd.DataFrame:
    """Return a wide table with a column of links to the items behind each measured row."""
    links = []
    for row in table.index:
        runs = methods[row].all_runs if row < FROM_PAPER else ()
        links.append(address("pairs", a=run_name(runs[0])) if runs else None)
    made = table.copy()
    made.insert(1, "items", pd.Series(links, index=table.index, dtype=object))
    return made


def notes(table: pd.DataFrame, wide: Wide, baseline: str | None) -> list[str]:
    """Return the lines below a table that say what its marks and columns are.

    Args:
        table: all numbers shown, one a line.
        wide: the table shown.
        baseline: the row that others are compared with.
    """
    lines = [f"{name}: made differently, {how}" for name, how in wide.apart.items()]
    lines += [
        f"{_CHOSEN.strip()} {row['model']} {row['method']} on {row['task']}: {_best_of(row)}"
        for row in table.to_dict("records")
        if _best_of(row)
    ]
    shown = {part_of(str(name)) for name in wide.table}
    if COLUMNS["group"] in shown:
        lines.append("group: rows that share a letter are not told apart (paired, 5 %, Holm)")
    if COLUMNS["delta"] in shown and baseline is not None:
        lines.append(
            f"\u0394: paired difference to {baseline}; p by permutation, Holm over a column; "
            "detectable: the smallest difference these items could have shown (5 %, power 80 %)"
        )
    if table["seeds"].gt(1).any():
        lines.append("a value is a mean over seeds, \u00b1 seeds their standard deviation")
    if table["source"].eq(PAPER).any():
        lines.append("paper: published numbers (arXiv 2603.19294), of other runs and judge calls")
    return lines
