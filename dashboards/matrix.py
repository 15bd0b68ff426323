"""A table of numbers with a colour for each: who beats whom, who agrees with whom.

Columns are numbered, and so are the rows of the same name: names stay level, and are read once.
"""

from collections.abc import Mapping, Sequence
from html import escape

from mipo_eval.dashboards.markup import label, number

STYLE = """<style>
.mipo-matrix { border-collapse: separate; border-spacing: 2px; font-size: .875rem; }
.mipo-matrix th { font-weight: 400; text-align: left; padding: .1rem .5rem;
  min-width: 9rem; max-width: 22rem; overflow-wrap: anywhere; unicode-bidi: isolate; }
.mipo-matrix th.column { text-align: center; opacity: .85; padding: .1rem; min-width: 2.6rem; }
.mipo-matrix td { text-align: center; min-width: 2.6rem; height: 2rem;
  font-variant-numeric: tabular-nums; }
.mipo-ramp { display: flex; align-items: center; gap: .5rem; font-size: .875rem;
  margin: 0 0 .4rem; }
.mipo-ramp i { width: 10rem; height: .7rem; }
</style>"""
"""Set once a page; holds no data."""

_Colour = tuple[int, int, int]
_LOW, _PALE, _HIGH = (213, 94, 0), (245, 245, 245), (0, 114, 178)


def matrix(
    cells: Mapping[tuple[str, str], float],
    names: tuple[Sequence[str], Sequence[str]],
    title: str,
    ends: tuple[float, ...],
    places: int = 0,
) -> str:
    """Return the HTML of a matrix with its legend above.

    Args:
        cells: by row and column; one that is absent stays empty.
        names: of rows and of columns.
        title: what the numbers are, with their unit.
        ends: lowest, middle (may be left out) and highest value of the colours.
        places: decimals.
    """
    rows, columns = names
    same = list(rows) == list(columns)
    head = "".join(
        f'<th scope="col" class="column" title="{escape(label(name))}">{place}</th>'
        for place, name in enumerate(columns, 1)
    )
    lines = "".join(
        f'<tr><th scope="row" dir="auto">{f"{place}&ensp;" * same}{escape(label(row))}</th>'
        + "".join(_cell(cells.get((row, column)), ends, places) for column in columns)
        + "</tr>"
        for place, row in enumerate(rows, 1)
    )
    ramp = ", ".join(_css(_colour(end, ends)) for end in ends)
    shown = [number(end, places) for end in (ends[0], ends[-1])]
    legend = (
        f'<div class="mipo-ramp">{escape(label(title))}: {shown[0]}'
        f'<i style="background: linear-gradient(to right, {ramp})"></i>{shown[1]}</div>'
    )
    key = "" if same else _key(columns)
    table = f'<table class="mipo-matrix"><tr><th></th>{head}</tr>{lines}</table>'
    return f'{legend}{key}<div class="mipo-scroll">{table}</div>'


def _key(columns: Sequence[str]) -> str:
    told = "; ".join(f"{place} {label(name)}" for place, name in enumerate(columns, 1))
    return f'<div class="mipo-label" dir="auto">{escape(told)}</div>'


def _cell(value: float | None, ends: Sequence[float], places: int) -> str:
    if value is None or value != value:  # noqa: PLR0124 - NaN
        return "<td></td>"
    colour = _colour(value, ends)
    ink = "#FFFFFF" if _light(colour) < 0.18 else "#000000"  # either has a contrast of 4.5
    style = f"background: {_css(colour)}; color: {ink}"
    return f'<td style="{style}">{number(value, places)}</td>'


def _colour(value: float, ends: Sequence[float]) -> _Colour:
    """Return the colour of a value: pale in the middle, or at the low end where there is none."""
    low, high = ends[0], ends[-1]
    middle = ends[1] if len(ends) == 3 else low
    value = min(max(value, low), high)
    end, span = (_HIGH, high - middle) if value >= middle else (_LOW, low - middle)
    share = (value - middle) / span if span else 0.0
    red, green, blue = (round(p + share * (e - p)) for p, e in zip(_PALE, end, strict=True))
    return red, green, blue


def _css(colour: _Colour) -> str:
    return "#{:02X}{:02X}{:02X}".format(*colour)


def _light(colour: _Colour) -> float:
    """Return the relative luminance of a colour (WCAG)."""
    parts = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
