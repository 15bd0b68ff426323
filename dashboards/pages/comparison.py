"""Two methods against each other on their common items, and all of them."""

from collections.abc import Mapping
from dataclasses import replace

import pandas as pd
import streamlit as st

from mipo_eval.dashboards import frame, markup, plots
from mipo_eval.dashboards.forest import OUTCOMES, ForestRow, Scale, forest, share_bar
from mipo_eval.dashboards.links import TASK, run_name
from mipo_eval.dashboards.matrix import matrix
from mipo_eval.dashboards.pages.leaderboard import choose_leaderboard
from mipo_eval.dashboards.pages.numbers import numbers
from mipo_eval.dashboards.tables import comparison, doubts, leaderboard, lengths
from mipo_eval.dashboards.tables.forest import difference_rows
from mipo_eval.dashboards.tables.headline import beyond, headline, of_two, short_names
from mipo_eval.dashboards.tables.leaderboard import Comparisons
from mipo_eval.dashboards.tables.versus import Versus, settings_apart, shares_of, versus
from mipo_eval.evaluation.outcomes import ENDS
from mipo_eval.reports.equal_length import can_be_controlled
from mipo_eval.reports.labels import decimals, metric_title
from mipo_eval.reports.leaderboard import LeaderboardQuery, Section
from mipo_eval.stats.paired import Comparison
from mipo_eval.store.judges import judge_names

_DISPUTED = 3
"""Runs with a link to the items on which judges differ."""
_SHOWN = 12
"""Rows compared unless the reader chooses others."""
_VIEWS = {"all": "All methods", "judges": "Judges", "settings": "What differs in settings"}


def show() -> None:
    """Draw the page."""
    board = frame.begin(
        "Comparison", "One method against another, on the items that both answered."
    )
    known, asked, found = choose_leaderboard(board)
    names = leaderboard.labels(found.rows)
    failing = board.report(doubts.reasons, asked.judge) if asked.judge else ()
    with st.container(key="sides"):
        one, two, three = st.columns([3, 3, 2])
    task = found.tasks[0]
    if len(found.tasks) > 1:
        with three:
            task = frame.choose("Data set", found.tasks, "task")
    if len(names) < 2:
        frame.say(headline(found, task, {}, None, failing))
        frame.share("comparison")
        return
    usual = comparison.default_baseline(found.rows)
    usual = len(names) - 1 if usual is None else usual  # the lowest, not the winner
    with two:
        second = names.index(frame.choose("B", names, "baseline", default=usual))
    others = [name for name in names if name != names[second]]
    with one:
        first = names.index(frame.choose("A", others, "first"))
    about = (asked, names[second])
    made = board.report(comparison.against, found, asked.judge, second, about=about)
    own = {key: pair for key, pair in made.items() if key[1] == task}
    short = short_names(found.rows)
    pair = own.get((first, task))
    called = (short[first], short[second])
    said = of_two(found.metric, pair, called, failing, len(own))
    frame.say(said)
    if pair is not None:
        _two(board, asked, found, (first, second, task), (pair, said))
    view = frame.switch("Show", _VIEWS, "view")
    if view == "all":
        _all(board, asked, found, (second, task), own)
    elif view == "judges":
        _judges(board, asked, known, task, (names[first], names[second]))
    else:
        _settings(board, asked, found, (first, second, task))
    frame.share("comparison")


def _two(
    board: frame.Board,
    asked: LeaderboardQuery,
    found: Section,
    of: tuple[int, int, str],
    answer: tuple[Comparison, str],
) -> None:
    """Draw two methods: who wins how many items, by how much, and where that comes from."""
    (first, second, task), (pair, said) = of, answer
    names = [leaderboard.labels(found.rows)[row] for row in (first, second)]
    about = (asked, *names, task)
    told = board.report(versus, found, asked.judge, (first, second), task, about=about)
    with st.container(key="two"):
        left, right = st.columns([1, 1], gap="large")
    with left:
        _items(told, found.metric)
        places = decimals(found.metric)
        least = pair.detectable
        hidden = least is None or beyond(found.metric, least)
        band = None if least is None or hidden else (-least, least)
        one = ForestRow(name="all items", value=pair.difference, ci95=pair.ci95, band=band)
        title = f"A \u2212 B in {metric_title(found.metric)}"
        scale = Scale(title=title, places=places, line=0.0, signed=True)
        st.html(forest([one, *told.lengths], scale, said))
        if band:
            least_shown = markup.number(band[1], places)
            says = (
                f"Orange: differences smaller than {least_shown}. These {pair.n:,} items are too "
            )
            st.html(markup.line(f"{says}few to show them in 80 of 100 repetitions."))
        runs = [found.rows[row].cells[task].runs[0] for row in (first, second)]
        label = f"The {pair.n:,} items of A and B"
        frame.link("pairs", label, a=run_name(runs[0]), b=run_name(runs[1]), **{TASK: task})
    with right:
        _sources(told)


