"""A leaderboard as a picture: a row a method, its value and interval on one line, what is sure.

It is HTML without a script: the first page needs no library that draws, and is there at once.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from mipo_eval.dashboards.markup import interval, label, number
from mipo_eval.reports.leaderboard import Cell

STYLE = """<style>
.mipo-headline { font-size: 1.35rem; line-height: 1.4; font-weight: 600; margin: .2rem 0 .6rem;
  overflow-wrap: anywhere; unicode-bidi: isolate; }
.mipo-forest { width: 100%; border-collapse: collapse; font-size: .875rem; }
.mipo-forest th { text-align: left; font-weight: 400; opacity: .8; padding: .1rem .5rem; }
.mipo-forest td { padding: .3rem .5rem; border-top: 1px solid rgba(128, 128, 128, .25);
  vertical-align: middle; overflow-wrap: anywhere; }
.mipo-forest td.name { min-width: 11rem; unicode-bidi: isolate; }
.mipo-forest td.name small { display: block; opacity: .8; }
.mipo-forest .num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.mipo-line { position: relative; height: 1.4rem; min-width: 9rem; }
.mipo-line i { position: absolute; top: .65rem; height: 2px; background: currentColor; }
.mipo-line b { position: absolute; top: .35rem; width: .7rem; height: .7rem; margin-left: -.35rem;
  border-radius: 50%; background: currentColor; border: 2px solid; box-sizing: border-box; }
.mipo-line b.hollow { background: transparent; }
.mipo-line u { position: absolute; top: -.35rem; bottom: -.35rem; border-left: 2px dashed;
  opacity: .5; }
