"""A leaderboard as a picture: a row a method, its value and interval on one line, what is sure.

It is HTML without a script: the first page needs no library that draws, and is there at once.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from mipo_eval.dashboards.markup import interval, label, number
from mipo_eval.reports.leaderboard import Cell

_OUTCOMES = ("win", "tie", "loss")
OUTCOMES = '<span class="mipo-key">' + " ".join(f"<span>{one}</span>" for one in _OUTCOMES)
OUTCOMES += "</span>"
"""The legend of `share_bar`."""
STYLE = """<style>
.mipo-headline { font-size: 1.35rem; line-height: 1.4; font-weight: 600; margin: .2rem 0 .6rem;
  overflow-wrap: anywhere; unicode-bidi: isolate; }
.mipo-scroll { overflow-x: auto; }
.mipo-forest { width: 100%; border-collapse: collapse; font-size: .875rem; }
.mipo-forest caption { position: absolute; width: 1px; height: 1px; overflow: hidden;
  clip-path: inset(50%); }
.mipo-forest th { text-align: left; font-weight: 400; opacity: .85; padding: .1rem .5rem;
  vertical-align: bottom; }
.mipo-forest td { padding: .25rem .5rem; border-top: 1px solid rgba(128, 128, 128, .25);
  vertical-align: middle; overflow-wrap: anywhere; }
