"""The leaderboard: methods x data sets."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import streamlit as st

from mipo_eval.dashboards import contrasts, flags, frame, grid, inert, looks, methods
from mipo_eval.dashboards.links import TASK, run_name
from mipo_eval.dashboards.methods import Filters, Method, Standing, View
from mipo_eval.dashboards.pages.views import choose_view
from mipo_eval.reports.labels import decimals
from mipo_eval.signature import Signature

_NO_BASELINE = "none"
_OWN = "the same base model with personalized prompting"
_ALL = "all"


def show() -> None:
    """Draw the page."""
    board = frame.begin("Leaderboard", "Methods by data sets, as in the paper's Table 1.")
    known = board.report(methods.topics)
    if not known:
        frame.nothing_yet("no run has finished")
    view = choose_view(known)
    found = board.report(methods.standing, view)
    if found is None:
        frame.nothing_yet("no number of this kind: choose another judge or metric")
    _flags(board, view)
    baseline = _baseline(found)
    with st.expander("Filters, columns, order", icon=":material/tune:"):
        rows, models = _filtered(found)
        shown, order, published = _layout(found, compared=baseline != _NO_BASELINE)
    measured = grid.number_table(found, rows, _comparisons(board, found, view, baseline))
    if published:
        paper = grid.paper_numbers(found, models)
        measured = pd.concat([measured, paper], ignore_index=True) if len(paper) else measured
    _table(found, measured, (shown, order, None if baseline == _NO_BASELINE else baseline))
    _behind(found, rows)
    frame.share("leaderboard")


def _flags(board: frame.Board, view: View) -> None:
    broken = board.report(flags.failings, view.judge) if view.judge else []
    if broken:
        st.error("This judge fails its validation: do not believe these numbers.")
        st.html(inert.block("\n".join(broken)))
    winning = board.report(flags.winning_controls, view.suite, view.judge)
    if winning:
        st.warning("Controls that must not do well do as well as a model under this judge.")
        st.html(inert.block("\n".join(winning)))


def _filtered(found: Standing) -> tuple[list[Method], list[str]]:
    """Let the reader filter rows; returns what is left, and the base models asked for."""
    facets = methods.facets(found)
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
        st.html(inert.block(names[chosen]))
    filters = Filters(
        models=models, promptings=promptings, since=since, signature=names.get(chosen)
    )
    return methods.filtered(found.methods, filters), models


def signature_name(signature: Signature) -> str:
    """Return a short name for a signature that stays the same in addresses."""
    from mipo_eval.keys import digest
    from mipo_eval.signature import short

    shown = (signature.parts.get(name) for name in ("decoding", "judge", "ties", "version"))
    return f"{short(digest(signature))} \u00b7 {', '.join(part for part in shown if part)}"


def _baseline(found: Standing) -> str:
    """Let the reader choose what rows are compared with: a row, or one for each base model."""
    labels = methods.labels(found.methods)
    usual = contrasts.default_baseline(found.methods)
    # What one model does with its user's context is no measure of what another has learnt.
    several = len({method.row.name.model for method in found.methods}) > 1
    own = contrasts.own_baselines(found.methods) if several else ()
    options = [_NO_BASELINE, *([_OWN] if own else []), *labels]
    default = 0 if usual is None or several else options.index(labels[usual])
    first, _ = st.columns([2, 1])
    with first:
        default = options.index(_OWN) if own else default
        return frame.choose("\u0394 is the difference to", options, "baseline", default=default)


def _comparisons(
    board: frame.Board, found: Standing, view: View, baseline: str
) -> grid.Comparisons:
    if baseline == _NO_BASELINE:
        return {}
    about = (view, baseline)
    if baseline == _OWN:
        return board.report(contrasts.against_own, found, view.judge, about=about)
    row = methods.labels(found.methods).index(baseline)
    return board.report(contrasts.against, found, view.judge, row, about=about)


def _layout(found: Standing, *, compared: bool) -> tuple[list[str], str, bool]:
    """Let the reader choose columns, order, and whether published rows are shown."""
    first, second, third = st.columns([2, 1, 1], vertical_alignment="bottom")
    with first:
        usual = [name for name in grid.SHOWN if compared or name != "delta"]
        shown = frame.choose_some(
            "Columns", list(grid.COLUMNS), "columns", default=usual, show=grid.COLUMNS.__getitem__
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
    wide = grid.wide(table, section.tasks, shown, methods.signatures(found.methods))
    best_first = grid.ordered(wide, order, lower=grid.lower_is_better(section.metric))
    st.html(inert.line(_heading(found, table)))
    st.dataframe(
        grid.linked(best_first, found.methods),
        column_config=_column_config(best_first, wide, section.metric),
        hide_index=True,
        placeholder="\u2013",
        height="content" if len(best_first) < 30 else 1_050,
        key="table",
    )
    if notes := grid.notes(table, wide, baseline):
        st.html("".join(inert.line(note) for note in notes))
    frame.download(table.drop(columns="row"), f"leaderboard-{section.suite}", key="csv")


def _heading(found: Standing, table: pd.DataFrame) -> str:
    section = found.section
    models = table["model"].unique()
    common = f", {models[0]}" if len(models) == 1 else ""
    by = f", judged by {section.judge}" if section.judge else ""
    return f"{section.suite}: {looks.metric_title(section.metric)}{by}{common}"


def _column_config(table: pd.DataFrame, wide: grid.Wide, metric: str) -> dict[str, Any]:
    places = decimals(metric)
    config: dict[str, Any] = {
        "model": st.column_config.TextColumn("model", width="medium"),
        "method": st.column_config.TextColumn("method", pinned=True, width=170),
        "items": st.column_config.LinkColumn(
            "items", display_text="open", width="small", help="Responses and verdicts behind it"
        ),
    }
    for name in table:
        part = grid.part_of(str(name))
        if name in wide.values:
            config[str(name)] = st.column_config.NumberColumn(format=f"%.{places}f")
        elif part == grid.COLUMNS["delta"]:
            config[str(name)] = st.column_config.NumberColumn(format=f"%+.{places}f")
        elif part in {grid.COLUMNS["detectable"], grid.COLUMNS["seeds"]}:
            config[str(name)] = st.column_config.NumberColumn(format=f"%.{places}f")
        elif part == grid.COLUMNS["ties"]:
            config[str(name)] = st.column_config.NumberColumn(format="%.0f")
        elif part == grid.COLUMNS["p"]:
            config[str(name)] = st.column_config.NumberColumn(format="%.2g")
        elif part == grid.COLUMNS["date"]:
            config[str(name)] = st.column_config.DateColumn()
    return config


def _behind(found: Standing, rows: Sequence[Method]) -> None:
    """Show where the numbers of one row come from."""
    st.subheader("Behind a row")
    if not rows:
        return
    names = dict(zip(methods.labels(rows), rows, strict=True))
    method = names[frame.choose("Row", list(names), "row")]
    for task, cell in method.row.cells.items():
        places = decimals(found.section.metric)
        about = f"{task}: {looks.number(cell.value, places)} {looks.interval(cell.ci95, places)}"
        st.html(inert.block(method.signatures[task], name=about))
        for run in method.runs.get(task, ()):
            with st.container(horizontal=True):
                frame.link("pairs", f"Items of {run_name(run)}", a=run_name(run), **{TASK: task})
                frame.link("run", f"Run {run.run_id[:8]}", run=run_name(run))
