"""Tables and plots of rows against each other: forest, win rates, judges by method, length."""

from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

import altair as alt
import pandas as pd

from mipo_eval.dashboards.contrasts import Outcome, duels
from mipo_eval.dashboards.inert import label
from mipo_eval.dashboards.links import TASK, address, run_name
from mipo_eval.dashboards.looks import PALETTE
from mipo_eval.dashboards.methods import Standing, labels
from mipo_eval.reports.agreement import JudgesAgreement
from mipo_eval.stats import Comparison

TOLD, NOT_TOLD = "told apart (p < 0.05, Holm)", "not told apart"
_ROW = 26
_NAMES = 260
"""Pixels for names on an axis."""
_SLANTED = 170
_MATRIX_ROW = 36
_CELLS = 30
"""Rows and columns of a matrix with the numbers written in its cells, at most."""


def forest_table(
    found: Standing, comparisons: Mapping[tuple[int, str], Comparison], baseline: int
) -> pd.DataFrame:
    """Return one row per comparison with the baseline: difference, interval, tests, items.

    Columns: row, task, difference, low, high, p, verdict (`TOLD` or `NOT_TOLD`), detectable, n,
    wins, ties, losses, items (address of the pairs behind it).
    """
    names = labels(found.methods)
    rows = []
    for (row, task), pair in comparisons.items():
        low, high = pair.ci95 or (None, None)
        p = pair.p_permutation if pair.p_adjusted is None else pair.p_adjusted
        runs = [found.methods[place].runs.get(task, ()) for place in (row, baseline)]
        behind = None
        if all(runs):
            behind = {"a": run_name(runs[0][0]), "b": run_name(runs[1][0]), TASK: task}
        rows.append(
            {
                "row": label(names[row]),
                "task": task,
                "difference": pair.difference,
                "low": low,
                "high": high,
                "p": p,
                "verdict": TOLD if pair.significant() else NOT_TOLD,
                "detectable": pair.detectable,
                "n": pair.n,
                "wins": pair.wins,
                "ties": pair.ties,
                "losses": pair.losses,
                "items": address("pairs", **behind) if behind else None,
            }
        )
    columns = ["row", "task", "difference", "low", "high", "p", "verdict", "detectable", "n"]
    return pd.DataFrame(rows, columns=[*columns, "wins", "ties", "losses", "items"])


def forest_plot(table: pd.DataFrame, axis: str) -> alt.LayerChart:
    """Return a line a row: the paired difference as a dot, its 95 % interval as a bar, 0 marked.

    Args:
        table: of `forest_table`, one task.
        axis: what the differences are of, with its unit.
    """
    rows = list(table.sort_values("difference", ascending=False)["row"])
    names = _axis(rows)
    colour = alt.Color(
        "verdict:N",
        scale=alt.Scale(domain=[TOLD, NOT_TOLD], range=[PALETTE[0], PALETTE[6]]),
        legend=alt.Legend(title=None, orient="bottom", columns=1, symbolOpacity=1),
    )
    tooltip: list[Any] = [alt.Tooltip("row:N", title="method")]
    tooltip += [alt.Tooltip(f"{n}:Q", format="+.2f") for n in ("difference", "low", "high")]
    tooltip += [alt.Tooltip("p:Q", format=".3g"), alt.Tooltip("detectable:Q", format=".2f")]
    tooltip += [alt.Tooltip(f"{name}:Q") for name in ("n", "wins", "ties", "losses")]
    base = alt.Chart(table).encode(
        y=alt.Y("row:N", sort=rows, title=None, axis=names), color=colour, tooltip=tooltip
    )
    under = alt.Axis(titleAnchor="end")  # a long one runs on below the names of the rows
    low, middle = (alt.X(f"{n}:Q", title=axis, axis=under) for n in ("low", "difference"))
    bars = base.mark_rule(strokeWidth=2).encode(x=low, x2="high:Q")
    dots = base.mark_point(filled=True, size=80, opacity=1).encode(x=middle)
    zero = alt.Chart(pd.DataFrame({"zero": [0]})).mark_rule(strokeDash=[4, 3], color=PALETTE[6])
    layers = [zero.encode(x=alt.X("zero:Q", title=axis, axis=under)), bars, dots]
    # The height is that of the whole: rows, axis, legend.
    return alt.LayerChart(layer=layers).properties(height=_ROW * len(rows) + 150)