def _items(told: Versus, metric: str) -> None:
    if shares := shares_of(told.items):
        won, tied, lost = told.items
        by = "" if told.metric == metric else f" by {metric_title(told.metric)}"
        says = f"A is better on {won:,} items, tied on {tied:,}, worse on {lost:,}{by}"
        st.html(markup.line(says) + share_bar(shares, wide=True) + _legend())


def _legend() -> str:
    return f'<div class="mipo-label">{OUTCOMES}</div>'


def _sources(told: Versus) -> None:
    """Draw where the difference comes from."""
    st.header("Where it comes from")
    if told.users and (shares := shares_of(told.users)):
        better, alike, worse = told.users
        says = f"{better:,} users are better served by A, {worse:,} by B, {alike:,} alike"
        st.html(markup.line(says) + share_bar(shares, wide=True))
    if told.preferences:
        scale = Scale(title="A \u2212 B in rating", places=2, line=0.0, signed=True)
        st.html(forest(told.preferences, scale, "the difference by preference"))
    if told.preferences or told.lengths:
        st.html(
            markup.line(
                "These parts only show where to look: with so many of them, some differ by chance."
            )
        )
    if not (told.users or told.preferences):
        st.html(markup.line("Items name no users, and no judge rated preferences one by one."))


def _settings(
    board: frame.Board, asked: LeaderboardQuery, found: Section, of: tuple[int, int, str]
) -> None:
    first, second, task = of
    if any(task not in found.rows[row].cells for row in (first, second)):
        st.info("One of the two was not measured on this data set.")
        return
    names = [leaderboard.labels(found.rows)[row] for row in (first, second)]
    about = (asked, *names, task)
    table = board.report(settings_apart, found, (first, second), task, about=about)
    st.dataframe(
        table, hide_index=True, height="content", placeholder="\u2013", key="settings",
        column_config={"first": markup.label(names[0]), "second": markup.label(names[1])},
    )  # fmt: skip
    st.html(markup.line("What is alike is left out; the page of a run has all of it."))


def _all(
    board: frame.Board,
    asked: LeaderboardQuery,
    found: Section,
    of: tuple[int, str],
    made: Comparisons,
) -> None:
    """Draw all methods against B, and each against each."""
    baseline, task = of
    names = leaderboard.labels(found.rows)
    chosen = frame.choose_first("Methods", names, "methods", _SHOWN)
    chosen += [names[baseline]] * (names[baseline] not in chosen)
    places = tuple(names.index(name) for name in chosen)
    shown = replace(found, rows=tuple(found.rows[place] for place in places))
    _forest(board, asked, found, of, {k: pair for k, pair in made.items() if k[0] in places})
    _matrix(board, asked, shown, task)
    _length(board, asked, shown)


def _about(asked: LeaderboardQuery, found: Section) -> tuple[object, ...]:
    """Return what stands for the rows shown in the key of a remembered answer."""
    return asked, tuple(leaderboard.labels(found.rows))


def _forest(
    board: frame.Board,
    asked: LeaderboardQuery,
    found: Section,
    of: tuple[int, str],
    made: Comparisons,
) -> None:
    baseline, task = of
    named = short_names(found.rows)[baseline]
    st.header("Paired differences")
    st.html(markup.line(f"Every other method minus {named}, on the items that both answered."))
    margin = st.number_input(
        "No difference within \u00b1",
        min_value=0.0,
        value=None,
        key="margin",
        bind="query-params",
        placeholder="points",
        width=220,
        help="Tests whether methods are equivalent, or not worse, within so many points.",
    )
    frame.noted("margin", margin)
    table = comparison.forest_table(found, made, baseline, margin or None)
    if table.empty:
        st.info(
            "Nothing to compare: no other row was measured in the same way on the same items, or "
            "this number has no value for each item."
        )
        return
    title = f"\u0394 in {metric_title(found.metric)}"
    apart = int((table["verdict"] == comparison.TOLD).sum())
    about = f"{title} to {named}: {apart} of {len(table)} methods are told apart from it"
    places, gain = decimals(found.metric), "p, corrected"
    scale = Scale(title=title, places=places, line=0.0, signed=True, gain=gain)
    rows = difference_rows(table)
    st.html(forest(rows, scale, about))
    if any(row.alike for row in rows):
        says = "Blue rows: not told apart from it (p \u2265 0.05, corrected for all methods)."
        st.html(markup.line(says))
    with frame.folded():
        _differences(table, found.metric, task, margin=bool(margin))
    _at_equal_length(board, asked, found, of)


