"""Tables of numbers on a page: links to what is behind them, number formats, a download."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from mipo_eval.dashboards import markup
from mipo_eval.dashboards.forest import ForestRow, Scale, forest
from mipo_eval.dashboards.frame import Board, choose_first, download, noted
from mipo_eval.dashboards.links import TASK, address, run_name
from mipo_eval.dashboards.markup import count
from mipo_eval.dashboards.tables.scores import of_same
from mipo_eval.reports.labels import metric_title
from mipo_eval.store.runs import list_runs

_LINKS = ("items", "run")
"""Columns with links: to responses and verdicts, and to how a run was made."""
_METRIC_WIDTH = 190
_TASKS = 6
"""Pictures drawn unless the reader chooses others."""
_HEADS = {"low": "95 % from", "high": "95 % to"}
_ADDRESSED = ("run_id", "position", "behind")
"""Columns that become links."""


def asked_for(table: pd.DataFrame, key: str, by: str = "model") -> pd.DataFrame:
    """Return a table without the published rows of others, unless the reader asks for them.

    Args:
        table: numbers with their `source`.
        key: of the switch.
        by: column that names what measured and published rows must share.
    """
    own = of_same(table, by)
    hidden = len(table) - len(own)
    if not hidden:
        return table
    what = f"Also show {count(hidden, 'published number')} of other {by}s"
    wanted = st.toggle(what, key=key, bind="query-params")
    return table if noted(key, wanted) else own


def of_tasks(table: pd.DataFrame, tasks: Sequence[str], key: str) -> pd.DataFrame:
    """Return the numbers of the tasks that the reader chooses; before that, of the first few."""
    return table[table["task"].isin(choose_first("Tasks", tasks, key, _TASKS))]


def picture(rows: Sequence[ForestRow], scale: Scale, about: str) -> None:
    """Draw numbers as dots, and say what the dots of seeds are where there are any."""
    st.html(forest(rows, scale, about))
    if any(row.dots for row in rows):
        st.html(markup.line("Green dots: single seeds. The other dot: their mean."))


def numbers(
    board: Board,
    table: pd.DataFrame,
    name: str,
    *,
    formats: Mapping[str, str] | None = None,
    left_out: Sequence[str] = (),
    titles: Mapping[str, str] | None = None,
) -> None:
    """Show a table, the items behind each line a click away, and offer it as CSV.

    Args:
        board: the store.
        table: a line a number. Where there is a column `run_id`, its items and the run are linked;
            with a column `position` that very item; a column `behind` has addresses of its own.
        name: of the file, and of the parts of the page.
        formats: column to a printf format; others are shown as they are.
        left_out: columns that only the file has.
        titles: column to its head, where that is another.
    """
    heads = _HEADS | dict(titles or {})
    empty = [name for name in table if len(table) and table[name].map(_plain).isna().all()]
    shown = table.drop(columns={*empty, *(name for name in left_out if name in table)})
    counts = [str(column) for column in shown.select_dtypes("integer")]
    shapes = dict.fromkeys(counts, "localized") | dict(formats or {})
    settings: dict[str, Any] = {
        column: st.column_config.NumberColumn(_title(column, heads), format=shape)
        for column, shape in shapes.items()
        if column in shown
    }
    links = _links(board, shown)
    shown = shown.drop(columns=[column for column in _ADDRESSED if column in shown])
    if "metric" in shown:
        shown["metric"] = shown["metric"].map(metric_title, na_action="ignore")
    for column in map(str, shown.select_dtypes(include=["object", "string"])):
        shown[column] = shown[column].map(_plain)
        width = _METRIC_WIDTH if column == "metric" else None
        settings.setdefault(column, st.column_config.Column(_title(column, heads), width=width))
    for place, (column, targets) in enumerate(links.items(), 1):  # in sight on a telephone too
        shown.insert(place, column, pd.Series(targets, index=shown.index, dtype="object"))
        settings[column] = st.column_config.LinkColumn(display_text=f"see {column}", width=80)
    st.dataframe(
        shown, hide_index=True, column_config=settings, key=f"table-{name}", placeholder="\u2013"
    )
    download(table.drop(columns="behind", errors="ignore"), name, key=f"download-{name}")


def _links(board: Board, shown: pd.DataFrame) -> dict[str, list[str | None]]:
    """Return the columns of links that a table has, each with an address or None a line."""
    items, run = _LINKS
    if "behind" in shown:
        return {items: [one if isinstance(one, str) else None for one in shown["behind"]]}
    if "run_id" not in shown:
        return {}
    names = {one.run_id: run_name(one) for one in board.recall(list_runs)}
    known = [names.get(key) for key in shown["run_id"]]
    lines = shown.reindex(columns=["task", "position"]).to_dict("records")
    found: dict[str, list[str | None]] = {
        items: [
            _items(name, line) if name else None for name, line in zip(known, lines, strict=True)
        ]
    }
    if "position" not in shown:
        found[run] = [address("run", run=name) if name else None for name in known]
    return found


def _items(run: str, line: Mapping[Any, Any]) -> str:
    """Return the address of a run's items: of one, of one task, or of all."""
    if pd.notna(line["position"]):
        return address("pairs", a=run, item=int(line["position"]))
    return address("pairs", a=run, **{TASK: line["task"] if pd.notna(line["task"]) else None})


def _title(column: str, heads: Mapping[str, str]) -> str:
    return heads.get(column, column.replace("_", " "))


def _plain(value: Any) -> Any:
    """Return a text inert; an empty one is absent, and shown as all that is."""
    return (markup.label(value) or None) if isinstance(value, str) else value
