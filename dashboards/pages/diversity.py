"""How alike the responses of a model are (the paper's Tables 3 and 4)."""

import streamlit as st

from mipo_eval.dashboards import frame, markup
from mipo_eval.dashboards.forest import ForestRow, Scale
from mipo_eval.dashboards.links import address, run_name
from mipo_eval.dashboards.pages.numbers import asked_for, numbers, of_tasks, picture
from mipo_eval.dashboards.tables.diversity import (
    MEASURES,
    WITHIN,
    change_table,
    diversity_table,
    first_untrained,
    within_table,
)
from mipo_eval.dashboards.tables.forest import number_rows
from mipo_eval.metrics.aggregate import sign
from mipo_eval.store.runs import list_runs

_DIGITS = dict.fromkeys(("value", "low", "high", "before", "after", "difference"), "%.3f")
_HIDDEN = ("row", "suite", "metric", "signature")


def show() -> None:
    """Draw the page."""
    board = frame.begin("Diversity", "How much the responses of a model repeat each other.")
    _suites(board)
    _before_and_after(board)
    frame.share("diversity")


def _suites(board: frame.Board) -> None:
    st.header("Over a suite")
    measure = frame.choose(
        "Measure", list(MEASURES), "measure", default=0, show=lambda name: MEASURES[name]
    )
    table = board.report(diversity_table, measure)
    tasks = list(dict.fromkeys(table["task"]))
    if not tasks:
        st.info("No run of this store has this measure.", icon=":material/inbox:")
        return
    table = asked_for(table, "all-published")
    shown = of_tasks(table, tasks, "texts-of")
    down = -sign(measure)
    for task, own in shown.groupby("task", sort=False):
        rows = sorted(number_rows(own), key=lambda row: down * row.value)
        _picture(rows, MEASURES[measure], str(task))
    st.caption(
        "Filled dots: measured here, with 95 % intervals. Hollow dots: Table 4 of the paper, which "
        "does not say how words were counted (here: tokenizer 13a, smoothing exp; for texts "
        "without spaces see the signature). Every measure depends on the number of texts: to "
        "compare suites, choose a measure of 80 texts."
    )
    with frame.folded():
        numbers(board, shown, "diversity", formats=_DIGITS, left_out=_HIDDEN)


def _picture(rows: list[ForestRow], title: str, task: str) -> None:
    st.html(markup.line(task))
    scale = Scale(title=title, places=3, ends=(0.0, 1.0))
    picture(rows, scale, f"{title} on {task}")


def _before_and_after(board: frame.Board) -> None:
    st.header("Before and after, within prompts")
    runs = board.recall(list_runs)
    left, right = st.columns(2)
    with left:
        before = frame.choose(
            "Before", runs, "before", default=board.recall(first_untrained), show=run_name
        )
    others = [run for run in runs if run.suite == before.suite and run != before]
    if not others:
        st.info("A second run of the same suite is needed.", icon=":material/inbox:")
        return
    with right:
        after = frame.choose("After", others, "after", show=run_name)
    within = board.recall(within_table, (before, after))
    if within.empty:
        st.caption("No two users of this suite asked the same, so there is nothing to compare.")
    for task, own in within.groupby("task", sort=False):
        _picture(number_rows(own), WITHIN, str(task))
    behind = address("pairs", a=run_name(after), b=run_name(before))
    table = board.recall(change_table, before, after).assign(behind=behind)
    numbers(board, table, "diversity-change", formats=_DIGITS)
    st.caption(
        "Within prompts: each response is compared with the responses to other users who asked the "
        "same. A model that ignores its user has 1 here. Differences are taken item by item; the "
        "intervals say how they may be for other prompts and users."
    )