def _differences(table: pd.DataFrame, metric: str, task: str, *, margin: bool) -> None:
    places = decimals(metric)
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
            "items": st.column_config.LinkColumn("items", display_text="see items"),
        },
    )
    if margin:
        st.html(
            markup.line(
                "no difference?: tested from both sides (two one-sided tests, 5 % each); p is "
                "multiplied by the number of methods."
            )
        )
    frame.download(table.drop(columns="items"), f"differences-{task}", key="forest-csv")


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
    name, shapes, heads = f"equal-length-{of[1]}", lengths.FORMATS, lengths.TITLES
    numbers(board, table, name, formats=shapes, left_out=["task"], titles=heads)
    st.html("".join(map(markup.line, lengths.NOTES)))


def _matrix(board: frame.Board, asked: LeaderboardQuery, found: Section, task: str) -> None:
    about = (*_about(asked, found), task)
    made = board.report(comparison.wins, found, asked.judge, task, about=about)
    if made.table.empty:
        return
    st.header("Who beats whom")
    says = (
        f"Share of common items on which the row's {metric_title(made.metric)} is better than "
        "the column's; a tie counts half."
    )
    st.html(markup.line(says))
    ends = (0, 50, 100)
    st.html(square(made.table, "rate", "row wins (%)", ends))


def _judges(
    board: frame.Board,
    asked: LeaderboardQuery,
    known: list[leaderboard.Topic],
    task: str,
    marked: tuple[str, str],
) -> None:
    """Draw every judge's number of every method (Figure 3), and how judges agree."""
    judges = [one.judge for one in known if one.suite == asked.suite and one.judge is not None]
    if len(judges) < 2 or asked.judge is None:
        st.info("Only one judge rated this suite. To add another: mipo-eval --judge NAME.")
        return
    found, names = {}, board.recall(judge_names)
    for judge in judges:
        query = replace(asked, judge=judge.key, ranked=False)
        if (own := board.report(leaderboard.section, query)) is not None:
            found[names[judge.key]] = own
    table = comparison.judge_table(found, task)
    st.header("Judges by method")
    if not table.empty:
        title = metric_title(asked.metric or "")
        says = f"{title} by judge (the paper's Figure 3). Where lines cross, judges disagree."
        st.html(markup.line(says))
        lines = [markup.label(name) for name in marked]
        plot = plots.slope_plot(table, title, lines, ENDS.get(asked.metric or ""))
        frame.chart(plot, comparison.judges_finding(table))
        with frame.folded():
            numbers(board, table, "judges-by-method")
    runs = {
        run: name
        for own in found.values()
        for row, name in zip(own.rows, short_names(own.rows), strict=True)
        if task in row.cells
        for run in map(run_name, row.cells[task].runs)
    }
    _agreement(board, asked, runs, task)


def _agreement(
    board: frame.Board, asked: LeaderboardQuery, runs: Mapping[str, str], task: str
) -> None:
    """Draw how judges agree, and lead to where they do not."""
    agreed = board.report(comparison.agreement_table, asked.suite)
    if agreed.empty:
        return
    st.header("Agreement of judges")
    says = (
        "Cohen's kappa of win, tie and loss against the reference, over all runs and items "
        "that both judges decided; 0 is chance."
    )
    st.html(markup.line(says))
    told = agreed.dropna(subset="kappa")
    st.html(square(told, "kappa", "kappa", (0, 1), places=2))
    with st.container(horizontal=True):
        for run, name in list(runs.items())[:_DISPUTED]:
            label = f"Where judges differ on {name}"
            frame.link("pairs", label, a=run, outcome="judges differ", **{TASK: task})


def square(
    table: pd.DataFrame, value: str, title: str, ends: tuple[float, ...], places: int = 0
) -> str:
    """Return the HTML of a matrix of the things that `first` and `second` name."""
    names = list(dict.fromkeys(table["first"]))
    lines = zip(table["first"], table["second"], table[value], strict=True)
    cells = {(first, second): float(found) for first, second, found in lines}
    return matrix(cells, (names, names), title, ends, places)


def _length(board: frame.Board, asked: LeaderboardQuery, found: Section) -> None:
    about = _about(asked, found)
    table = board.report(comparison.length_table, found, asked.judge, about=about)
    if table.empty:
        return
    st.header("Length against result")
    says = "If the judge likes long responses, the dots rise to the right."
    st.html(markup.line(says))
    plot = plots.length_plot(table, metric_title(found.metric), ENDS.get(found.metric))
    frame.chart(plot, comparison.length_finding(table))
