"""Learning curves, ablations and pair reports (the paper's Figure 2, Tables 5 and 6)."""

from collections.abc import Mapping
from typing import Any

import pandas as pd
import streamlit as st

from mipo_eval.dashboards import frame, markup
from mipo_eval.dashboards.forest import Scale, forest
from mipo_eval.dashboards.pages.numbers import asked_for, numbers, picture
from mipo_eval.dashboards.plots import line_plot
from mipo_eval.dashboards.tables.forest import number_rows
from mipo_eval.dashboards.tables.rounds import rounds_table
from mipo_eval.dashboards.tables.training import (
    ENDS,
    STEP_AXIS,
    axis_title,
    count_table,
    curve_metrics,
    curve_table,
    flat_table,
    negatives_table,
    training_label,
    training_table,
)
from mipo_eval.store.trainings import Training, list_trainings

_CURVES = 12
"""Trainings whose curves are drawn unless others are chosen."""
_DIGITS = {
    "learning rate": "%.2g",
    "ranking accuracy": "%.3f",
    "loss": "%.4f",
    "KL": "%.3f",
    "margin learned": "%.4f",
    "margin saved": "%.4f",
    "tokens a second": "%.0f",
    "minutes": "%.1f",
}
_HEADS = {
    "why": "why it ended",
    "N": "negatives for each",
    "ranking accuracy": "chosen over rejected (0-1)",
    "loss": "loss (nats)",
    "KL": "KL from the base (nats)",
    "margin learned": "margin as trained (nats)",
    "margin saved": "margin as saved (nats)",
}
"""Columns to their heads."""
_PERCENT = dict.fromkeys(("value", "low", "high"), "%.1f")


def show() -> None:
    """Draw the page."""
    board = frame.begin("Training", "What was trained, how it went, and what came out.")
    trainings = board.recall(list_trainings)
    if not trainings:
        st.info(
            "Nothing was trained here yet: run `mipo-eval train mipo-missing --model demo "
            "--suite demo --out CKPT`.",
            icon=":material/inbox:",
        )
    else:
        _curves(board, trainings)
        _all(board, trainings)
        _rounds(board)
        _one(trainings)
    _ablations(board)
    frame.share("training")


def _curves(board: frame.Board, trainings: list[Training]) -> None:
    st.header("Learning curves")
    chosen = frame.choose_first("Trainings", trainings, "curves-of", _CURVES, show=training_label)
    metrics = board.recall(curve_metrics, tuple(one.training_id for one in chosen))
    if not metrics:
        st.info("These trainings have not reported anything yet.", icon=":material/inbox:")
        return
    left, right = st.columns(2)
    with left:
        metric = frame.choose("Metric", metrics, "curve", show=axis_title)
    with right:
        smoothing = st.slider(
            "Smoothing", 0.0, 0.95, 0.6, 0.05, key="smoothing", bind="query-params"
        )
        frame.noted("smoothing", smoothing)
    curves = board.recall(curve_table, tuple(chosen), metric, smoothing)
    axes = (STEP_AXIS, axis_title(metric))
    ends = ENDS.get(metric)
    plot = line_plot(curves, x="step", y="value", axes=axes, colour="training", ends=ends)
    frame.chart(plot, f"{axes[1]}, at the end: {_ends(curves)}")
    st.caption(
        "Dots: values as they were reported. Lines: smoothed values. In the paper's Figure 2 the "
        "share of pairs in which chosen is ranked over rejected stops rising after 6,000 to 7,000 "
        "steps."
    )
    frame.download(curves, "curves", key="download-curves")


def _ends(curves: pd.DataFrame) -> str:
    """Return where each curve ends, for those who do not see the plot."""
    last = curves.sort_values("step").groupby("training", sort=False).tail(1)
    return "; ".join(f"{line.training} {line.smooth:.3g}" for line in last.itertuples())


def _all(board: frame.Board, trainings: list[Training]) -> None:
    st.header("Trainings")
    table = board.recall(training_table, tuple(trainings))
    numbers(board, table, "trainings", formats=_DIGITS, titles=_HEADS)


def _rounds(board: frame.Board) -> None:
    table = board.report(rounds_table)
    if table.empty:
        return
    st.header("Round by round")
    measure = frame.choose("Number", list(dict.fromkeys(table["measure"])), "rounds-of")
    own = table[table["measure"] == measure].sort_values(["rounds", "task", "judge", "round"])
    named = own["task"].fillna("") + " round " + own["round"].astype(str) + " · " + own["rounds"]
    scale = Scale(title=str(measure), places=3)
    st.html(forest(number_rows(own.assign(row=named)), scale, f"{measure} by round"))
    st.caption(
        "Each round starts from the checkpoint of the round before, and learns from its responses. "
        "Round 0 is the base model. Of a curve the last value is shown; scores are of the "
        "checkpoints that were evaluated here."
    )
    numbers(board, own, "rounds", formats=dict.fromkeys(("value", "low", "high"), "%.3f"))


def _one(trainings: list[Training]) -> None:
    st.header("One training")
    chosen = frame.choose("Training", trainings, "training", show=training_label)
    if chosen.reason:
        st.warning(markup.markdown(chosen.reason, 300))
    left, right = st.columns(2)
    with left:
        st.subheader("Pairs")
        if chosen.pair_report is None:
            st.caption("This method learns from no pairs.")
        else:
            _flat(chosen.pair_report)
    with right:
        st.subheader("Recipe")
        _flat(chosen.recipe)


def _flat(report: Mapping[str, Any]) -> None:
    told = flat_table(report).map(lambda value: markup.label(str(value), 200))
    config = {"value": st.column_config.TextColumn("value", width="large")}
    st.dataframe(told, hide_index=True, column_config=config)


def _ablations(board: frame.Board) -> None:
    st.header("Negatives")
    strategies, counts = board.report(negatives_table), board.report(count_table)
    with st.container(key="two"):
        left, right = st.columns(2, gap="large")
    with left:
        st.subheader("How they are made (Table 5)")
        _ablation(strategies, "negatives", strategies["negatives"])
    with right:
        st.subheader("How many for each positive (Table 6)")
        made = counts["negatives"].fillna("").astype(str)
        _ablation(counts, "count", "N = " + counts["count"].astype(str) + " " + made)
    st.caption(
        "Filled dots: checkpoints trained and evaluated in this store. Hollow dots: the paper, "
        "with the standard deviation over seeds. Win rates count a tie as a win."
    )
    with frame.folded("Both as tables"):
        numbers(board, strategies, "negatives", formats=_PERCENT)
        numbers(board, counts, "counts", formats=_PERCENT, titles={"count": "N"})


def _ablation(table: pd.DataFrame, by: str, named: "pd.Series[str]") -> None:
    """Draw one data set's numbers by how, or how many, negatives were made."""
    table = table.assign(row=named)
    tasks = list(dict.fromkeys(table["task"]))
    task = frame.choose("Data set", tasks, f"{by}-task")
    own = asked_for(table[table["task"] == task].sort_values([by, "row"]), f"all-{by}")
    if own.empty:
        st.info("No such checkpoint was trained and evaluated here yet.")
        return
    if own["model"].nunique() > 1:
        own = own.assign(row=own["row"] + " \u00b7 " + own["model"])
    scale = Scale(title="win rate or accuracy (%)", places=1, ends=(0.0, 100.0))
    picture(number_rows(own), scale, f"{by} on {task}")