.mipo-forest td.name { min-width: 12rem; unicode-bidi: isolate; }
.mipo-forest td.name small { display: block; opacity: .85; }
.mipo-forest .num { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.mipo-line { position: relative; height: 1.4rem; min-width: 9rem; }
.mipo-line i { position: absolute; top: .65rem; height: 2px; background: currentColor; }
.mipo-line b { position: absolute; top: .35rem; width: .7rem; height: .7rem; margin-left: -.35rem;
  border-radius: 50%; background: currentColor; border: 2px solid; box-sizing: border-box; }
.mipo-line b.hollow { background: transparent; }
.mipo-line em { position: absolute; top: .7rem; transform: translate(-50%, -50%);
  border-radius: 50%; background: #009E73; opacity: .65; }
.mipo-line u { position: absolute; top: -.3rem; bottom: -.3rem; border-left: 2px dashed;
  opacity: .5; }
.mipo-line s { position: absolute; top: -.3rem; bottom: -.3rem; background: rgba(230, 159, 0, .3); }
.mipo-forest tr.running .mipo-line i { background: repeating-linear-gradient(to right,
  currentColor 0 5px, transparent 5px 9px); }
.mipo-forest tr.alike { background: rgba(0, 114, 178, .12); }
.mipo-forest a { color: inherit; }
.mipo-ticks { position: relative; height: 1.2rem; min-width: 9rem; white-space: nowrap; }
.mipo-ticks span { position: absolute; transform: translateX(-50%); font-size: .75rem; }
.mipo-share { display: flex; height: .8rem; min-width: 6rem; }
.mipo-share.wide { height: 1.7rem; line-height: 1.7rem; text-align: center; font-weight: 600;
  margin: .2rem 0 .5rem; }
.mipo-share span:nth-child(1), .mipo-key span:nth-child(1)::before { background: #0072B2; }
.mipo-share span:nth-child(2), .mipo-key span:nth-child(2)::before { background: #B4B4B4; }
.mipo-share span:nth-child(3), .mipo-key span:nth-child(3)::before { background: #E69F00; }
.mipo-share span { color: #1B1E24; }
.mipo-share span:nth-child(1) { color: #FFFFFF; }
.mipo-key { white-space: nowrap; }
.mipo-key span { margin-right: .5rem; }
.mipo-key span::before { content: ""; display: inline-block; width: .7rem; height: .7rem;
  margin-right: .2rem; }
.mipo-forest .drawn { width: 28%; }
.mipo-part { white-space: nowrap; }
@media (max-width: 1400px) {
  .mipo-forest td, .mipo-forest th { padding-left: .35rem; padding-right: .35rem; } }
@media (max-width: 1100px) { .mipo-forest .mipo-wide { display: none; }
  .mipo-forest th.mipo-gain { white-space: normal; } .mipo-forest td.name { min-width: 9rem; }
  .mipo-forest .mipo-gain .mipo-part:last-child:not(:only-child) { display: block; } }
@media (max-width: 900px) { .mipo-forest .mipo-gain { display: none; } }
@media (max-width: 640px) { .mipo-forest .rank { display: none; }
  .mipo-forest .num .mipo-part { display: block; font-size: .8rem; }
  .mipo-forest td.name { min-width: 5rem; }
  .mipo-forest .mipo-line, .mipo-forest .mipo-ticks { min-width: 6rem; }
  .mipo-forest td, .mipo-forest th { padding: .25rem .3rem; }
  .mipo-ticks span:nth-child(even) { display: none; } }
</style>"""
"""Set once a page; holds no data. The text keeps the theme's colour on light and on dark."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForestRow:
    """A row of the picture; texts are plain and may hold data."""

    name: str
    about: str = ""
    """Base model and prompting, below the name."""
    value: float
    ci95: tuple[float, float] | None = None
    rank: str = ""
    gain: tuple[str, ...] = ()
    """Its parts, none of which is broken."""
    shares: tuple[float, float, float] | None = None
    """Win, tie and loss against the references, in percent."""
    n: str = ""
    link: str | None = None
    """Address of the items behind it."""
    alike: bool = False
    """Whether it is not told apart from the best."""
    published: bool = False
    running: bool = False
    """Whether more of its items are still to come."""
    dots: tuple[tuple[float, float], ...] = ()
    """Values that it is a mean of, as of single seeds, each with its size (rem)."""
    band: tuple[float, float] | None = None
    """A tinted part of the scale."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """What values are drawn along, and what is marked on it."""

    title: str
    """What the values are, with their unit."""
    places: int
    """Decimals of the values."""
    line: float | None = None
    """Where the line stands that values are compared with."""
    ends: tuple[float, float] | None = None
    """Lowest and highest possible value, if there are any."""
    signed: bool = False
    gain: str = "\u0394 to the baseline [95 %]"
    """What stands in `ForestRow.gain`."""


def forest(rows: Sequence[ForestRow], scale: Scale, about: str = "") -> str:
    """Return the HTML of the picture; a column that no row has anything for is not there.

    Args:
        rows: best first.
        scale: what their values are.
        about: what the picture says, for those who do not see it.
    """
    known = [x for row in rows for x in (row.value, *(row.ci95 or ()), *(row.band or ()))]
    known += [value for row in rows for value, _ in row.dots]
    known += [] if scale.line is None else [scale.line]
    axis = _axis(known, scale.ends)
    ticks = "".join(
        f'<span style="left: {_at(tick, axis)}">{number(tick, _places(tick))}</span>'
        for tick in _ticks(*axis)
    )
    drawn = f'{escape(label(scale.title))}<div class="mipo-ticks" aria-hidden="true">{ticks}</div>'
    counted = "n (unscored)" if any("(" in row.n for row in rows) else "n"
    valued = "value [95 %]" if any(row.ci95 for row in rows) else "value"
    columns = [
        _Column("rank", "num rank", lambda row: escape(row.rank)),
        _Column("", "name", _named),
        _Column(drawn, "drawn", lambda row: _drawn(row, axis, scale)),
        _Column(valued, "num", lambda row: _value(row, scale)),
        _Column(scale.gain, "num mipo-gain", lambda row: _lines(row.gain) if row.gain else ""),
        _Column(OUTCOMES, "mipo-wide", lambda row: share_bar(row.shares) if row.shares else ""),
        _Column(counted, "num mipo-wide", lambda row: escape(row.n)),
        _Column("items", "mipo-wide", _opened),
    ]
    cells = [[column.of(row) for row in rows] for column in columns]
    told = [(column, of) for column, of in zip(columns, cells, strict=True) if any(of)]
    head = "".join(f'<th scope="col" class="{one.style}">{one.title}</th>' for one, _ in told)
    lines = "".join(
        f'<tr class="{"alike" * row.alike}{"running" * row.running}">'
        + "".join(f'<td class="{one.style}" dir="auto">{of[place]}</td>' for one, of in told)
        + "</tr>"
        for place, row in enumerate(rows)
    )
    told_of = f"{label(about, 400)} {_finding(rows, scale)}".strip()
    caption = f"<caption>{escape(told_of)}</caption>" if told_of else ""
    table = f'<table class="mipo-forest">{caption}<tr>{head}</tr>{lines}</table>'
    return f'<div class="mipo-scroll">{table}</div>'


def _finding(rows: Sequence[ForestRow], scale: Scale) -> str:
    """Return what the picture shows, for those who do not see it."""
    if len(rows) < 2:
        return ""
    ends = [pick(rows, key=lambda row: row.value) for pick in (max, min)]
    high, low = (f"{label(row.name)}, {number(row.value, scale.places)}" for row in ends)
    return f"Highest: {high}; lowest: {low}."


class _Column(NamedTuple):
    title: str
    style: str
    of: Callable[[ForestRow], str]


def _axis(known: Sequence[float], ends: tuple[float, float] | None) -> tuple[float, float]:
    """Return from where to where values are drawn: no narrower than a tenth of the largest."""
    low, high = min(known), max(known)
    room = max(0.05 * (high - low), 0.05 * max(abs(low), abs(high)), 1e-9)
    least, most = ends or (-math.inf, math.inf)
    return max(low - room, least), min(high + room, most)


def _ticks(low: float, high: float) -> list[float]:
    """Return at most seven round numbers within an axis."""
    size = 10.0 ** math.floor(math.log10((high - low) / 6))
    step = next(size * n for n in (1, 2, 5, 10) if (high - low) / (size * n) < 7)
    return [step * n for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _at(value: float, axis: tuple[float, float]) -> str:
    return f"{100 * (value - axis[0]) / (axis[1] - axis[0]):.2f}%"


def _places(tick: float) -> int:
    return max(len(f"{tick:.6f}".rstrip("0").partition(".")[2]), 0)


def _named(row: ForestRow) -> str:
    about = f"<small>{escape(label(row.about))}</small>" if row.about else ""
    return escape(label(row.name)) + about


def _drawn(row: ForestRow, axis: tuple[float, float], scale: Scale) -> str:
    line = ""
    if row.band:
        low, high = (_at(x, axis) for x in row.band)
        line += f'<s style="left: {low}; right: calc(100% - {high})"></s>'
    if scale.line is not None:
        line += f'<u style="left: {_at(scale.line, axis)}"></u>'
    if row.ci95:
        low, high = (_at(min(max(x, axis[0]), axis[1]), axis) for x in row.ci95)
        line += f'<i style="left: {low}; right: calc(100% - {high})"></i>'
    line += "".join(
        f'<em style="left: {_at(value, axis)}; width: {size:.2f}rem; height: {size:.2f}rem"></em>'
        for value, size in row.dots
    )
    hollow = "hollow" if row.published or row.running else ""
    line += f'<b class="{hollow}" style="left: {_at(row.value, axis)}"></b>'
    return f'<div class="mipo-line" aria-hidden="true">{line}</div>'


def _value(row: ForestRow, scale: Scale) -> str:
    told = number(row.value, scale.places, signed=scale.signed)
    return _lines([told, interval(row.ci95, scale.places, signed=scale.signed)])


def _lines(parts: Sequence[str]) -> str:
    """Return parts of a cell that stand side by side, or below each other where that is narrow."""
    first, *others = (escape(part) for part in parts if part)
    return first + "".join(f' <span class="mipo-part">{one}</span>' for one in others)


def share_bar(shares: Sequence[float], *, wide: bool = False) -> str:
    """Return the HTML of a bar of win, tie and loss.

    Args:
        shares: in percent.
        wide: whether the numbers stand in it.
    """
    told = ", ".join(
        f"{name} {number(share)} %" for name, share in zip(_OUTCOMES, shares, strict=True)
    )
    within = [number(share, 0) if wide and share >= 6 else "" for share in shares]
    bars = "".join(
        f'<span style="width: {share:.1f}%">{text}</span>'
        for share, text in zip(shares, within, strict=True)
    )
    style = "mipo-share wide" if wide else "mipo-share"
    return f'<div class="{style}" role="img" aria-label="{told}" title="{told}">{bars}</div>'


def _opened(row: ForestRow) -> str:
    if not row.link:
        return ""
    told = escape(f"Items of {label(row.name)}")
    return f'<a href="{escape(row.link)}" aria-label="{told}">see</a>'
