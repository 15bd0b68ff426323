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
    judge_names,
    length_table,
    of_choices,
    of_ratings,
    place_table,
    rating_table,
    validation_table,
)
from mipo_eval.evaluation.outcomes import ENDS
from mipo_eval.reports.labels import metric_title
from mipo_eval.store.judges import failing_judges

_RATES = dict.fromkeys(("value", "low", "high", "first", "same", "flipped"), "%.1f")
_SECONDS = {"seconds_median": "%.2f", "seconds_95": "%.2f", "dollars": "%.4f"}
_SECONDS |= dict.fromkeys(("prompt_tokens", "completion_tokens"), "localized")


def show() -> None:
    """Draw the page."""
    board = frame.begin("Judges", "Whether a judge can be believed, and what it takes.")
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
        st.error(f"**{name}** must not be believed: {why}", icon=":material/report:")


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
    shown = own.assign(row=own["judge"])
    scale = Scale(title="accuracy (%)", places=1, line=50.0, ends=(0.0, 100.0))
    st.html(forest(number_rows(shown, "accuracy"), scale, "accuracy against human labels"))
    st.caption(
        "Strict: the labelled response is rated higher; tie-tolerant: at least as high. A judge "
        "that always ties has 0 and 100. Filled: measured here, with 95 % intervals; hollow: "
        "Table 7 of the paper."
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
        frame.chart(rating_plot(table), "share of each rating, by judge")
    lengths = _of(board.recall(length_table), wanted)
    with right:
        st.subheader("Ratings by length")
        if len(lengths):
            frame.chart(rating_by_length_plot(lengths), "mean rating by length, a line a judge")
    st.caption(
        "Left: all verdicts with a rating. Right: responses in groups of equal size by length, "
        "95 % intervals; longer responses may be better ones, so a slope alone is no bias."
    )
    table = table.assign(behind=table["judge_key"].map(board.recall(of_ratings)))
    with frame.folded():
        numbers(board, table, "ratings", formats={"share": "%.3f"}, left_out=("judge_key",))


def _places(board: frame.Board, wanted: list[str]) -> None:
    table = _of(board.recall(place_table), wanted)
    if table.empty:
        return
    st.header("Places")
    table = table.assign(behind=table["judge_key"].map(board.recall(of_choices)))
    numbers(board, table, "places", formats=_RATES, left_out=("judge_key",))
    st.caption(
        "first: of the choices between a response shown first and one shown second, how many named "
        "the first (%; 50 is no bias). same, flipped: of the pairs read in both orders (%)."
    )


def _hostile(board: frame.Board, wanted: list[str]) -> None:
    attacks = _of(board.recall(attack_table), wanted)
    controls = _of(board.report(control_table), wanted)
    st.header("Attacks and controls")
    if attacks.empty and controls.empty:
        st.info(
            "Nothing hostile was tried yet: run `mipo-eval validate JUDGE --attack`, or evaluate "
            "with `--controls`.",
            icon=":material/inbox:",
        )
        return
    if len(attacks):
        title = "hostile text wins, a tie is half (%)"
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
            "Entrants that must do worse than the model: another user's response, an answer for "
            "everybody, the user's own words. The reference always ties with itself."
        )
        with frame.folded("Controls as a table"):
            numbers(board, controls, "controls", formats=_RATES, left_out=("source",))


def _expenses(board: frame.Board) -> None:
    table = board.recall(expense_table)
    if table.empty:
        return
    st.header("Cost and latency")
    numbers(board, table, "expenses", formats=_SECONDS)
    st.caption(
        "Every call of the ledger, by who was asked. Dollars by the dated price table, as if "
        "every call had been sent by itself."
    )
