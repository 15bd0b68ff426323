"""The forms of plots that pages share: measured numbers are filled marks, published ones hollow.

Every plot takes the width it is given.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import altair as alt
import pandas as pd

from mipo_eval.dashboards.markup import MEASURED, PAPER
from mipo_eval.stats.bootstrap import Interval

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C8C8C")
"""Okabe and Ito's colours without black and yellow, which vanish on dark and on light."""
ENTROPY_AXIS = "answer entropy (nats)"
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
_TICKS = 6
_NAMES = 260
"""Pixels for names on an axis."""


def colour_by(frame: pd.DataFrame, field: str, *, legend: bool = True) -> alt.Color:
    """Return a colour per value of a field, in order of appearance, with its legend above."""
    values = [str(value) for value in dict.fromkeys(frame[field].dropna())]
    scale = alt.Scale(domain=values, range=[PALETTE[n % len(PALETTE)] for n in range(len(values))])
    above = (
        alt.Legend(
            title=None,
            orient="top",
            columns=_legend_columns(values),
            labelLimit=280,
            symbolLimit=30,
            symbolOpacity=1,
        )
        if legend and len(values) > 1
        else None
    )
    return alt.Color(f"{field}:N", scale=scale, legend=above)


def _legend_columns(values: Sequence[str]) -> int:
    """Return how many entries stand side by side, also on a telephone."""
    return 1 if max(map(len, values)) > 22 else 2


