"""Whether a judge can be believed (the paper's Table 7), and what it costs."""

import pandas as pd
import streamlit as st

from mipo_eval.dashboards import frame, markup
from mipo_eval.dashboards.frame import numbers
from mipo_eval.dashboards.plots import interval_plot, rating_by_length_plot, rating_plot
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
    st.subheader("Against human labels")
    table = board.recall(accuracy_table)
    table = table[table["judge"].isin(wanted) | (table["source"] == "paper")]
    if not len(table[table["source"] == "measured"]):
        st.info(
            "No judge was validated here yet: run `mipo-eval validate JUDGE --data NAME`.",
            icon=":material/inbox:",
        )
    data = frame.choose("Labelled pairs", list(dict.fromkeys(table["data"])), "labels")
    own = table[table["data"] == data]
    shown = own.assign(row=own["judge"])
    st.altair_chart(interval_plot(shown, axis="accuracy (%)", colour="accuracy"))
    st.caption(
        "Strict: the labelled response is rated higher; tie-tolerant: at least as high. A judge "
        "that always ties has 0 and 100. Filled: measured here, with 95 % intervals; hollow: "
        "Table 7 of the paper."
    )
    found = _of(board.recall(validation_table), wanted)
    if len(found):
        rates = {name: "%.1f" for name in found.columns if name.endswith((")", "kappa"))}
        numbers(board, found, "validations", formats=rates | {"kappa": "%.2f"})


def _ratings(board: frame.Board, wanted: list[str]) -> None:
    table = _of(board.recall(rating_table), wanted)
    if table.empty:
        return
    st.subheader("How ratings are used")
    left, right = st.columns(2)
    with left:
        st.markdown("**Ratings**")
        st.altair_chart(rating_plot(table))
    lengths = _of(board.recall(length_table), wanted)
    with right:
        st.markdown("**Ratings by length**")
        if len(lengths):
            st.altair_chart(rating_by_length_plot(lengths))
    st.caption(
        "Left: all verdicts with a rating. Right: responses in groups of equal size by length, "
        "95 % intervals; longer responses may be better ones, so a slope alone is no bias."
    )
    table = table.assign(behind=table["judge_key"].map(board.recall(of_ratings)))
    numbers(board, table, "ratings", formats={"share": "%.3f"}, left_out=("judge_key",))


def _places(board: frame.Board, wanted: list[str]) -> None:
    table = _of(board.recall(place_table), wanted)
    if table.empty:
        return
    st.subheader("Places")
    table = table.assign(behind=table["judge_key"].map(board.recall(of_choices)))
    numbers(board, table, "places", formats=_RATES, left_out=("judge_key",))
    st.caption(
        "first: of the choices between a response shown first and one shown second, how many named "
        "the first (%; 50 is no bias). same, flipped: of the pairs read in both orders (%)."
    )


def _hostile(board: frame.Board, wanted: list[str]) -> None:
    attacks = _of(board.recall(attack_table), wanted)
    controls = _of(board.report(control_table), wanted)
    st.subheader("Attacks and controls")
    if attacks.empty and controls.empty:
        st.info(
            "Nothing hostile was tried yet: run `mipo-eval validate JUDGE --attack`, or evaluate "
            "with `--controls`.",
            icon=":material/inbox:",
        )
        return
    if len(attacks):
        st.altair_chart(
            interval_plot(attacks, axis="hostile text wins, a tie is half (%)", colour="judge")
        )
        numbers(board, attacks, "attacks", formats=_RATES, left_out=("judge_key", "row", "source"))
    for metric, own in controls.groupby("metric", sort=False) if len(controls) else ():
        rows = own.assign(row=own["entrant"] + " · " + own["row"])
        st.altair_chart(interval_plot(rows, axis=metric_title(str(metric)), colour="entrant"))
    if len(controls):
        st.caption(
            "Entrants that must do worse than the model: another user's response, an answer for "
            "everybody, the user's own words. The reference always ties with itself."
        )
        numbers(board, controls, "controls", formats=_RATES, left_out=("source",))


def _expenses(board: frame.Board) -> None:
    table = board.recall(expense_table)
    if table.empty:
        return
    st.subheader("Cost and latency")
    numbers(board, table, "expenses", formats=_SECONDS)
    st.caption(
        "Every call of the ledger, by who was asked. Dollars by the dated price table, as if "
        "every call had been sent by itself."
    )
