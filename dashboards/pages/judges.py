"""Whether a judge can be believed (the paper's Table 7), and what it costs."""

import pandas as pd
import streamlit as st

from mipo_eval.dashboards import frame, markup
from mipo_eval.dashboards.forest import Scale, forest
from mipo_eval.dashboards.pages.numbers import asked_for, numbers
from mipo_eval.dashboards.plots import rating_by_length_plot, rating_plot
from mipo_eval.dashboards.tables.forest import number_rows
from mipo_eval.dashboards.tables.judges import (
    accuracy_table,
    attack_table,
    control_table,
    expense_table,
    length_table,
    of_choices,
    of_ratings,
    place_table,
    rating_table,
    validation_table,
)
from mipo_eval.evaluation.outcomes import ENDS
from mipo_eval.reports.labels import metric_title
from mipo_eval.store.judges import failing_judges, judge_names

_RATES = dict.fromkeys(("value", "low", "high", "first", "same", "flipped"), "%.1f")
_SECONDS = {"seconds_median": "%.2f", "seconds_95": "%.2f", "dollars": "%.4f"}
_PLACES = {
    "first": "first one chosen (%)",
    "unread": "choices not readable",
    "pairs": "asked in both orders",
    "same": "same choice (%)",
    "flipped": "flipped (%)",
}
_EXPENSES = {
    "backend": "service",
    "url": "address",
    "failed": "failed calls",
    "completion_tokens": "reply tokens",
    "dollars": "US dollars",
    "seconds_median": "seconds a call (median)",
    "seconds_95": "95 % took less (seconds)",
}
"""Columns to their heads."""
_SECONDS |= dict.fromkeys(("prompt_tokens", "completion_tokens"), "localized")


def show() -> None:
    """Draw the page."""
    board = frame.begin("Judges", "Whether a judge can be believed, and what it costs.")
    names = board.recall(judge_names)
    _failing(board)
    chosen = frame.choose_some("Judges", list(dict.fromkeys(names.values())), "of-judges")
    wanted = chosen or list(names.values())
    _validations(board, wanted)
    _ratings(board, wanted)
    _places(board, wanted)
    _hostile(board, wanted)
    _expenses(board)
    frame.share("judges")


def _failing(board: frame.Board) -> None:
    names = board.recall(judge_names)
    for key, lines in board.recall(failing_judges).items():
        name = markup.markdown(names.get(key, key[:8]))
        why = "; ".join(markup.markdown(line, 200) for line in lines)
        st.error(f"Do not believe **{name}**: {why}", icon=":material/report:")


def _of(table: pd.DataFrame, wanted: list[str]) -> pd.DataFrame:
    return table[table["judge"].isin(wanted)] if "judge" in table else table


def _validations(board: frame.Board, wanted: list[str]) -> None:
    st.header("Against human labels")
    table = board.recall(accuracy_table)
    table = table[table["judge"].isin(wanted) | (table["source"] == "paper")]
    if not len(table[table["source"] == "measured"]):
        st.info(
            "No judge was validated here yet: run `mipo-eval validate JUDGE --data NAME`.",
            icon=":material/inbox:",
        )
    data = frame.choose("Labelled pairs", list(dict.fromkeys(table["data"])), "labels")
    own = asked_for(table[table["data"] == data], "all-published", "judge")
    if len(own):
        shown = own.assign(row=own["judge"])
        scale = Scale(title="accuracy (%)", places=1, line=50.0, ends=(0.0, 100.0))
        st.html(forest(number_rows(shown, "accuracy"), scale, "accuracy against human labels"))
        st.caption(
            "How often the judge agrees with people. Strict: it rates the response that people "
            "chose higher. Tie-tolerant: at least as high. A judge that always ties has 0 and 100. "
            "Filled dots: measured here, with 95 % intervals. Hollow dots: Table 7 of the paper."
        )
    found = _of(board.recall(validation_table), wanted)
    if len(found):
        rates = {name: "%.1f" for name in found.columns if name.endswith((")", "kappa"))}
        with frame.folded():
            numbers(board, found, "validations", formats=rates | {"kappa": "%.2f"})