def _axis(names: Sequence[str]) -> alt.Axis:
    longest = max((len(name) for name in names), default=0)
    limit = min(_NAMES, 8 * longest + 8)
    return alt.Axis(labelLimit=limit, labelFlush=False, domain=False, ticks=False)


def _slanted() -> alt.Axis:
    return alt.Axis(
        labelLimit=_SLANTED,
        labelAngle=-40,
        labelOverlap=False,  # each column needs its name, however narrow it is
        domain=False,
        ticks=False,
        orient="bottom",
    )


def duel_table(found: Standing, outcome: Outcome, *, lower: bool) -> pd.DataFrame:
    """Return one row per ordered pair: first, second, rate (percent), wins, ties, losses."""
    names = labels(found.methods)
    return pd.DataFrame(
        [
            {
                "first": label(names[duel.first]),
                "second": label(names[duel.second]),
                "rate": duel.rate,
                "wins": duel.wins,
                "ties": duel.ties,
                "losses": duel.losses,
            }
            for duel in duels(outcome, lower=lower)
        ],
        columns=["first", "second", "rate", "wins", "ties", "losses"],
    )


def judge_table(standings: Mapping[str, Standing], task: str) -> pd.DataFrame:
    """Return every judge's number of every row of a task: judge, row, value, n.

    Args:
        standings: name of the judge to its leaderboard, all of the same metric.
        task: which data set.
    """
    rows = []
    for judge, found in standings.items():
        for name, method in zip(labels(found.methods), found.methods, strict=True):
            cell = method.row.cells.get(task)
            if cell is not None and cell.value is not None:
                rows.append(
                    {"judge": label(judge), "row": label(name), "value": cell.value, "n": cell.n}
                )
    return pd.DataFrame(rows, columns=["judge", "row", "value", "n"])


def agreement_table(found: Sequence[JudgesAgreement]) -> pd.DataFrame:
    """Return agreements both ways round: first, second, share, kappa, n."""
    rows = [
        {
            "first": label(names[0]),
            "second": label(names[1]),
            **one.verdicts._asdict(),
        }
        for one in found
        for names in permutations((one.first.label, one.second.label))
    ]
    return pd.DataFrame(rows, columns=["first", "second", "share", "kappa", "n"])


