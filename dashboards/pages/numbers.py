"""Tables of numbers on a page: links to the runs behind them, number formats, a download."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from mipo_eval.dashboards import frame, inert
from mipo_eval.dashboards.links import address, run_name
from mipo_eval.dashboards.looks import metric_title
from mipo_eval.store.runs import list_runs

_OPEN = "run"


def numbers(
    board: frame.Board,
    table: pd.DataFrame,
    name: str,
    *,
    formats: Mapping[str, str] | None = None,
    left_out: Sequence[str] = (),
) -> None:
    """Show a table, the run behind each line a click away, and offer it as CSV.

    Args:
        board: the store.
        table: a line a number; where there is a column `run_id`, its run is linked.
        name: of the file, and of the parts of the page.
        formats: column to a printf format; others are shown as they are.
        left_out: columns that only the file has.
    """
    empty = [column for column in table if len(table) and table[column].isna().all()]
    shown = table.drop(columns={*empty, *(name for name in left_out if name in table)})
    settings: dict[str, Any] = {
        column: st.column_config.NumberColumn(format=shape)
        for column, shape in (formats or {}).items()
        if column in shown
    }
    if "run_id" in shown:
        runs = {run.run_id: run_name(run) for run in board.recall(list_runs)}
        links = [address("run", run=runs[key]) if key in runs else None for key in shown["run_id"]]
        shown = shown.drop(columns="run_id")
        shown[_OPEN] = pd.Series(links, index=shown.index, dtype="object")
        settings[_OPEN] = st.column_config.LinkColumn(display_text="open")
    for column in shown.select_dtypes(include=["object", "string"]).columns.difference([_OPEN]):
        shown[column] = shown[column].map(_plain)
    if "metric" in shown:
        shown["metric"] = shown["metric"].map(metric_title, na_action="ignore")
    st.dataframe(
        shown, hide_index=True, column_config=settings, key=f"table-{name}", placeholder="\u2013"
    )
    frame.download(table, name, key=f"download-{name}")


def _plain(value: Any) -> Any:
    return inert.label(value) if isinstance(value, str) else "" if value is None else value
