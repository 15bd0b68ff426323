"""The leaderboard: methods x data sets.

Choosing a leaderboard: suite, judge, number and rule for ties, for the pages that need one.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from mipo_eval.dashboards import frame, markup
from mipo_eval.dashboards.links import TASK, run_name
from mipo_eval.dashboards.tables import comparison, leaderboard
from mipo_eval.dashboards.tables.leaderboard import Filters, Method, Standing, Topic, View
from mipo_eval.evaluation.outcomes import DERIVED
from mipo_eval.metrics.win_rate import METRIC_NAMES
from mipo_eval.reports.labels import LABELS, decimals
from mipo_eval.signature import Signature

_NO_BASELINE = "none"
_OWN = "the same base model with personalized prompting"
_ALL = "all"


def show() -> None:
    """Draw the page."""
    board = frame.begin("Leaderboard", "Methods by data sets, as in the paper's Table 1.")
    known = board.report(leaderboard.topics)
    if not known:
        frame.nothing_yet("no run has finished")
    view = choose_view(known)
    found = board.report(leaderboard.standing, view)
    if found is None:
        frame.nothing_yet("no number of this kind: choose another judge or metric")
    _flags(board, view)
    baseline = _baseline(found)
    with st.expander("Filters, columns, order", icon=":material/tune:"):
        rows, models = _filtered(found)
        shown, order, published = _layout(found, compared=baseline != _NO_BASELINE)
    measured = leaderboard.number_table(found, rows, _comparisons(board, found, view, baseline))
    if published:
        paper = leaderboard.paper_numbers(found, models)
        measured = pd.concat([measured, paper], ignore_index=True) if len(paper) else measured
    _table(found, measured, (shown, order, None if baseline == _NO_BASELINE else baseline))
    _behind(found, rows)
    frame.share("leaderboard")


def _flags(board: frame.Board, view: View) -> None:
    broken = board.report(leaderboard.failings, view.judge) if view.judge else []
    if broken:
        st.error("This judge fails its validation: do not believe these numbers.")
        st.html(markup.block("\n".join(broken)))
    winning = board.report(leaderboard.winning_controls, view.suite, view.judge)
    if winning:
        st.warning("Controls that must not do well do as well as a model under this judge.")
        st.html(markup.block("\n".join(winning)))


def _filtered(found: Standing) -> tuple[list[Method], list[str]]:
    """Let the reader filter rows; returns what is left, and the base models asked for."""
    facets = leaderboard.facets(found)
    first, second, third, fourth = st.columns(4)
    with first:
        models = frame.choose_some("Base model", facets.models, "model")
    with second:
        promptings = frame.choose_some("Prompting", facets.promptings, "prompting")
    with third:
        since = st.date_input("Made since", None, key="since", bind="query-params")
        frame.noted("since", since)
    names = {signature_name(signature): signature for signature in facets.signatures}
    with fourth:
        chosen = frame.choose("Signature", [_ALL, *names], "signature")
    if chosen != _ALL:
        st.html(markup.block(names[chosen]))
    filters = Filters(
        models=models, promptings=promptings, since=since, signature=names.get(chosen)
    )
    return leaderboard.filtered(found.methods, filters), models


def signature_name(signature: Signature) -> str:
    """Return a short name for a signature that stays the same in addresses."""
    from mipo_eval.keys import digest
    from mipo_eval.signature import short

    shown = (signature.parts.get(name) for name in ("decoding", "judge", "ties", "version"))
    return f"{short(digest(signature))} \u00b7 {', '.join(part for part in shown if part)}"


def _baseline(found: Standing) -> str:
    """Let the reader choose what rows are compared with: a row, or one for each base model."""
    labels = leaderboard.labels(found.methods)
    usual = comparison.default_baseline(found.methods)
    # What one model does with its user's context is no measure of what another has learnt.
    several = len({method.row.name.model for method in found.methods}) > 1
    own = comparison.own_baselines(found.methods) if several else ()
    options = [_NO_BASELINE, *([_OWN] if own else []), *labels]
    default = 0 if usual is None or several else options.index(labels[usual])
    first, _ = st.columns([2, 1])
    with first:
        default = options.index(_OWN) if own else default
        return frame.choose("\u0394 is the difference to", options, "baseline", default=default)


def _comparisons(
    board: frame.Board, found: Standing, view: View, baseline: str
) -> leaderboard.Comparisons:
    if baseline == _NO_BASELINE:
        return {}
    about = (view, baseline)
    if baseline == _OWN:
        return board.report(comparison.against_own, found, view.judge, about=about)
    row = leaderboard.labels(found.methods).index(baseline)
    return board.report(comparison.against, found, view.judge, row, about=about)


def _layout(found: Standing, *, compared: bool) -> tuple[list[str], str, bool]:
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
        )
    with second:
        order = frame.choose("Sort by", ["mean", "model", "method", *found.section.tasks], "sort")
    with third:
        published = st.toggle("Published rows", True, key="published", bind="query-params")
        frame.noted("published", published)
    return shown, order, published


def _table(found: Standing, table: pd.DataFrame, layout: tuple[list[str], str, str | None]) -> None:
    """Draw the table, what its columns are, and the download."""
    shown, order, baseline = layout
    if table.empty:
        st.info("No row passes the filters.")
        return
    section = found.section
    wide = leaderboard.wide(table, section.tasks, shown, leaderboard.signatures(found.methods))
    best_first = leaderboard.ordered(wide, order, lower=leaderboard.lower_is_better(section.metric))
    st.html(markup.line(_heading(found, table)))
    st.dataframe(
        leaderboard.linked(best_first, found.methods),
        column_config=_column_config(best_first, wide, section.metric),
        hide_index=True,
        placeholder="\u2013",
        height="content" if len(best_first) < 30 else 1_050,
        key="table",
    )
    if notes := leaderboard.notes(table, wide, baseline):
        st.html("".join(markup.line(note) for note in notes))
    frame.download(table.drop(columns="row"), f"leaderboard-{section.suite}", key="csv")


def _heading(found: Standing, table: pd.DataFrame) -> str:
    section = found.section
    models = table["model"].unique()
    common = f", {models[0]}" if len(models) == 1 else ""
    by = f", judged by {section.judge}" if section.judge else ""
    return f"{section.suite}: {markup.metric_title(section.metric)}{by}{common}"


def _column_config(table: pd.DataFrame, wide: leaderboard.Wide, metric: str) -> dict[str, Any]:
    places = decimals(metric)
    config: dict[str, Any] = {
        "model": st.column_config.TextColumn("model", width="medium"),
        "method": st.column_config.TextColumn("method", pinned=True, width=170),
        "items": st.column_config.LinkColumn(
            "items", display_text="open", width="small", help="Responses and verdicts behind it"
        ),
    }
    for name in table:
        part = leaderboard.part_of(str(name))
        if name in wide.values:
            config[str(name)] = st.column_config.NumberColumn(format=f"%.{places}f")
        elif part == leaderboard.COLUMNS["delta"]:
            config[str(name)] = st.column_config.NumberColumn(format=f"%+.{places}f")
        elif part in {leaderboard.COLUMNS["detectable"], leaderboard.COLUMNS["seeds"]}:
            config[str(name)] = st.column_config.NumberColumn(format=f"%.{places}f")
        elif part == leaderboard.COLUMNS["ties"]:
            config[str(name)] = st.column_config.NumberColumn(format="%.0f")
        elif part == leaderboard.COLUMNS["p"]:
            config[str(name)] = st.column_config.NumberColumn(format="%.2g")
        elif part == leaderboard.COLUMNS["date"]:
            config[str(name)] = st.column_config.DateColumn()
    return config


def _behind(found: Standing, rows: Sequence[Method]) -> None:
    """Show where the numbers of one row come from."""
    st.subheader("Behind a row")
    if not rows:
        return
    names = dict(zip(leaderboard.labels(rows), rows, strict=True))
    method = names[frame.choose("Row", list(names), "row")]
    for task, cell in method.row.cells.items():
        places = decimals(found.section.metric)
        about = f"{task}: {markup.number(cell.value, places)} {markup.interval(cell.ci95, places)}"
        st.html(markup.block(method.signatures[task], name=about))
        for run in method.runs.get(task, ()):
            with st.container(horizontal=True):
                frame.link("pairs", f"Items of {run_name(run)}", a=run_name(run), **{TASK: task})
                frame.link("run", f"Run {run.run_id[:8]}", run=run_name(run))


WIN_RATE = "win rate (%)"
TIES = {
    "win_rate_tie_inclusive": "a win (paper)",
    "win_rate_half_ties": "half",
    "win_rate_strict": "a loss",
    "win_rate_excluding_ties": "left out",
    "net_win_rate": "wins \u2212 losses",
}
"""Metric to what a tie counts as under it."""
NO_JUDGE = "without a judge"


def choose_view(known: Sequence[Topic]) -> View:
    """Let the reader choose suite, judge, number and rule for ties."""
    suites = list(dict.fromkeys(topic.suite for topic in known))
    first, second, third = st.columns(3)
    with first:
        suite = frame.choose("Suite", suites, "suite")
    of_suite = [topic for topic in known if topic.suite == suite]
    with second:
        topic = frame.choose("Judge", of_suite, "judge", show=judge_name)
    with third:
        metric = frame.choose("Number", number_names(topic), "metric", show=markup.metric_title)
    if metric == WIN_RATE:
        metric = frame.switch("A tie with the reference is", _rules(topic), "ties")
    return View(
        suite=suite,
        judge=topic.judge.key if topic.judge else None,
        metric=metric,
        rules=frame.row_rules(),
    )


def first_views(known: Sequence[Topic]) -> list[View]:
    """Return what `choose_view` chooses while nobody has chosen, then with the other rules."""
    topic = known[0]
    metric = number_names(topic)[0]
    return [
        View(
            suite=topic.suite,
            judge=topic.judge.key if topic.judge else None,
            metric=one,
            rules=frame.row_rules(),
        )
        for one in (_rules(topic) if metric == WIN_RATE else [metric])
    ]


def _rules(topic: Topic) -> dict[str, str]:
    """Return the rules for ties whose win rate is stored, or follows from one that is."""
    derived = DERIVED if METRIC_NAMES["win"] in topic.metrics else ()
    return {rule: told for rule, told in TIES.items() if rule in {*topic.metrics, *derived}}


def judge_name(topic: Topic) -> str:
    """Return what the judge of a topic is called in options and addresses."""
    return topic.judge.label if topic.judge else NO_JUDGE


def number_names(topic: Topic) -> list[str]:
    """Return the numbers of a topic, the usual ones first; win rates are one, ruled by ties."""
    rates = [name for name in topic.metrics if name in TIES]
    found = [WIN_RATE] * bool(rates) + [name for name in topic.metrics if name not in TIES]
    usual = [WIN_RATE, "accuracy", *LABELS]
    return sorted(found, key=lambda name: usual.index(name) if name in usual else len(usual))
