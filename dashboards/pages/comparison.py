"""Methods against each other on their common items."""

from dataclasses import replace

import streamlit as st

from mipo_eval.dashboards import frame, markup, plots
from mipo_eval.dashboards.links import TASK, run_name
from mipo_eval.dashboards.pages.leaderboard import choose_leaderboard
from mipo_eval.dashboards.tables import comparison, leaderboard, lengths
from mipo_eval.dashboards.tables.leaderboard import TIES
from mipo_eval.records import Run
from mipo_eval.reports.equal_length import can_be_controlled
from mipo_eval.reports.labels import decimals, metric_title
from mipo_eval.reports.leaderboard import LeaderboardQuery, Section

_DISPUTED = 3
"""Runs with a link to the items on which judges differ."""
_SHOWN = 12
"""Rows compared unless the reader chooses others."""


def show() -> None:
    """Draw the page."""
    board = frame.begin("Comparison", "Methods against each other, on the items they share.")
    known, asked, found = choose_leaderboard(board)
    task = found.tasks[0]
    if len(found.tasks) > 1:
        task = frame.choose("Data set", found.tasks, "task")
    names = leaderboard.labels(found.rows)
    usual = names[:_SHOWN]
    baseline = comparison.default_baseline(found.rows)
    if baseline is not None and baseline >= _SHOWN:
        usual[-1] = names[baseline]
    chosen = frame.choose_some("Methods", names, "methods", default=usual)
    places = tuple(names.index(name) for name in chosen or usual)
    shown = replace(found, rows=tuple(found.rows[place] for place in places))
    _forest(board, asked, shown, task)
    _matrix(board, asked, shown, task)
    _judges(board, asked, known, task)
    _length(board, asked, shown)
    frame.share("comparison")


def _about(asked: LeaderboardQuery, found: Section) -> tuple[object, ...]:
    """Return what stands for the rows shown in the key of a remembered answer."""
    return asked, tuple(leaderboard.labels(found.rows))


def _forest(board: frame.Board, asked: LeaderboardQuery, found: Section, task: str) -> None:
    st.subheader("Paired differences")
    names = leaderboard.labels(found.rows)
    usual = comparison.default_baseline(found.rows)
    usual = len(names) - 1 if usual is None else usual  # the lowest, not the winner
    left, right = st.columns([3, 1], vertical_alignment="bottom")
    with left:
        baseline = names.index(frame.choose("Difference to", names, "baseline", default=usual))
    with right:
        margin = st.number_input(
            "No difference within \u00b1",
            min_value=0.0,
            value=None,
            key="margin",
            bind="query-params",
            placeholder="points",
            help="Tests whether methods are equivalent, or not worse, within so many points.",
        )
        frame.noted("margin", margin)
    about = (*_about(asked, found), baseline)
    made = board.report(comparison.against, found, asked.judge, baseline, about=about)
    own = {key: pair for key, pair in made.items() if key[1] == task}
    table = comparison.forest_table(found, own, baseline, margin or None)
    if table.empty:
        st.info(
            "Nothing to pair: no other row was measured alike on the same items, or the number "
            "has no value per item."
        )
        return
    axis = f"difference in {metric_title(found.metric)}"
    st.altair_chart(plots.forest_plot(table, axis))
    places = decimals(found.metric)
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
            "p": st.column_config.NumberColumn("p, corrected", format="%.2g"),
            "detectable": st.column_config.NumberColumn("detectable", format=f"%.{places}f"),
            "margin": st.column_config.TextColumn("no difference?", width="medium"),
            "margin_p": st.column_config.NumberColumn("its p", format="%.2g"),
            "items": st.column_config.LinkColumn("items", display_text="open"),
        },
    )
    if margin:
        st.html(
            markup.line(
                "no difference?: two one-sided tests, 5 % each, p times the number of methods"
            )
        )
    frame.download(table.drop(columns="items"), f"differences-{task}", key="forest-csv")
    _at_equal_length(board, asked, found, (baseline, task))


def _at_equal_length(
    board: frame.Board, asked: LeaderboardQuery, found: Section, of: tuple[int, str]
) -> None:
    """Show the differences as they would be between equally long responses, where asked for."""
    if not can_be_controlled(found.metric):
        return
    wanted = st.toggle("At equal length", key="equal-length", bind="query-params")
    if not frame.noted("equal-length", wanted):
        return
    about = (*_about(asked, found), *of)
    table = board.report(lengths.difference_table, found, asked.judge, *of, about=about)
    if table.empty:
        st.info("No other row has responses to the same items.")
        return
    frame.numbers(board, table, f"equal-length-{of[1]}", formats=lengths.FORMATS, left_out=["task"])
    st.html("".join(map(markup.line, lengths.NOTES)))


def _matrix(board: frame.Board, asked: LeaderboardQuery, found: Section, task: str) -> None:
    about = (*_about(asked, found), task)
    made = board.report(comparison.wins, found, asked.judge, task, about=about)
    if made.table.empty:
        return
    st.subheader("Who beats whom")
    st.html(
        markup.line(
            f"Share of common items on which the row's {metric_title(made.metric)} is "
            "better than the column's; a tie counts half."
        )
    )
    st.altair_chart(
        plots.matrix_plot(
            made.table,
            rows="first",
            columns="second",
            value="rate",
            title="row wins (%)",
            ends=(0, 50, 100),
        )
    )


def _judges(
    board: frame.Board, asked: LeaderboardQuery, known: list[leaderboard.Topic], task: str
) -> None:
    """Draw every judge's number of every method (Figure 3), and how judges agree."""
    judges = [one.judge for one in known if one.suite == asked.suite and one.judge is not None]
    if len(judges) < 2 or asked.judge is None:
        return
    found = {}
    for judge in judges:
        query = replace(asked, judge=judge.key, ranked=False)
        if (own := board.report(leaderboard.section, query)) is not None:
            found[judge.label] = own
    table = comparison.judge_table(found, task)
    st.subheader("Judges by method")
    if not table.empty:
        rate = asked.metric in TIES
        ends = (0, 50, 100) if rate else (table["value"].min(), table["value"].max())
        title = metric_title(asked.metric or "")
        st.html(markup.line(f"Each judge's {title}, as in the paper's Figure 3."))
        plot = plots.matrix_plot(
            table, rows="row", columns="judge", value="value", title=title, ends=ends
        )
        st.altair_chart(plot)
    cells = (row.cells.get(task) for own in found.values() for row in own.rows)
    runs = {run.run_id: run for cell in cells if cell for run in cell.runs}
    _agreement(board, asked, list(runs.values()), task)


def _agreement(board: frame.Board, asked: LeaderboardQuery, runs: list[Run], task: str) -> None:
    """Draw how judges agree, and lead to where they do not."""
    agreed = board.report(comparison.agreement_table, asked.suite)
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


def _length(board: frame.Board, asked: LeaderboardQuery, found: Section) -> None:
    about = _about(asked, found)
    table = board.report(comparison.length_table, found, asked.judge, about=about)
    if table.empty:
        return
    st.subheader("Length against result")
    st.html(markup.line("A judge that likes length shows as a rise to the right."))
    st.altair_chart(plots.length_plot(table, metric_title(found.metric)))
