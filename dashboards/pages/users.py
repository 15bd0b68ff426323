"""Users: who is served well and who badly, by which method."""

import streamlit as st

from mipo_eval.dashboards import frame, markup, plots
from mipo_eval.dashboards.matrix import matrix
from mipo_eval.dashboards.pages.leaderboard import choose_leaderboard
from mipo_eval.dashboards.tables import leaderboard, users
from mipo_eval.reports.labels import decimals, metric_title
from mipo_eval.reports.leaderboard import LeaderboardQuery, Section
from mipo_eval.reports.served import Served

_SHOWN = 12
"""Methods drawn: the best ones."""


def show() -> None:
    """Draw the page."""
    board = frame.begin("Users", "Who is served well and who badly, by which method.")
    _, asked, found = choose_leaderboard(board)
    task = found.tasks[0]
    if len(found.tasks) > 1:
        task = frame.choose("Data set", found.tasks, "task")
    served = board.report(users.served_by, found, asked.judge, task, about=(asked, task))
    frame.say(users.users_headline(found, served))
    if served:
        shown = dict(list(served.items())[:_SHOWN])
        _spread(found, shown)
        _wishes(board, asked, found, list(shown), task)
        _one(board, asked, found, served, task)
    frame.share("users")


def _spread(found: Section, shown: dict[int, Served]) -> None:
    st.header("Users by method")
    title = metric_title(found.metric)
    says = f"Each dot: users with that {title}; the larger, the more. Triangle: the worst tenth."
    st.html(markup.line(says))
    worst = users.worst_table(found, shown)
    frame.chart(plots.users_plot(users.spread_table(found, shown), worst, title), says)
    places = f"%.{decimals(found.metric)}f"
    st.dataframe(
        worst,
        hide_index=True,
        height="content",
        placeholder="\u2013",
        column_config={
            "row": st.column_config.TextColumn("method", pinned=True, width="medium"),
            **{
                name: st.column_config.NumberColumn(name, format=places)
                for name in ("worst tenth", "by chance", "median", "best tenth")
            },
            "p": st.column_config.NumberColumn("p", format="%.3f"),
        },
    )
    st.html(
        markup.line(
            "by chance: the worst tenth if all users were served alike (items shuffled among "
            "them); p: how often shuffling makes it as bad; users also differ in what they asked"
        )
    )
    frame.download(worst, "users", key="users-csv")


def _wishes(
    board: frame.Board, asked: LeaderboardQuery, found: Section, rows: list[int], task: str
) -> None:
    about = (asked, tuple(rows), task)
    told = board.report(users.wishes, found, asked.judge, rows, task, about=about)
    if told is None:
        return
    st.header("By preference")
    st.html(markup.line("Mean rating of each preference, the least met first."))
    ends = (1.0, 3.0, 5.0)
    st.html(matrix(told.cells, (told.preferences, told.rows), "mean rating", ends, places=1))


def _one(
    board: frame.Board,
    asked: LeaderboardQuery,
    found: Section,
    served: dict[int, Served],
    task: str,
) -> None:
    st.header("One method's users")
    names = leaderboard.labels(found.rows)
    row = names.index(frame.choose("Method", [names[row] for row in served], "row"))
    about = (asked, row, task)
    table = board.report(users.user_table, found, served, (row, task), about=about)
    formats = {"value": f"%.{decimals(found.metric)}f"}
    frame.numbers(board, table, "users-of", formats=formats)
