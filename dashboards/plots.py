"""The forms of plots that pages share: measured numbers are filled marks, published ones hollow.

Every plot takes the width it is given.
"""

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from mipo_eval.dashboards.looks import PALETTE
from mipo_eval.dashboards.scored import MEASURED, PAPER

GREY = PALETTE[-1]
_TWO_LINES = (
    "indexof(datum.label, ' \u00b7 ') < 0 ? datum.label : "
    "[substring(datum.label, 0, indexof(datum.label, ' \u00b7 ')), "
    "substring(datum.label, indexof(datum.label, ' \u00b7 ') + 3)]"
)
"""Vega's expression for a row's name: its model above the rest of it."""
_ROW_HEIGHT, _TWO_LINE_HEIGHT, _AXIS_HEIGHT, _LEGEND_HEIGHT, _LEGEND_LINE = 26, 36, 72, 36, 30
"""Pixels; a page gives a plot its height with axis and legend in it."""
_LABEL_WIDTH = 190
"""Pixels for the names of rows; longer names are cut, the tooltip has them in full."""
_TABLE_ROWS = 60
"""More rows than this are no plot any more; the table below has them all."""


def colour_by(frame: pd.DataFrame, field: str, *, legend: bool = True) -> alt.Color:
    """Return a colour per value of a field, in order of appearance, with its legend below."""
    values = [str(value) for value in dict.fromkeys(frame[field].dropna())]
    scale = alt.Scale(domain=values, range=[PALETTE[n % len(PALETTE)] for n in range(len(values))])
    below = (
        alt.Legend(
            title=None,
            orient="bottom",
            columns=_legend_columns(values),
            labelLimit=280,
            symbolLimit=30,
            symbolOpacity=1,
        )
        if legend and len(values) > 1
        else None
    )
    return alt.Color(f"{field}:N", scale=scale, legend=below)


def _legend_columns(values: Sequence[str]) -> int:
    """Return how many entries stand side by side, also on a telephone."""
    return 1 if max(map(len, values)) > 22 else 2


def legend_height(frame: pd.DataFrame, field: str) -> int:
    """Return the pixels that the legend of `colour_by` takes."""
    values = [str(value) for value in dict.fromkeys(frame[field].dropna())]
    if len(values) < 2:
        return 0
    return _LEGEND_HEIGHT + _LEGEND_LINE * -(-len(values) // _legend_columns(values))


def interval_plot(
    frame: pd.DataFrame,
    *,
    axis: str,
    row: str = "row",
    colour: str = "method",
    zero: bool = False,
) -> alt.LayerChart:
    """Return one line a row with its values as dots and their intervals as bars.

    Args:
        frame: columns `value`, `low`, `high`, `source` as in `scored.COLUMNS`, `row` and `colour`.
        axis: what the values are, with their unit.
        row: column that names the lines.
        colour: column that colours the dots.
        zero: whether the axis starts at 0.
    """
    rows = list(dict.fromkeys(frame[row]))[:_TABLE_ROWS]
    shown = frame[frame[row].isin(rows) & frame["value"].notna()]
    two = any(" \u00b7 " in str(name) for name in rows)
    y = _named_rows(row, rows, two_lines=two)
    scale = alt.Scale(zero=zero, nice=True, padding=0 if zero else 8)
    named = [n for n in ("model", "method", "variant", "seed", "task", "n", "source") if n in shown]
    tooltip: list[Any] = [*(alt.Tooltip(f"{name}:N") for name in named)]
    tooltip += [alt.Tooltip(f"{name}:Q", format=".4g") for name in ("value", "low", "high")]
    under = alt.Axis(titleAnchor="end")  # a long one runs on below the names of the rows
    # Where the names of the rows say what the colours do, a legend would only take their room.
    told = all(str(name) in str(line) for line, name in zip(shown[row], shown[colour], strict=True))
    colours = colour_by(shown, colour, legend=not told)
    base = alt.Chart(shown).encode(y=y, color=colours, tooltip=tooltip)
    bars = (
        base.transform_filter(alt.datum.low != None)  # noqa: E711 - an expression of Vega
        .mark_rule(strokeWidth=2, opacity=0.7)
        .encode(
            x=alt.X("low:Q", scale=scale, title=axis, axis=under),
            x2="high:Q",
            strokeDash=alt.condition(
                alt.datum.source == PAPER, alt.value([2, 3]), alt.value([1, 0])
            ),
        )
    )
    x = alt.X("value:Q", scale=scale, title=axis, axis=under)
    filled = (
        base.transform_filter(alt.datum.source == MEASURED)
        .mark_point(filled=True, size=80, opacity=1)
        .encode(x=x)
    )
    hollow = (
        base.transform_filter(alt.datum.source == PAPER)
        .mark_point(filled=False, size=80, strokeWidth=2, opacity=1)
        .encode(x=x)
    )
    height = (_TWO_LINE_HEIGHT if two else _ROW_HEIGHT) * len(rows) + _AXIS_HEIGHT
    height += 0 if told else legend_height(shown, colour)
    return alt.LayerChart(layer=[bars, filled, hollow]).properties(height=height)


def _named_rows(row: str, rows: Sequence[Any], *, two_lines: bool) -> alt.Y:
    """Return the lines of a plot in their order, with their names beside them."""
    axis = alt.Axis(
        labelExpr=_TWO_LINES,
        labelLimit=_LABEL_WIDTH,
        labelFlush=False,
        labelFontSize=11,
        labelLineHeight=12,
        labelOffset=-6 if two_lines else 0,  # half a line up, so that both stand around the row's
        grid=True,
        domain=False,
        ticks=False,
    )
    return alt.Y(f"{row}:N", sort=list(rows), title=None, axis=axis)


def line_plot(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    axes: tuple[str, str],
    colour: str,
    height: int = 280,
) -> alt.LayerChart:
    """Return one line per value of `colour`, over faint dots of what it was smoothed from.

    Args:
        frame: columns `x`, `y`, `colour`, and `smooth` for the line.
        x: column along the bottom.
        y: column of the dots.
        axes: titles of both axes, with units.
        colour: column that tells the lines apart.
        height: of the plot without its legend, in pixels.
    """
    base = alt.Chart(frame).encode(
        x=alt.X(f"{x}:Q", title=axes[0], axis=alt.Axis(grid=False)),
        color=colour_by(frame, colour),
        tooltip=[
            alt.Tooltip(f"{colour}:N"),
            alt.Tooltip(f"{x}:Q"),
            alt.Tooltip(f"{y}:Q", format=".4g"),
        ],
    )
    scale = alt.Scale(zero=False)
    dots = base.mark_point(filled=True, size=14, opacity=0.35).encode(
        y=alt.Y(f"{y}:Q", title=axes[1], scale=scale)
    )
    lines = base.mark_line(strokeWidth=2).encode(y=alt.Y("smooth:Q", title=axes[1], scale=scale))
    total = height + legend_height(frame, colour)
    return alt.LayerChart(layer=[dots, lines]).properties(height=total)