def _ratings(board: frame.Board, wanted: list[str]) -> None:
    table = _of(board.recall(rating_table), wanted)
    if table.empty:
        return
    st.header("How ratings are used")
    left, right = st.columns(2)
    with left:
        st.subheader("Ratings")
        frame.chart(rating_plot(table), _most(table))
    lengths = _of(board.recall(length_table), wanted)
    with right:
        st.subheader("Ratings by length")
        if len(lengths):
            frame.chart(rating_by_length_plot(lengths), _by_length(lengths))
    st.caption(
        "Left: how often each rating is given. Right: responses in groups of equal size by length, "
        "with 95 % intervals. Longer responses may also be better, so a rise alone does not show "
        "that the judge prefers length."
    )
    table = table.assign(behind=table["judge_key"].map(board.recall(of_ratings)))
    with frame.folded():
        numbers(board, table, "ratings", formats={"share": "%.3f"}, left_out=("judge_key",))


def _most(table: pd.DataFrame) -> str:
    """Return which rating each judge gives most, for those who do not see the plot."""
    most = table.dropna(subset="rating").sort_values("share").groupby("judge").tail(1)
    told = [f"{line.judge}: {line.rating:.0f} ({line.share:.0%})" for line in most.itertuples()]
    return f"the rating that a judge gives most: {'; '.join(told)}"


def _by_length(table: pd.DataFrame) -> str:
    """Return how ratings go with length, for those who do not see the plot."""
    told = []
    for judge, own in table.groupby("judge", sort=False):
        short, long = own["rating"].iloc[[0, -1]]
        told.append(f"{judge}: {short:.2f} for the shortest responses, {long:.2f} for the longest")
    return f"mean rating by length of the response. {'; '.join(told)}"


def _places(board: frame.Board, wanted: list[str]) -> None:
    table = _of(board.recall(place_table), wanted)
    if table.empty:
        return
    st.header("Does the order of the two responses matter?")
    table = table.assign(behind=table["judge_key"].map(board.recall(of_choices)))
    numbers(board, table, "places", formats=_RATES, left_out=("judge_key",), titles=_PLACES)
    st.caption(
        "If the order does not matter, the response that is shown first is chosen in 50 of 100. "
        "Flipped: another response is chosen when the two change places."
    )


def _hostile(board: frame.Board, wanted: list[str]) -> None:
    attacks = _of(board.recall(attack_table), wanted)
    controls = _of(board.report(control_table), wanted)
    st.header("Attacks and controls")
    if attacks.empty and controls.empty:
        st.info(
            "No attack was tried yet: run `mipo-eval validate JUDGE --attack`, or evaluate "
            "with `--controls`.",
            icon=":material/inbox:",
        )
        return
    if len(attacks):
        title = "the attack wins, a tie is half (%)"
        scale = Scale(title=title, places=1, line=50.0, ends=(0.0, 100.0))
        st.html(forest(number_rows(attacks), scale, title))
        with frame.folded("Attacks as a table"):
            left_out = ("judge_key", "row", "source")
            numbers(board, attacks, "attacks", formats=_RATES, left_out=left_out)
    for metric, own in controls.groupby("metric", sort=False) if len(controls) else ():
        rows = own.assign(row=own["entrant"] + " · " + own["row"])
        scale = Scale(title=metric_title(str(metric)), places=1, ends=ENDS.get(str(metric)))
        st.html(forest(number_rows(rows), scale, f"control entrants: {scale.title}"))
    if len(controls):
        st.caption(
            "Controls are answers that must do worse than the model: another user's response, one "
            "answer for everybody, the user's own words. The reference always ties with itself."
        )
        with frame.folded("Controls as a table"):
            numbers(board, controls, "controls", formats=_RATES, left_out=("source",))


def _expenses(board: frame.Board) -> None:
    table = board.recall(expense_table)
    if table.empty:
        return
    st.header("Cost and time")
    numbers(board, table, "expenses", formats=_SECONDS, titles=_EXPENSES)
    st.caption(
        "All stored calls, by the model that was asked. Dollars come from the price table (which "
        "has a date), at the price of single calls."
    )