.mipo-forest tr.alike { background: rgba(0, 114, 178, .12); }
.mipo-forest a { color: inherit; }
.mipo-ticks { position: relative; height: 1.2rem; min-width: 9rem; white-space: nowrap; }
.mipo-ticks span { position: absolute; transform: translateX(-50%); font-size: .75rem; }
.mipo-share { display: flex; height: .8rem; min-width: 6rem; }
.mipo-share span:nth-child(1) { background: #0072B2; }
.mipo-share span:nth-child(2) { background: rgba(128, 128, 128, .45); }
.mipo-share span:nth-child(3) { background: #E69F00; }
.mipo-forest .drawn { width: 34%; }
@media (max-width: 1000px) { .mipo-forest .mipo-wide { display: none; } }
@media (max-width: 640px) { .mipo-forest .rank { display: none; }
  .mipo-forest td.num { white-space: normal; } .mipo-forest td.name { min-width: 5rem; }
  .mipo-forest .mipo-line, .mipo-forest .mipo-ticks { min-width: 6rem; }
  .mipo-forest td, .mipo-forest th { padding: .25rem .3rem; }
  .mipo-ticks span:nth-child(even) { display: none; } }
</style>"""
"""Set once a page; holds no data. The text keeps the theme's colour on light and on dark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestRow:
    """A row of the picture; texts are plain and may hold data."""

    name: str
    about: str
    """Base model and prompting, below the name."""
    value: float
    ci95: tuple[float, float] | None = None
    rank: str = ""
    gain: str = ""
    shares: tuple[float, float, float] | None = None
    """Win, tie and loss against the references, in percent."""
    n: str = ""
    link: str | None = None
    """Address of the items behind it."""
    alike: bool = False
    """Whether it is not told apart from the best."""
    published: bool = False


def rank_text(cell: Cell) -> str:
    """Return a rank with the range it may be in."""
    if cell.rank is None:
        return ""
    low, high = cell.rank_ci95 or (cell.rank, cell.rank)
    return str(cell.rank) if low == high else f"{low}\u2013{high}"


def shares(metric: str, cell: Cell) -> tuple[float, float, float] | None:
    """Return the shares of wins, ties and losses that a win rate and its tie rate stand for."""
    if cell.value is None or cell.tie_rate is None:
        return None
    value, tie = cell.value, cell.tie_rate
    wins = {
        "win_rate_tie_inclusive": value - tie,
        "win_rate_half_ties": value - tie / 2,
        "win_rate_strict": value,
        "win_rate_excluding_ties": value * (100 - tie) / 100,
        "net_win_rate": (value + 100 - tie) / 2,
    }.get(metric)
    return None if wins is None else (wins, tie, 100 - wins - tie)


def forest(
    rows: Sequence[ForestRow],
    title: str,
    *,
    baseline: float | None,
    places: int,
    ends: tuple[float, float] | None = None,
) -> str:
    """Return the HTML of the picture.

    Args:
        rows: best first.
        title: what the values are, with their unit.
        baseline: where the line of the baseline stands.
        places: decimals of the values.
        ends: lowest and highest possible value, if there are any.
    """
    known = [x for row in rows for x in (row.value, *(row.ci95 or ()))]
    axis = _axis(known if baseline is None else [*known, baseline], ends)
    drawn = "".join(_row(row, axis, baseline, places) for row in rows)
    ticks = "".join(
        f'<span style="left: {_at(tick, axis)}">{tick:g}</span>' for tick in _ticks(*axis)
    )
    heads: Mapping[str, str] = {
        "rank": "num rank",
        "method": "",
        f'{escape(label(title))}<div class="mipo-ticks">{ticks}</div>': "drawn",
        "value [95 %]": "num",
        "\u0394 to the baseline [95 %]": "num mipo-wide",
        "win | tie | loss": "mipo-wide",
        "n (unscored)": "num mipo-wide",
        "items": "mipo-wide",
    }
    head = "".join(f'<th scope="col" class="{of}">{name}</th>' for name, of in heads.items())
    return f'<table class="mipo-forest"><tr>{head}</tr>{drawn}</table>'


def _axis(known: Sequence[float], ends: tuple[float, float] | None) -> tuple[float, float]:
    """Return from where to where values are drawn: no narrower than a tenth of the largest."""
    low, high = min(known), max(known)
    room = max(0.05 * (high - low), 0.05 * max(abs(low), abs(high)), 1e-9)
    least, most = ends or (-math.inf, math.inf)
    return max(low - room, least), min(high + room, most)


def _ticks(low: float, high: float) -> list[float]:
    """Return at most six round numbers within an axis."""
    size = 10.0 ** math.floor(math.log10((high - low) / 5))
    step = next(size * n for n in (1, 2, 5, 10) if (high - low) / (size * n) <= 5)
    return [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _at(value: float, axis: tuple[float, float]) -> str:
    return f"{100 * (value - axis[0]) / (axis[1] - axis[0]):.2f}%"


def _row(row: ForestRow, axis: tuple[float, float], baseline: float | None, places: int) -> str:
    line = "" if baseline is None else f'<u style="left: {_at(baseline, axis)}"></u>'
    if row.ci95:
        low, high = (_at(min(max(x, axis[0]), axis[1]), axis) for x in row.ci95)
        line += f'<i style="left: {low}; right: calc(100% - {high})"></i>'
    hollow = "hollow" if row.published else ""
    line += f'<b class="{hollow}" style="left: {_at(row.value, axis)}"></b>'
    parts = ""
    if row.shares:
        told = " | ".join(number(share) for share in row.shares)
        bars = "".join(f'<span style="width: {share:.1f}%"></span>' for share in row.shares)
        parts = (
            f'<div class="mipo-share" role="img" aria-label="{told}" title="{told}">{bars}</div>'
        )
    opened = ""
    if row.link:
        told = escape(f"Items of {label(row.name)}")
        opened = f'<a href="{escape(row.link)}" aria-label="{told}">open</a>'
    name = f"{escape(label(row.name))}<small>{escape(label(row.about))}</small>"
    value = f"{number(row.value, places)} {interval(row.ci95, places)}"
    cells = (
        f'<td class="num rank">{escape(row.rank)}</td><td class="name" dir="auto">{name}</td>'
        f'<td><div class="mipo-line" aria-hidden="true">{line}</div></td>'
        f'<td class="num">{value}</td><td class="num mipo-wide">{escape(row.gain)}</td>'
        f'<td class="mipo-wide">{parts}</td><td class="num mipo-wide">{escape(row.n)}</td>'
        f'<td class="mipo-wide">{opened}</td>'
    )
    return f'<tr class="{"alike" if row.alike else ""}">{cells}</tr>'
