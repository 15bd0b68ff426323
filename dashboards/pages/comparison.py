"""Methods against each other on their common items."""

from dataclasses import replace

import streamlit as st

from mipo_eval.dashboards import frame, markup, plots
from mipo_eval.dashboards.links import TASK, run_name
from mipo_eval.dashboards.pages.leaderboard import TIES, choose_view
from mipo_eval.dashboards.tables import comparison, leaderboard
from mipo_eval.dashboards.tables.leaderboard import Standing, View
from mipo_eval.reports.labels import decimals
from mipo_eval.store.runs import Run

_DISPUTED = 3
"""Runs with a link to the items on which judges differ."""
_SHOWN = 12
"""Rows compared unless the reader chooses others."""


def show() -> None:
    """Draw the page."""
    board = frame.begin("Comparison", "Methods against each other, on the items they share.")
    known = board.report(leaderboard.topics)
    if not known:
        frame.nothing_yet("no run has finished")
    view = choose_view(known)
    found = board.report(leaderboard.standing, view)
    if found is None:
        frame.nothing_yet("no number of this kind: choose another judge or metric")
    task = found.section.tasks[0]
    if len(found.section.tasks) > 1:
        task = frame.choose("Data set", found.section.tasks, "task")
    rows = _chosen(found)
    shown = Standing(section=found.section, methods=tuple(found.methods[n] for n in rows))
    _forest(board, (view, tuple(rows)), shown, task)
    _matrix(board, (view, tuple(rows)), shown, task)
    _judges(board, view, known, task)
    _length(board, (view, tuple(rows)), shown)
    frame.share("comparison")


def _chosen(found: Standing) -> list[int]:
    names = leaderboard.labels(found.methods)
    chosen = frame.choose_some("Methods", names, "methods", default=names[:_SHOWN])
    return [names.index(name) for name in chosen] or list(range(len(names[:_SHOWN])))


def _forest(
    board: frame.Board, about: tuple[View, tuple[int, ...]], found: Standing, task: str
) -> None:
    st.subheader("Paired differences")
    names = leaderboard.labels(found.methods)
    usual = comparison.default_baseline(found.methods) or 0
    name = frame.choose("Difference to", names, "baseline", default=usual)
    baseline = names.index(name)
    judge = about[0].judge
    made = board.report(comparison.against, found, judge, baseline, about=(about, baseline))
    own = {key: pair for key, pair in made.items() if key[1] == task}
    table = comparison.forest_table(found, own, baseline)
    if table.empty:
        st.info(
            "Nothing to pair: no other row was measured alike on the same items, or the number "
            "has no value per item."
        )
        return
    axis = f"difference in {markup.metric_title(found.section.metric)}"
    st.altair_chart(plots.forest_plot(table, axis))
    places = decimals(found.section.metric)
    number = f"%+.{places}f"
    st.dataframe(
        table.drop(columns=["verdict", "task"]),
        hide_index=True,
        placeholder="\u2013",
        height="content",
        column_config={
            "row": st.column_config.TextColumn("method", width="medium", pinned=True),
            "difference": st.column_config.NumberColumn("\u0394", format=number),
            "low": st.column_config.NumberColumn("95 % from", format=number),
            "high": st.column_config.NumberColumn("to", format=number),
            "p": st.column_config.NumberColumn("p (Holm)", format="%.2g"),
            "detectable": st.column_config.NumberColumn("detectable", format=f"%.{places}f"),
            "items": st.column_config.LinkColumn("items", display_text="open"),
        },
    )
    frame.download(table.drop(columns="items"), f"differences-{task}", key="forest-csv")


def _matrix(
    board: frame.Board, about: tuple[View, tuple[int, ...]], found: Standing, task: str
) -> None:
    judge = about[0].judge
    metric = "rating_mean" if judge else found.section.metric
    made = board.report(comparison.outcomes, found, judge, metric, about=(about, metric))
    outcome = made.get(task)
    if outcome is None or len(outcome.rows) < 2:
        return
    st.subheader("Who beats whom")
    lower = leaderboard.lower_is_better(metric)
    table = comparison.duel_table(found, outcome, lower=lower)
    st.html(
        markup.line(
            f"Share of common items on which the row's {markup.metric_title(metric)} is better "
            "than the column's; a tie counts half."
        )
    )
    plot = plots.matrix_plot(
        table, rows="first", columns="second", value="rate", title="row wins (%)", ends=(0, 50, 100)
    )
    st.altair_chart(plot)


def _judges(board: frame.Board, view: View, known: list[leaderboard.Topic], task: str) -> None:
    """Draw every judge's number of every method (Figure 3), and how judges agree."""
    judged = [t for t in known if t.suite == view.suite and t.judge is not None]
    if len(judged) < 2 or view.judge is None:
        return
    standings = {}
    for topic in judged:
        if topic.judge is not None:
            own = board.report(
                leaderboard.standing, replace(view, judge=topic.judge.key, ranked=False)
            )
            if own is not None:
                standings[topic.judge.label] = own
    table = comparison.judge_table(standings, task)
    st.subheader("Judges by method")
    if not table.empty:
        rate = view.metric in TIES
        ends = (0, 50, 100) if rate else (table["value"].min(), table["value"].max())
        title = markup.metric_title(view.metric)
        st.html(markup.line(f"Each judge's {title}, as in the paper's Figure 3."))
        plot = plots.matrix_plot(
            table, rows="row", columns="judge", value="value", title=title, ends=ends
        )
        st.altair_chart(plot)
    methods_of = [method for own in standings.values() for method in own.methods]
    runs = {run.run_id: run for method in methods_of for run in method.runs.get(task, ())}
    _agreement(board, view, list(runs.values()), task)


def _agreement(board: frame.Board, view: View, runs: list[Run], task: str) -> None:
    """Draw how judges agree, and lead to where they do not."""
    agreed = comparison.agreement_table(board.report(comparison.agreements, view.suite))
    if agreed.empty:
        return
    st.subheader("Agreement of judges")
    st.html(
        markup.line(
            "Cohen's kappa of win, tie and loss against the reference, over all runs and items "
            "that both judges decided; 0 is chance."
        )
    )
    plot = plots.matrix_plot(
        agreed.dropna(subset="kappa"),
        rows="first",
        columns="second",
        value="kappa",
        title="kappa",
        ends=(0, 1),
    )
    st.altair_chart(plot)
    with st.container(horizontal=True):
        for run in runs[:_DISPUTED]:
            label = f"Where judges differ on {run_name(run)}"
            frame.link("pairs", label, a=run_name(run), disputed="true", **{TASK: task})


def _length(board: frame.Board, about: tuple[View, tuple[int, ...]], found: Standing) -> None:
    judge = about[0].judge
    lengths = board.report(
        comparison.outcomes, found, None, "response_tokens", about=(about, "tokens")
    )
    made = board.report(comparison.outcomes, found, judge, about=(about, "own"))
    table = comparison.length_table(found, lengths, made)
    if table.empty:
        return
    st.subheader("Length against result")
    st.html(markup.line("A judge that likes length shows as a rise to the right."))
    st.altair_chart(plots.length_plot(table, markup.metric_title(found.section.metric)))
