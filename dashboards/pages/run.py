"""Everything about one run."""

import pandas as pd
import streamlit as st

from mipo_eval.dashboards import frame, markup
from mipo_eval.dashboards.links import TASK, address, run_name
from mipo_eval.dashboards.tables.pairs import called
from mipo_eval.dashboards.tables.run import costs, facts, failures, quoted, score_lines, siblings
from mipo_eval.reports.labels import decimals, metric_title
from mipo_eval.store.runs import list_runs
from mipo_eval.store.tallies import in_flight

_SIBLINGS = 8


def show() -> None:
    """Draw the page."""
    board = frame.begin("Run", "How a run was made, what it cost, and what failed.")
    runs = board.recall(list_runs)
    if not runs:
        frame.nothing_yet("no run has begun")
    with st.container(key="controls"):
        run = frame.choose("Run", runs, "run", show=run_name)
    _head(board, run.run_id)
    _scores(board, run.run_id)
    _failures(board, run.run_id)
    _costs(board, run.run_id)
    _made(board, run.run_id)
    _others(board, run.run_id)
    frame.share("run")


def _head(board: frame.Board, run_id: str) -> None:
    found = board.recall(facts, run_id)
    run = found.run
    st.html(markup.block(run.model, name="model"))
    flying = [f for f in board.recall(in_flight, live=True) if f.run.run_id == run_id]
    cells = {
        "suite": run.suite,
        "prompting": run.prompting or "none",
        "seed": str(run.seed),
        "items": f"{run.n_items:,}",
        "begun (UTC)": f"{run.created_at:%Y-%m-%d %H:%M}",
        "state": "in flight" if flying else "",
    }
    shown = {name: value for name, value in cells.items() if value}
    st.html(markup.facts(shown))
    with st.container(horizontal=True):
        frame.link("pairs", "Responses and verdicts of this run", a=run_name(run))
        frame.link("leaderboard", f"Leaderboard of {run.suite}", suite=run.suite)


def _scores(board: frame.Board, run_id: str) -> None:
    st.header("Numbers")
    flying = any(flight.run.run_id == run_id for flight in board.recall(in_flight, live=True))
    table = board.recall(score_lines, run_id, live=flying)
    if table.empty:
        st.info("No numbers yet: no response of this run is judged.")
        return
    if flying:
        st.info(
            "Still running: these are the numbers so far, and they will change.",
            icon=":material/sync:",
        )
    run = board.recall(facts, run_id).run
    told = {"task": run.suite, "judge": ""}
    alike = [name for name, same in told.items() if {*table[name]} <= {same}]
    shown = table.drop(columns=["signature", "control", *alike]).assign(
        metric=list(map(metric_title, table["metric"], table["control"])),
        value=_rounded(table, "value"),
        ci_low=_rounded(table, "ci_low"),
        ci_high=_rounded(table, "ci_high"),
        items=[address("pairs", a=run_name(run), **{TASK: task}) for task in table["task"]],
    )
    st.dataframe(
        shown,
        hide_index=True,
        placeholder="\u2013",
        height="content",
        column_config={
            "metric": st.column_config.TextColumn("metric", width="medium"),
            "ci_low": st.column_config.NumberColumn("95 % from"),
            "ci_high": st.column_config.NumberColumn("to"),
            "items": st.column_config.LinkColumn("items", display_text="open", width="small"),
        },
    )
    frame.download(table, f"run-{run_id[:8]}", key="csv")
    with st.expander("Signatures", icon=":material/fingerprint:"):
        for signature, own in table.groupby("signature", sort=False):
            names = ", ".join(f"{row.task} {row.metric}" for row in own.itertuples())
            st.html(markup.block(str(signature), name=names))


def _rounded(table: pd.DataFrame, column: str) -> "pd.Series[float]":
    """Return numbers of many metrics with the decimals of each."""
    places = table["metric"].map(decimals)
    told = [round(value, n) for value, n in zip(table[column].astype(float), places, strict=True)]
    return pd.Series(told, index=table.index, dtype=float)


def _failures(board: frame.Board, run_id: str) -> None:
    st.header("Failures")
    found = board.recall(failures, run_id, live=True)
    if found.empty:
        st.html(markup.line("Every item has its response, and every verdict that was asked for."))
        return
    run = board.recall(facts, run_id).run
    st.dataframe(
        found.drop(columns="first").assign(
            open=[frame.address("pairs", a=run_name(run), item=int(n)) for n in found["first"]]
        ),
        hide_index=True,
        placeholder="\u2013",
        height="content",
        column_config={
            "reason": st.column_config.TextColumn("reason", width="large"),
            "open": st.column_config.LinkColumn("first of them", display_text="open"),
        },
    )


def _costs(board: frame.Board, run_id: str) -> None:
    st.header("Cost")
    st.dataframe(
        board.recall(costs, run_id, live=True),
        hide_index=True,
        placeholder="\u2013",
        height="content",
        column_config={
            "calls": st.column_config.NumberColumn("calls", format="localized"),
            "prompt_tokens": st.column_config.NumberColumn("prompt tokens", format="localized"),
            "completion_tokens": st.column_config.NumberColumn("reply tokens", format="localized"),
            "seconds": st.column_config.NumberColumn("seconds, added up", format="%.1f"),
            "dollars": st.column_config.NumberColumn("US dollars", format="%.4f"),
        },
    )


def _made(board: frame.Board, run_id: str) -> None:
    """Show the command that repeats the run, its configuration and environment."""
    found = board.recall(facts, run_id)
    st.header("Repeat it")
    if found.command is None:
        st.html(markup.line(f"No command can repeat this run: {found.why_not}"))
    else:
        st.code(markup.visible(quoted(found.command)), language=None, wrap_lines=True)
        st.html(
            markup.line(f"This does it and compares the numbers: mipo-eval reproduce {run_id[:12]}")
        )
    if found.recorded:
        st.html(markup.block(found.recorded, name="first asked for as"))
    st.header("How it was made")
    st.html(markup.facts(found.environment))
    with st.expander("Configuration", icon=":material/settings:"):
        st.code(markup.visible(found.configuration), language=None, wrap_lines=True)
    for number, spec in enumerate(found.judges):
        with st.expander(f"Judge {number + 1}", icon=":material/gavel:"):
            st.code(markup.visible(spec), language=None, wrap_lines=True)


def _others(board: frame.Board, run_id: str) -> None:
    others = board.recall(siblings, run_id)
    if not others:
        return
    st.header("Runs over the same items")
    run = board.recall(facts, run_id).run
    shown = others[:_SIBLINGS]
    names = board.recall(called, run_id, *(other.run_id for other in shown))
    for other in shown:
        label = f"Against {names[other.run_id]}"
        frame.link("pairs", label, a=run_name(run), b=run_name(other))
