"""How alike the responses of a model are (the paper's Tables 3 and 4)."""

import streamlit as st

from mipo_eval.dashboards import frame, markup
from mipo_eval.dashboards.frame import numbers
from mipo_eval.dashboards.links import address, run_name
from mipo_eval.dashboards.plots import interval_plot
from mipo_eval.dashboards.tables.diversity import (
    MEASURES,
    WITHIN,
    change_table,
    diversity_table,
    first_untrained,
    within_table,
)
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
    st.subheader("Over a suite")
    measure = frame.choose(
        "Measure", list(MEASURES), "measure", default=0, show=lambda name: MEASURES[name]
    )
    table = board.report(diversity_table, measure)
    tasks = list(dict.fromkeys(table["task"]))
    if not tasks:
        st.info("No run of this store has this measure.", icon=":material/inbox:")
        return
    shown = table[table["task"].isin(frame.choose_some("Tasks", tasks, "texts-of") or tasks)]
    for task, own in shown.groupby("task", sort=False):
        st.markdown(f"**{markup.markdown(str(task))}**")
        st.altair_chart(interval_plot(own, axis=MEASURES[measure]))
    st.caption(
        "Filled: measured here, with 95 % intervals. Hollow: Table 4 of the paper, which names "
        "neither tokenizer nor smoothing; here they are 13a and exp (zh, ja-mecab or char, which "
        "signatures name, for texts without spaces). Every measure depends on the number of texts: "
        "between suites compare those of 80 texts."
    )
    numbers(board, shown, "diversity", formats=_DIGITS, left_out=_HIDDEN)


def _before_and_after(board: frame.Board) -> None:
    st.subheader("Before and after, within prompts")
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
        st.caption("No prompt of this suite was asked for two users: nothing within prompts.")
    for task, own in within.groupby("task", sort=False):
        st.markdown(f"**{markup.markdown(str(task))}**")
        st.altair_chart(interval_plot(own, axis=WITHIN, colour="row"))
    behind = address("pairs", a=run_name(after), b=run_name(before))
    table = board.recall(change_table, before, after).assign(behind=behind)
    numbers(board, table, "diversity-change", formats=_DIGITS)
    st.caption(
        "Within prompts: each response against those to other users who asked the same. A model "
        "that ignores its user has 1 here. Differences are paired by item; intervals are about "
        "other prompts and users."
    )