def legend_height(frame: pd.DataFrame, field: str) -> int:
    """Return the pixels that the legend of `colour_by` takes."""
    values = [str(value) for value in dict.fromkeys(frame[field].dropna())]
    if len(values) < 2:
        return 0
    return _LEGEND_HEIGHT + _LEGEND_LINE * -(-len(values) // _legend_columns(values))


def _spread(
    *columns: Iterable[float],
    ends: Interval | None = None,
    zero: bool = False,
    margin: float = 0.06,
) -> alt.Scale:
    """Return a scale over values that may all be equal: its span is a tenth of them at least.

    Ticks of a narrower one would have sixteen digits, and noise would look like a difference. It
    does not go beyond the ends that values have.
    """
    known = [float(v) for column in columns for v in column if v is not None and not pd.isna(v)]
    low, high = (min(known), max(known)) if known else (0.0, 1.0)
    low, high = (min(low, 0.0), max(high, 0.0)) if zero else (low, high)
    missing = (0.1 * max(abs(low), abs(high)) or 1.0) - (high - low)
    if missing > 0:
        low, high = low - (0 if zero else missing / 2), high + missing / (1 if zero else 2)
    room = 0.0 if zero else margin * (high - low)
    least, most = ends or (low - room, high + room)
    domain = [max(low - room, least), min(high + room, most)]
    return alt.Scale(domain=domain, nice=_TICKS, zero=zero)


def _numbers(**more: Any) -> alt.Axis:
    """Return an axis of numbers with a few short ticks ("~g" would make 1e+1 of 10, 20, 30)."""
    return alt.Axis(tickCount=_TICKS, format="~r", **more)


def interval_plot(
    frame: pd.DataFrame,
    *,
    axis: str,
    colour: str = "method",
    zero: bool = False,
    ends: Interval | None = None,
) -> alt.LayerChart:
    """Return one line a row with its values as dots and their intervals as bars.

    Args:
        frame: columns `value`, `low`, `high`, `source`, as in `tables.scores.COLUMNS`, and `row`
            and `colour`.
        axis: what the values are, with their unit.
        colour: column that colours the dots.
        zero: whether the axis starts at 0.
        ends: lowest and highest possible value.
    """
    rows = list(dict.fromkeys(frame["row"]))[:_TABLE_ROWS]
    shown = frame[frame["row"].isin(rows) & frame["value"].notna()]
    two = any(" \u00b7 " in str(name) for name in rows)
    y = _named_rows(rows, two_lines=two)
    scale = _spread(shown["value"], shown["low"], shown["high"], ends=ends, zero=zero)
    named = [n for n in ("model", "method", "variant", "seed", "task", "n", "source") if n in shown]
    tooltip: list[Any] = [*(alt.Tooltip(f"{name}:N") for name in named)]
    tooltip += [alt.Tooltip(f"{name}:Q", format=".4g") for name in ("value", "low", "high")]
    under = _numbers(titleAnchor="end")  # a long one runs on below the names of the rows
    # Where the names of the rows say what the colours do, a legend would only take their room.
    told = all(
        str(name) in str(line) for line, name in zip(shown["row"], shown[colour], strict=True)
    )
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


def _named_rows(rows: Sequence[Any], *, two_lines: bool) -> alt.Y:
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
    return alt.Y("row:N", sort=list(rows), title=None, axis=axis)


def line_plot(
    frame: pd.DataFrame,
    *,
    x: str,
    y: str,
    axes: tuple[str, str],
    colour: str,
    ends: Interval | None = None,
) -> alt.LayerChart:
    """Return one line per value of `colour`, over faint dots of what it was smoothed from.

    Args:
        frame: columns `x`, `y`, `colour`, and `smooth` for the line.
        x: column along the bottom.
        y: column of the dots.
        axes: titles of both axes, with units.
        colour: column that tells the lines apart.
        ends: lowest and highest possible value upwards.
    """
    base = alt.Chart(frame).encode(
        x=alt.X(f"{x}:Q", title=axes[0], axis=_numbers(grid=False)),
        color=colour_by(frame, colour),
        tooltip=[
            alt.Tooltip(f"{colour}:N"),
            alt.Tooltip(f"{x}:Q"),
            alt.Tooltip(f"{y}:Q", format=".4g"),
        ],
    )
    about: dict[str, Any] = {"title": axes[1], "axis": _numbers()}
    about["scale"] = _spread(frame[y], ends=ends)
    dots = base.mark_point(filled=True, size=14, opacity=0.35).encode(y=alt.Y(f"{y}:Q", **about))
    lines = base.mark_line(strokeWidth=2).encode(y=alt.Y("smooth:Q", **about))
    total = 280 + legend_height(frame, colour)
    return alt.LayerChart(layer=[dots, lines]).properties(height=total)


def slope_plot(
    table: pd.DataFrame, axis: str, marked: Sequence[str], ends: Interval | None = None
) -> alt.LayerChart:
    """Return a line a method across judges: where lines cross, judges order methods otherwise.

    Args:
        table: columns judge, row, value.
        axis: what the values are, with their unit.
        marked: rows in a colour of their own; the others are grey.
        ends: lowest and highest possible value.
    """
    judges = list(dict.fromkeys(table["judge"]))
    known = [name for name in marked if name in set(table["row"])]
    shown = table.assign(line=[row if row in known else "others" for row in table["row"]])
    scale = alt.Scale(domain=[*known, "others"], range=[*PALETTE[: len(known)], GREY])
    legend = alt.Legend(title=None, orient="top", columns=1, labelLimit=_NAMES, symbolOpacity=1)
    level = alt.Axis(labelAngle=0, labelLimit=160, domain=False, ticks=False)
    base = alt.Chart(shown).encode(
        x=alt.X("judge:N", sort=judges, title=None, axis=level, scale=alt.Scale(padding=0.3)),
        y=alt.Y("value:Q", title=axis, scale=_spread(shown["value"], ends=ends), axis=_numbers()),
        detail="row:N",
        color=alt.Color("line:N", scale=scale, legend=legend),
        opacity=alt.condition(alt.datum.line == "others", alt.value(0.45), alt.value(1.0)),
        tooltip=[
            alt.Tooltip("row:N", title="method"),
            "judge:N",
            alt.Tooltip("value:Q", format=".4g"),
        ],
    )
    layers = [base.mark_line(strokeWidth=2), base.mark_point(filled=True, size=70)]
    return alt.LayerChart(layer=layers).properties(height=340 + 24 * len(known))


def length_plot(table: pd.DataFrame, axis: str, ends: Interval | None = None) -> alt.Chart:
    """Return a dot a row: mean length of its responses across, its number upwards.

    Args:
        table: of `length_table`.
        axis: what the numbers are, with their unit.
        ends: lowest and highest possible number.
    """
    names = list(dict.fromkeys(table["row"]))
    told: dict[str, Any] = {}
    if len(names) <= len(PALETTE):
        legend = alt.Legend(title=None, orient="top", columns=1, labelLimit=_NAMES)
        scale = alt.Scale(domain=names, range=list(PALETTE))
        told["color"] = alt.Color("row:N", scale=scale, legend=legend)
    tooltip: list[Any] = [alt.Tooltip("row:N", title="method"), alt.Tooltip("task:N")]
    tooltip += [alt.Tooltip(f"{name}:Q", format=".1f") for name in ("tokens", "value")]
    across = _spread(table["tokens"], margin=0.1)
    upwards = _spread(table["value"], ends=ends, margin=0.1)
    plot: alt.Chart = (
        alt.Chart(table)
        .mark_point(filled=True, size=90, opacity=0.9)
        .encode(
            x=alt.X("tokens:Q", title="response length (tokens)", scale=across, axis=_numbers()),
            y=alt.Y("value:Q", title=axis, scale=upwards, axis=_numbers()),
            tooltip=tooltip,
            **told,
        )
        .properties(height=330 + 20 * len(names) * bool(told))
    )
    return plot


def rating_plot(frame: pd.DataFrame) -> alt.Chart:
    """Return the share of each rating by judge."""
    shown = frame[frame["rating"].notna()]
    scale = alt.Scale(domain=sorted({1, 2, 3, 4, 5, *shown["rating"].astype(int)}))
    plot: alt.Chart = (
        alt.Chart(shown)
        .mark_bar()
        .encode(
            x=alt.X("rating:O", title="rating (1-5)", axis=alt.Axis(labelAngle=0), scale=scale),
            xOffset=alt.XOffset("judge:N"),
            y=alt.Y("share:Q", title="share of ratings (0-1)", axis=_numbers()),
            color=colour_by(shown, "judge"),
            tooltip=["judge:N", "rating:O", "verdicts:Q", alt.Tooltip("share:Q", format=".3f")],
        )
        .properties(height=260 + legend_height(frame, "judge"))
    )
    return plot


def rating_by_length_plot(frame: pd.DataFrame) -> alt.LayerChart:
    """Return mean ratings by the length of responses, a line a judge, with 95 % intervals."""
    base = alt.Chart(frame).encode(
        x=alt.X("characters:Q", title="length of the response (characters)", axis=_numbers()),
        color=colour_by(frame, "judge"),
    )
    about: dict[str, Any] = {"title": "mean rating (1-5)", "axis": _numbers()}
    about["scale"] = _spread(frame["rating"], frame["low"], frame["high"], ends=(1.0, 5.0))
    bars = base.mark_rule(opacity=0.6).encode(y=alt.Y("low:Q", **about), y2="high:Q")
    y = alt.Y("rating:Q", **about)
    lines = base.mark_line().encode(y=y)
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(
        y=y,
        tooltip=[
            "judge:N",
            alt.Tooltip("start:Q", title="from (characters)"),
            alt.Tooltip("end:Q", title="to (characters)"),
            alt.Tooltip("rating:Q", format=".2f"),
            "responses:Q",
        ],
    )
    return alt.LayerChart(layer=[bars, lines, dots]).properties(
        height=260 + legend_height(frame, "judge")
    )


def calibration_plot(frame: pd.DataFrame, colour: str = "row") -> alt.LayerChart:
    """Return accuracy against confidence per bin, with the diagonal of a calibrated model."""
    square = pd.DataFrame({"confidence": [0.0, 1.0], "accuracy": [0.0, 1.0]})
    unit = alt.Scale(domain=[0, 1])
    x = alt.X("confidence:Q", title="confidence (0-1)", scale=unit, axis=_numbers())
    y = alt.Y("accuracy:Q", title="accuracy (0-1)", scale=alt.Scale(domain=[0, 1]))
    diagonal = alt.Chart(square).mark_line(strokeDash=[4, 4], color=GREY).encode(x=x, y=y)
    base = alt.Chart(frame).encode(x=x, color=colour_by(frame, colour))
    bars = base.mark_rule(opacity=0.5).encode(y=alt.Y("low:Q", title="accuracy (0-1)"), y2="high:Q")
    dots = base.mark_point(filled=True, opacity=1).encode(
        y=y,
        size=alt.Size("questions:Q", legend=None, scale=alt.Scale(range=[20, 220])),
        tooltip=[
            alt.Tooltip(f"{colour}:N"),
            alt.Tooltip("confidence:Q", format=".3f"),
            alt.Tooltip("accuracy:Q", format=".3f"),
            alt.Tooltip("questions:Q"),
        ],
    )
    lines = base.mark_line(opacity=0.6).encode(y=y)
    return alt.LayerChart(layer=[diagonal, bars, lines, dots]).properties(
        height=320 + legend_height(frame, colour)
    )


def entropy_plot(frame: pd.DataFrame, colour: str = "row") -> alt.Chart:
    """Return the spread of entropies; right answers are full lines, wrong ones dashed."""
    plot: alt.Chart = (
        alt.Chart(frame)
        .mark_line(interpolate="step", strokeWidth=2)
        .encode(
            x=alt.X("entropy:Q", title=ENTROPY_AXIS, axis=_numbers()),
            y=alt.Y("share:Q", title="share of questions (0-1)", axis=_numbers()),
            color=colour_by(frame, colour),
            strokeDash=alt.StrokeDash(
                "answer:N",
                scale=alt.Scale(domain=["right", "wrong"], range=[[1, 0], [4, 3]]),
                legend=alt.Legend(title=None, orient="bottom"),
            ),
            tooltip=[
                alt.Tooltip(f"{colour}:N"),
                alt.Tooltip("answer:N"),
                alt.Tooltip("entropy:Q", format=".2f"),
                alt.Tooltip("questions:Q"),
            ],
        )
        .properties(height=290 + legend_height(frame, colour))
    )
    return plot