def matrix_plot(
    table: pd.DataFrame, *, rows: str, columns: str, value: str, title: str, ends: tuple[float, ...]
) -> alt.LayerChart:
    """Return a heat map with its numbers.

    Args:
        table: one row a cell.
        rows: column that names the rows.
        columns: column that names the columns.
        value: column with the numbers.
        title: of the colours, with the unit.
        ends: lowest, middle (may be left out) and highest value of the colours.
    """
    downwards, across = (list(dict.fromkeys(table[name])) for name in (rows, columns))
    across = downwards if set(across) == set(downwards) else across
    # Both ends far from the middle are dark in one theme or the other: numbers get a colour each.
    colours = [PALETTE[3], "#F5F5F5", PALETTE[0]] if len(ends) == 3 else ["#F5F5F5", PALETTE[0]]
    scale = alt.Scale(domain=list(ends), range=colours, clamp=True)
    tooltip: list[Any] = [alt.Tooltip(f"{name}:N") for name in (rows, columns)]
    tooltip += [
        alt.Tooltip(f"{name}:Q", format=".3~f")
        for name in table
        if name not in {rows, columns} and pd.api.types.is_numeric_dtype(table[name])
    ]
    base = alt.Chart(table).encode(
        y=alt.Y(f"{rows}:N", sort=downwards, title=None, axis=_axis(downwards)),
        x=alt.X(f"{columns}:N", sort=across, title=None, axis=_slanted()),
        tooltip=tooltip,
    )
    written = len(downwards) <= _CELLS and len(across) <= _CELLS
    legend = None if written else alt.Legend(title=title, orient="top")
    layers = [base.mark_rect().encode(color=alt.Color(f"{value}:Q", scale=scale, legend=legend))]
    if written:
        layers.append(
            base.mark_text(fontSize=12).encode(
                text=alt.Text(f"{value}:Q", format=".2f" if ends[-1] <= 1 else ".0f"),
                color=alt.condition(_dark(value, ends), alt.value("#FFFFFF"), alt.value("#1B1E24")),
            )
        )
    # The height is that of the whole: rows, the slanted names below them, a legend above.
    slanted = 0.65 * min(_SLANTED, 7 * max(len(name) for name in across) + 10)
    height = round(_MATRIX_ROW * len(downwards) + slanted + (30 if written else 110))
    return alt.LayerChart(layer=layers).properties(height=height)


def _dark(value: str, ends: tuple[float, ...]) -> str:
    """Return Vega's condition for cells so dark that their number has to be white."""
    span = ends[-1] - ends[-2]
    high = f"datum.{value} > {ends[-2] + 0.6 * span}"
    low = f" || datum.{value} < {ends[1] - 0.75 * (ends[1] - ends[0])}" if len(ends) == 3 else ""
    return high + low


def length_table(
    found: Standing, lengths: Mapping[str, Outcome], outcomes: Mapping[str, Outcome]
) -> pd.DataFrame:
    """Return each row's mean length and number: row, task, tokens, value.

    Args:
        found: whose rows.
        lengths: by task, response lengths in tokens.
        outcomes: by task, the leaderboard's numbers.
    """
    import numpy as np

    names = labels(found.methods)
    rows = []
    for task, measured in lengths.items():
        for column, row in enumerate(measured.rows):
            values = outcomes.get(task)
            if values is None or row not in values.rows:
                continue
            own = values.values[:, values.rows.index(row)]
            rows.append(
                {
                    "row": label(names[row]),
                    "task": task,
                    "tokens": float(np.nanmean(measured.values[:, column])),
                    "value": float(np.nanmean(own)),
                }
            )
    return pd.DataFrame(rows, columns=["row", "task", "tokens", "value"])


def length_plot(table: pd.DataFrame, axis: str) -> alt.Chart:
    """Return a dot a row: mean length of its responses across, its number upwards.

    Args:
        table: of `length_table`.
        axis: what the numbers are, with their unit.
    """
    names = list(dict.fromkeys(table["row"]))
    told: dict[str, Any] = {}
    if len(names) <= len(PALETTE):
        legend = alt.Legend(title=None, orient="bottom", columns=1, labelLimit=_NAMES)
        scale = alt.Scale(domain=names, range=list(PALETTE))
        told["color"] = alt.Color("row:N", scale=scale, legend=legend)
    tooltip: list[Any] = [alt.Tooltip("row:N", title="method"), alt.Tooltip("task:N")]
    tooltip += [alt.Tooltip(f"{name}:Q", format=".1f") for name in ("tokens", "value")]
    roomy = alt.Scale(zero=False, padding=20)
    plot: alt.Chart = (
        alt.Chart(table)
        .mark_point(filled=True, size=90, opacity=0.9)
        .encode(
            x=alt.X("tokens:Q", title="response length (tokens)", scale=roomy),
            y=alt.Y("value:Q", title=axis, scale=roomy),
            tooltip=tooltip,
            **told,
        )
        .properties(height=330 + 20 * len(names) * bool(told))
    )
    return plot
