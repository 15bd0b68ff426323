"""Multiple choice and math (the paper's Table 2, Figures 4 and 5)."""

from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from mipo_eval.dashboards import frame, markup
from mipo_eval.dashboards.forest import Scale
from mipo_eval.dashboards.links import run_name
from mipo_eval.dashboards.pages.numbers import asked_for, numbers, of_tasks, picture
from mipo_eval.dashboards.plots import ENTROPY_AXIS, calibration_plot, entropy_plot
from mipo_eval.dashboards.tables.answers import (
    accuracy_table,
    calibration_table,
    entropy_counts,
    entropy_table,
    question_table,
    runs_by_likelihood,
)
from mipo_eval.dashboards.tables.forest import number_rows
from mipo_eval.evaluation.outcomes import ENDS
from mipo_eval.records import Run
from mipo_eval.reports.names import run_titles, trained_rules
from mipo_eval.store.trainings import list_trainings

_RUN_SUITE = "run `mipo-eval --model CKPT --suite math` or `--suite mcq_letters`"
_ACCURACY = dict.fromkeys(("value", "low", "high"), "%.1f")
_ENTROPY = dict.fromkeys(("value", "low", "high", "confidence", "accuracy"), "%.3f")
_HIDDEN = ("row", "suite", "metric", "signature")
_RUNS = 4
"""Runs whose questions are read unless others are chosen."""


def show() -> None:
    """Draw the page."""
    board = frame.begin("Choice and math", "Answers that can be checked, and how sure models are.")
    accuracy = board.report(accuracy_table)
    entropy = board.report(entropy_table)
    if not len(accuracy[accuracy["source"] == "measured"]) and entropy.empty:
        frame.nothing_yet(_RUN_SUITE)
    st.header("Accuracy")
    accuracy = asked_for(accuracy, "all-published")
    _by_task(accuracy, "accuracy (%)", "answers-to")
    st.caption(
        "Filled dots: measured here, with 95 % intervals. Hollow dots: Table 2 of the paper, with "
        "the standard deviation over seeds. A response without a readable answer counts as wrong."
    )
    with frame.folded():
        numbers(board, accuracy, "accuracy", formats=_ACCURACY, left_out=_HIDDEN)
    _entropies(board, entropy)
    _questions(board)
    frame.share("answers")


def _by_task(table: pd.DataFrame, axis: str, key: str) -> None:
    tasks = list(dict.fromkeys(table["task"]))
    for task, own in of_tasks(table, tasks, key).groupby("task", sort=False):
        st.html(markup.line(str(task)))
        scale = Scale(title=axis, places=1, ends=ENDS["accuracy"])
        picture(number_rows(own), scale, f"{axis} on {task}")


def _entropies(board: frame.Board, table: pd.DataFrame) -> None:
    st.header("Answer entropy")
    if table.empty:
        st.info(
            "No run has probabilities of the options yet: run "
            "`mipo-eval --model CKPT --suite mcq_letters`.",
            icon=":material/inbox:",
        )
        return
    for task, own in table.groupby("task", sort=False):
        st.html(markup.line(str(task)))
        scale = Scale(title=ENTROPY_AXIS, places=3, line=0.0)
        picture(number_rows(own, "questions"), scale, f"{ENTROPY_AXIS} on {task}")
    st.caption(
        "0: the model is sure of one option. 1.386 (ln 4): it cannot decide between four options "
        "(the paper's Figures 4 and 5)."
    )
    with frame.folded():
        numbers(board, table, "entropy", formats=_ENTROPY, left_out=_HIDDEN)


def _questions(board: frame.Board) -> None:
    runs = board.report(runs_by_likelihood)
    if not runs:
        return
    st.header("Question by question")
    chosen = frame.choose_first("Runs", runs, "by-likelihood", _RUNS, show=run_name)
    labels = run_titles(chosen, trained_rules(board.recall(list_trainings)))
    parts = [(labels[run.run_id], run.run_id, board.recall(question_table, run)) for run in chosen]
    calibration = _labelled(parts, calibration_table)
    st.subheader("Calibration")
    frame.chart(calibration_plot(calibration), _calibrated(calibration))
    st.caption(
        "Each dot stands for questions of similar confidence; a larger dot for more of them. On "
        "the dashed line a model is right as often as it is sure. Bars: 95 % intervals (Wilson)."
    )
    st.subheader("Spread of the answer entropy")
    counts = _labelled(parts, entropy_counts)
    plot = entropy_plot(counts)
    frame.chart(plot, _spread_out(counts))
    with frame.folded("Calibration as a table"):
        numbers(board, calibration, "calibration", formats=_ENTROPY)
    run = frame.choose("Questions of", chosen, "questions", show=run_name)
    _one_run(board, run)


def _calibrated(calibration: pd.DataFrame) -> str:
    """Return how sure and how right each run is, for those who do not see the plot."""
    told = []
    for row, own in calibration.groupby("row", sort=False):
        sure, right = (
            (own[name] * own["questions"]).sum() / own["questions"].sum()
            for name in ("confidence", "accuracy")
        )
        told.append(f"{row}: mean confidence {sure:.2f}, accuracy {right:.2f}")
    return "; ".join(told)


def _spread_out(counts: pd.DataFrame) -> str:
    """Return the mean entropy of right and of wrong answers, for those who do not see the plot."""
    told = []
    for (row, answer), own in counts.groupby(["row", "answer"], sort=False):
        mean = (own["entropy"] * own["questions"]).sum() / own["questions"].sum()
        told.append(f"{row}, {answer} answers: mean entropy {mean:.2f}")
    return "; ".join(told)


def _one_run(board: frame.Board, run: Run) -> None:
    table = board.recall(question_table, run).sort_values("entropy", ascending=False)
    shown = table.drop(columns="item_key")
    numbers(board, shown, "questions", formats={"confidence": "%.3f", "entropy": "%.3f"})


def _labelled(
    parts: Sequence[tuple[str, str, pd.DataFrame]], make: Callable[[pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    made = [make(table).assign(row=label, run_id=run_id) for label, run_id, table in parts]
    return pd.concat(made, ignore_index=True)
