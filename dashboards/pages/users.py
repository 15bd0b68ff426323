"""Users: who is served well and who badly, by which method."""

import streamlit as st

from mipo_eval.dashboards import frame, markup
from mipo_eval.dashboards.forest import Scale, forest
from mipo_eval.dashboards.matrix import matrix
from mipo_eval.dashboards.pages.leaderboard import choose_leaderboard
from mipo_eval.dashboards.pages.numbers import numbers
from mipo_eval.dashboards.tables import leaderboard, users
from mipo_eval.evaluation.outcomes import ENDS
from mipo_eval.reports.labels import decimals, metric_title
from mipo_eval.reports.leaderboard import LeaderboardQuery, Section
from mipo_eval.reports.served import Served

_SHOWN = 12
"""Methods drawn: the best ones."""


_NOTES = (
    "Green dots: users; a larger dot stands for more of them. The other dot: their mean.",
    "Worst tenth: the mean of the tenth of users who are served worst. In brackets: what that mean "
    "would be if all users were served alike (items are shuffled among users). p: how often "
    "shuffling gives a mean as bad. Users may also differ because they asked different things.",
)


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
    scale = Scale(
        title=f"mean {metric_title(found.metric)} of a user",
        places=decimals(found.metric),
        ends=ENDS.get(found.metric),
        gain="worst tenth (by chance), p",
    )
    rows = users.spread_rows(found, shown)
    st.html(forest(rows, scale, f"{scale.title}, of {len(rows)} methods"))
    st.html("".join(map(markup.line, _NOTES)))


def _wishes(
    board: frame.Board, asked: LeaderboardQuery, found: Section, rows: list[int], task: str
) -> None:
    about = (asked, tuple(rows), task)
    told = board.report(users.wishes, found, asked.judge, rows, task, about=about)
    if told is None:
        return
    st.header("By preference")
    st.html(markup.line("Mean rating of each preference, the lowest first."))
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
    titles = {"value": metric_title(found.metric)}
    numbers(board, table, "users-of", formats=formats, titles=titles)
