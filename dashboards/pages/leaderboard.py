"""The leaderboard: methods x data sets; and choosing one, for every page that needs one."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pandas as pd
import streamlit as st

from mipo_eval.dashboards import export, frame, markup
from mipo_eval.dashboards.forest import ForestRow, Scale, forest
from mipo_eval.dashboards.links import TASK, run_name
from mipo_eval.dashboards.matrix import matrix
from mipo_eval.dashboards.pages.numbers import numbers
from mipo_eval.dashboards.tables import comparison, doubts, leaderboard, lengths
from mipo_eval.dashboards.tables.comparison import OWN_BASE
from mipo_eval.dashboards.tables.forest import forest_rows, running_rows
from mipo_eval.dashboards.tables.headline import headline, short_names
from mipo_eval.dashboards.tables.leaderboard import Filters, Topic, Wide
from mipo_eval.evaluation.outcomes import ENDS
from mipo_eval.keys import digest
from mipo_eval.metrics.aggregate import direction
from mipo_eval.reports.labels import decimals, metric_title
from mipo_eval.reports.leaderboard import LeaderboardQuery, Row, Section
from mipo_eval.signature import Signature, short
from mipo_eval.store.judges import judge_names
from mipo_eval.store.tallies import in_flight

_NO_BASELINE = "none"
_ALL = "all"
_NO_JUDGE = "without a judge"
_MODELS = 3
"""Base models named in a card."""
_COUNTED = 20_000
"""Responses whose judging is added up for the first page; of more, the page of judges tells."""


def show() -> None:
    """Draw the page."""
    board = frame.begin("Leaderboard", "Which method is best, by how much, and how sure that is.")
    known, asked, found = choose_leaderboard(board)
    task = found.tasks[0]
    if len(found.tasks) > 1:
        task = frame.choose("Data set", found.tasks, "task")
    answer = st.container()
    with st.expander("Baseline, filters, columns, order", icon=":material/tune:"):
        baseline = _baseline(found)
        rows, models = _filtered(found)
        shown, order, published = _layout(found, compared=baseline != _NO_BASELINE)
    against = _comparisons(board, found, asked, baseline)
    usual = models or list({row.name.model for row in rows})
    paper = leaderboard.paper_numbers(found, usual if published else [""])
    drawn = forest_rows(found, task, rows, against, paper)
    scale = _scale(found, task, baseline)
    with answer:
        said = _answer(board, asked, found, (task, baseline))
        _facts(board, asked, found, task)
        _picture(scale, drawn, said)
        if any(flight.run.suite == asked.suite for flight in board.recall(in_flight, live=True)):
            _running(asked, task, scale)
        files = st.container(horizontal=True, vertical_alignment="center")
        _flags(board, asked)
    measured = leaderboard.number_table(found, rows, against)
    measured = pd.concat([measured, paper], ignore_index=True) if len(paper) else measured
    named = None if baseline == _NO_BASELINE else baseline
    with st.container() if len(found.tasks) > 1 else frame.folded():
        _table(found, measured, (shown, order, named))
    _more(board, asked, known, found)
    _behind(found, rows)
    with files:
        _files(found, drawn, scale, measured)
    frame.share("leaderboard")


def _answer(
    board: frame.Board, asked: LeaderboardQuery, found: Section, about: tuple[str, str]
) -> str:
    """Say, and return, in one sentence who wins, by how much, and whether that is sure."""
    task, baseline = about
    failing = board.report(doubts.reasons, asked.judge) if asked.judge else ()
    against = _comparisons(board, found, asked, baseline)
    names = dict(zip(leaderboard.labels(found.rows), short_names(found.rows), strict=True))
    called = None if baseline == _NO_BASELINE else names.get(baseline, baseline)
    said = headline(found, task, against, called, failing)
    where = f"{task}: " if len(found.tasks) > 1 else ""
    frame.say(where + said)
    return where + said


def _scale(found: Section, task: str, baseline: str) -> Scale:
    """Return what values are drawn along, with a line at the baseline."""
    labels = leaderboard.labels(found.rows)
    cell = found.rows[labels.index(baseline)].cells.get(task) if baseline in labels else None
    line = cell.value if cell and len(labels) > 1 else None
    return Scale(
        title=metric_title(found.metric),
        places=decimals(found.metric),
        line=line,
        ends=ENDS.get(found.metric),
    )


def _picture(scale: Scale, rows: list[ForestRow], said: str) -> None:
    """Draw a row a method: value, interval, what it gains, how sure its place is."""
    if not rows:
        return
    st.html(forest(rows, scale, said))
    told = ["Dashed line: the baseline."] * (scale.line is not None)
    told += ["Blue rows: not distinguishable from the best."] * any(row.alike for row in rows)
    told += ["Green dots: single seeds."] * any(row.dots for row in rows)
    published = "Hollow dots: published numbers with the standard deviation over seeds."
    told += [published] * any(row.published for row in rows)
    st.html(markup.line(" ".join(told)) if told else "<div></div>")


@st.fragment(run_every=frame.POLL)
def _running(asked: LeaderboardQuery, task: str, scale: Scale) -> None:
    """Draw what is known so far of runs that are not done, below those that are ranked."""
    board = frame.open_board()
    rows = board.recall(running_rows, asked, task, live=True) if board else []
    if rows:
        said = "Still running: these numbers will change, and have no rank yet."
        st.html(markup.line(said) + forest(rows, scale, said))


def _facts(board: frame.Board, asked: LeaderboardQuery, found: Section, task: str) -> None:
    """Say what the numbers rest on."""
    cells = [row.cells[task] for row in found.rows if task in row.cells]
    items = max((cell.n or 0 for cell in cells), default=0)
    models = list(dict.fromkeys(row.name.model for row in found.rows))
    named = "base model" if len(models) == 1 else "base models"
    more = f" and {len(models) - _MODELS:,} more" if len(models) > _MODELS else ""
    facts = {"methods": f"{len(cells)}", named: ", ".join(models[:_MODELS]) + more}
    facts |= {"items": f"{items:,}"}
    if asked.judge:
        told = board.report(doubts.validation, asked.judge)
        called = board.recall(judge_names)[asked.judge]
        facts |= {"judge": called, "its validation": told}
        lists = {run.list_key for cell in cells for run in cell.runs}
        if items * len(cells) <= _COUNTED:
            from mipo_eval.dashboards.tables.run import judging  # takes long to import

            facts |= board.report(judging, asked.judge, tuple(sorted(lists)))
    st.html(markup.facts(facts))


def _flags(board: frame.Board, asked: LeaderboardQuery) -> None:
    broken = board.report(doubts.failings, asked.judge) if asked.judge else []
    if broken:
        st.error("Do not believe this judge, nor the numbers that it gave. The reason:")
        st.html(markup.block("\n".join(broken)))
    winning = board.report(doubts.winning_controls, asked.suite, asked.judge)
    if winning:
        st.warning(
            "Under this judge, answers that must not do well do as well as a model's responses."
        )
        st.html(markup.block("\n".join(winning)))


def _filtered(found: Section) -> tuple[list[Row], list[str]]:
    """Let the reader filter rows; returns what is left, and the base models asked for."""
    facets = leaderboard.facets(found.rows)
    first, second, third, fourth = st.columns(4)
    with first:
        models = frame.choose_some("Base model", facets.models, "model")
    with second:
        promptings = frame.choose_some("Prompting", facets.promptings, "prompting")
    with third:
        since = st.date_input("Made since", None, key="since", bind="query-params")
        frame.noted("since", since)
    names = {_signature_name(signature): signature for signature in facets.signatures}
    with fourth:
        chosen = frame.choose("Signature", [_ALL, *names], "signature")
    if chosen != _ALL:
        st.html(markup.block(names[chosen]))
    filters = Filters(
        models=models, promptings=promptings, since=since, signature=names.get(chosen)
    )
    return leaderboard.filtered(found.rows, filters), models


def _signature_name(signature: Signature) -> str:
    """Return a short name for a signature that stays the same in addresses."""
    shown = (signature.parts.get(name) for name in ("decoding", "judge", "ties", "version"))
    return f"{short(digest(signature))} \u00b7 {', '.join(part for part in shown if part)}"


def _baseline(found: Section) -> str:
    """Let the reader choose what rows are compared with: a row, or one for each base model."""
    labels = leaderboard.labels(found.rows)
    usual = comparison.usual_comparison(found.rows)
    chosen = labels[usual] if isinstance(usual, int) else usual or _NO_BASELINE
    options = [_NO_BASELINE, *([OWN_BASE] if usual == OWN_BASE else []), *labels]
    default = options.index(chosen)
    first, _ = st.columns([2, 1])
    with first:
        return frame.choose("Compare each row with", options, "baseline", default=default)


def _comparisons(
    board: frame.Board, found: Section, asked: LeaderboardQuery, baseline: str
) -> leaderboard.Comparisons:
    if baseline == _NO_BASELINE:
        return {}
    about = (asked, baseline)
    if baseline == OWN_BASE:
        return board.report(comparison.against_own, found, asked.judge, about=about)
    row = leaderboard.labels(found.rows).index(baseline)
    return board.report(comparison.against, found, asked.judge, row, about=about)


def _layout(found: Section, *, compared: bool) -> tuple[list[str], str, bool]:
    """Let the reader choose columns, order, and whether published rows are shown."""
    first, second, third = st.columns([2, 1, 1], vertical_alignment="bottom")
    with first:
        usual = [name for name in leaderboard.SHOWN if compared or name != "delta"]
        shown = frame.choose_some(
            "Columns",
            list(leaderboard.COLUMNS),
            "columns",
            default=usual,
            show=leaderboard.COLUMNS.__getitem__,
            none="Values alone",
        )
    with second:
        titles = {str(place): f"data set {task}" for place, task in enumerate(found.tasks)}
        titles = {"mean": "mean", "model": "model", "method": "method"} | titles
        order = frame.choose("Sort by", list(titles), "sort", show=titles.__getitem__)
    with third:
        published = st.toggle("Published rows", True, key="published", bind="query-params")
        frame.noted("published", published)
    return shown, order, published


def _table(found: Section, table: pd.DataFrame, layout: tuple[list[str], str, str | None]) -> None:
    """Draw the table, what its columns are, and the download."""
    shown, order, baseline = layout
    if table.empty:
        st.info("No row passes the filters.")
        return
    wide = leaderboard.wide(table, found.tasks, shown, leaderboard.signatures(found.rows))
    best_first = leaderboard.ordered(wide, order, lower=direction(found.metric) == "lower")
    st.html(markup.line(_heading(found, table)))
    st.dataframe(
        leaderboard.linked(best_first, found.rows),
        column_config=_column_config(wide, found.metric),
        hide_index=True,
        placeholder="\u2013",
        height="content" if len(best_first) < 30 else 1_050,
        key="table",
    )
    if notes := leaderboard.notes(table, wide, baseline):
        st.html("".join(markup.line(note) for note in notes))


def _files(found: Section, drawn: list[ForestRow], scale: Scale, table: pd.DataFrame) -> None:
    """Offer the leaderboard as a picture, for a paper, as numbers, as a link, and its citation."""
    name = f"leaderboard-{found.suite}"
    if drawn:
        for form in ("png", "svg"):
            drawing = partial(export.picture, drawn, scale, form)
            mime = f"image/{form.replace('svg', 'svg+xml')}"
            _file(form.upper(), drawing, f"{name}.{form}", mime)
    written = partial(export.latex, found, short_names(found.rows))
    _file("LaTeX", written, f"{name}.tex", "application/x-tex")
    frame.download(table.drop(columns="row"), name, key="csv")
    frame.link_here("leaderboard", "Link")
    with st.popover("Cite", icon=":material/format_quote:"):
        st.code(markup.visible(export.citation(found)), language=None, wrap_lines=True)


def _file(label: str, made: Callable[[], bytes | str], name: str, mime: str) -> None:
    """Offer a file that is made when somebody asks for it."""
    st.download_button(
        label,
        made,
        file_name=name,
        mime=mime,
        icon=":material/download:",
        on_click="ignore",
        key=f"file-{label}",
    )


def _more(
    board: frame.Board, asked: LeaderboardQuery, known: Sequence[Topic], found: Section
) -> None:
    """Show the methods on all suites, at equal length, head to head, where the reader asks."""
    suites = [one for one in known if _same_number(one, asked)]
    if len({one.suite for one in suites}) > 1:
        every = st.toggle("Methods by suites", key="suites", bind="query-params")
        if frame.noted("suites", every):
            _suites(board, asked, suites)
    if asked.judge is None:
        return
    with st.container(horizontal=True):
        equal = st.toggle("At equal length", key="equal-length", bind="query-params")
        strengths = st.toggle("Head to head (Elo)", key="strengths", bind="query-params")
    if frame.noted("equal-length", equal):
        st.header("At the length of the references")
        table = board.report(lengths.rate_table, found, about=asked)
        if table.empty:
            st.info("Length is controlled in win rates against references: choose that number.")
        else:
            plain = ["task"] if len(found.tasks) == 1 else []
            shapes, heads = lengths.FORMATS, lengths.TITLES
            numbers(board, table, "equal-length", formats=shapes, left_out=plain, titles=heads)
            st.html("".join(map(markup.line, lengths.NOTES)))
    if frame.noted("strengths", strengths):
        st.header("Head to head")
        table, reasons = board.report(comparison.strengths_table, asked)
        if not table.empty:
            formats = dict.fromkeys(("elo", "low", "high"), "%.0f")
            numbers(board, table, "strengths", formats=formats)
            told = (
                "Ratings on the Elo scale (Bradley-Terry model): 1000 is the average method, and a "
                "tie counts as half a win."
            )
            st.html(markup.line(told))
        for reason in reasons:
            st.info(markup.markdown(reason))
        if table.empty and not reasons:
            st.info("No judge compared two methods: mipo-eval judge RUN RUN --judge J.")


def _same_number(topic: Topic, asked: LeaderboardQuery) -> bool:
    """Return whether a topic has the number that is asked for, by the same judge."""
    judge = topic.judge.key if topic.judge else None
    known = {*leaderboard.tie_rules(topic), *leaderboard.numbers(topic)}
    return judge == asked.judge and asked.metric in known


def _suites(board: frame.Board, asked: LeaderboardQuery, topics: Sequence[Topic]) -> None:
    """Draw the same number of every method on every suite."""
    st.header("Methods by suites")
    found = [board.report(leaderboard.section, replace(asked, suite=one.suite)) for one in topics]
    cells = leaderboard.by_suite([section for section in found if section is not None])
    names = tuple(list(dict.fromkeys(key[place] for key in cells)) for place in (0, 1))
    ends = ENDS.get(asked.metric or "") or (min(cells.values()), max(cells.values()))
    title, places = metric_title(asked.metric or ""), decimals(asked.metric or "")
    st.html(matrix(cells, (names[0], names[1]), title, ends, places))


def _heading(found: Section, table: pd.DataFrame) -> str:
    models = table["model"].unique()
    common = f", {models[0]}" if len(models) == 1 else ""
    by = f", judged by {found.judge}" if found.judge else ""
    return f"{found.suite}: {metric_title(found.metric)}{by}{common}"


def _column_config(wide: Wide, metric: str) -> dict[str, Any]:
    places = decimals(metric)
    config: dict[str, Any] = {
        "model": st.column_config.TextColumn("model", width="medium"),
        "method": st.column_config.TextColumn("method", pinned=True, width=170),
        "items": st.column_config.LinkColumn(
            "items", display_text="open", width="small", help="Responses and verdicts behind it"
        ),
    }
    number, signed = f"%.{places}f", f"%+.{places}f"
    formats = {"delta": signed, "detectable": number, "seeds": number, "ties": "%.1f", "p": "%.2g"}
    for name, title in wide.titles.items():
        part = leaderboard.part_of(name)
        if name in wide.values or part in formats:
            shape = formats.get(part, number)
            config[name] = st.column_config.NumberColumn(title, format=shape)
        elif part == "date":
            config[name] = st.column_config.DateColumn(title)
        else:
            config.setdefault(name, st.column_config.Column(title))
    return config


def _behind(found: Section, rows: Sequence[Row]) -> None:
    """Show where the numbers of one row come from."""
    st.header("Behind a row")
    if not rows:
        return
    names = dict(zip(leaderboard.labels(rows), rows, strict=True))
    places = decimals(found.metric)
    for task, cell in names[frame.choose("Row", list(names), "row")].cells.items():
        about = f"{task}: {markup.number(cell.value, places)} {markup.interval(cell.ci95, places)}"
        st.html(markup.block(cell.signature, name=about))
        for run in cell.runs:
            with st.container(horizontal=True):
                of = f"run {run.run_id[:8]}"
                frame.link("pairs", f"Items of {of}", a=run_name(run), **{TASK: task})
                frame.link("run", f"How {of} was made", run=run_name(run))


def choose_leaderboard(board: frame.Board) -> tuple[list[Topic], LeaderboardQuery, Section]:
    """Let the reader choose suite, judge, number and rule for ties; without any, end the page."""
    known = board.report(leaderboard.topics)
    if not known:
        flying = board.recall(in_flight, live=True)
        running = "a run has begun; the page Run shows its numbers so far"
        frame.nothing_yet(running if flying else "no run has finished")
    with st.container(key="controls"):
        first, second, third, fourth = st.columns([3, 3, 4, 7])
    with first:
        suite = frame.choose("Suite", list(dict.fromkeys(one.suite for one in known)), "suite")
    of_suite = [topic for topic in known if topic.suite == suite]
    with second:
        called = board.recall(judge_names)
        topic = frame.choose(
            "Judge",
            of_suite,
            "judge",
            show=lambda one: called[one.judge.key] if one.judge else _NO_JUDGE,
        )
    with third:
        metric = frame.choose("Number", leaderboard.numbers(topic), "metric", show=metric_title)
    if metric == leaderboard.WIN_RATE:
        with fourth:
            rules = leaderboard.tie_rules(topic)
            metric = frame.switch("A tie with the reference is", rules, "ties")
    asked = leaderboard.query_of(topic, metric, frame.row_rules())
    found = board.report(leaderboard.section, asked)
    if found is None:
        frame.nothing_yet("no number of this kind: choose another judge or metric")
    return known, asked, found
