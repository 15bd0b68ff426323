"""What a leaderboard says in one sentence: who wins, by how much, is it sure, can the judge be."""

import math
from collections.abc import Mapping, Sequence

from mipo_eval.dashboards.markup import interval, number
from mipo_eval.dashboards.tables.leaderboard import Comparisons, labels, p_of
from mipo_eval.evaluation.outcomes import ENDS
from mipo_eval.metrics.aggregate import direction, sign
from mipo_eval.reports.labels import decimals, metric_title
from mipo_eval.reports.leaderboard import Cell, Row, Section
from mipo_eval.reports.names import told_apart
from mipo_eval.stats.paired import Comparison
from mipo_eval.store.judges import NOTHING_APART

_DOUBT = "This judge fails its validation. If it is believed: "
_NAMED = 3
"""Methods named in a list; of more, the number is told."""


def short_names(rows: Sequence[Row]) -> list[str]:
    """Return what rows are called beside each other, in full where less does not tell."""
    full, names = labels(rows), told_apart([row.name for row in rows])
    alone = [names.count(name) == 1 for name in names]
    return [name if one else long for name, long, one in zip(names, full, alone, strict=True)]


def headline(
    found: Section,
    task: str,
    against: Comparisons,
    baseline: str | None,
    failing: Sequence[str] = (),
) -> str:
    """Return the sentence that answers first.

    Args:
        found: the leaderboard.
        task: of which data set.
        against: its rows compared with the baseline.
        baseline: what that is called; None without one.
        failing: why the judge must not be believed.
    """
    if constant := _constant(failing):
        return constant
    names = short_names(found.rows)
    cells = {
        place: row.cells[task]
        for place, row in enumerate(found.rows)
        if task in row.cells and row.cells[task].value is not None
    }
    pairs = {row: pair for (row, of), pair in against.items() if of == task}
    said = _said(found.metric, cells, names, pairs, baseline or "the baseline")
    return _DOUBT + said.replace("No method", "no method", 1) if failing else said


def _constant(failing: Sequence[str]) -> str:
    """Return what is said of a judge that tells nothing apart; nothing of any other."""
    told = [why.removeprefix(NOTHING_APART) for why in failing if why.startswith(NOTHING_APART)]
    if not told:
        return ""
    ties = " always ties" if told[0].endswith("are ties") else " tells nothing apart"
    return f"No ranking: this judge{ties} ({told[0]})."


def of_two(
    metric: str,
    pair: Comparison | None,
    names: tuple[str, str],
    failing: Sequence[str] = (),
    several: int = 1,
) -> str:
    """Return the sentence that says which of two methods is better.

    Args:
        metric: what they are compared by.
        pair: the first against the second; None where they share nothing.
        names: of both.
        failing: why the judge must not be believed.
        several: over how many comparisons its p-value is corrected.
    """
    if constant := _constant(failing):
        return constant
    first, second = names
    if pair is None:
        none = "no item has a value of both that was measured alike"
        return f"{first} and {second} cannot be compared: {none}."
    way = direction(metric)
    way_up, unit = sign(metric), unit_of(metric)
    told = _gain(metric, pair, unit, "")
    told += f", corrected for {several} comparisons" if several > 1 and p_of(pair) else ""
    doubt = _DOUBT if failing else ""
    if not pair.significant():
        better = "to be better" if way else "to differ"
        neither = "neither" if failing else "Neither"
        shown = f"{neither} {first} nor {second} is shown {better}: {told}"
        return f"{doubt}{shown}; {_could_show(metric, {0: pair})}."
    ahead = way_up * pair.difference > 0
    verb = ("beats" if ahead else "is beaten by") if way else ("is above" if ahead else "is below")
    return f"{doubt}{first} {verb} {second}: {told}."


def unit_of(metric: str) -> str:
    """Return what stands behind a value of a metric."""
    return " %" if "(%)" in metric_title(metric) else ""


def _said(  # noqa: PLR0911 - a situation each
    metric: str,
    cells: Mapping[int, Cell],
    names: Sequence[str],
    pairs: Mapping[int, Comparison],
    baseline: str,
) -> str:
    way_up, unit = sign(metric), unit_of(metric)
    ordered = sorted(cells, key=lambda place: -way_up * _level(cells[place]))
    if not ordered:
        return "Nothing is measured yet."
    first = ordered[0]
    leads = f"{names[first]} leads with {_value(metric, cells[first], unit)}"
    if len(ordered) == 1:
        only = f"{names[first]} has {_value(metric, cells[first], unit)}"
        return f"{only}; there is no other method to compare it with yet."
    if direction(metric) is None:
        low, high = (
            f"{names[one]} with {_value(metric, cells[one], unit)}" for one in (ordered[-1], first)
        )
        return f"The lowest is {low}, the highest {high}; neither is better for it."
    if all(cell.rank is None for cell in cells.values()):
        return f"{leads}; these numbers have no values item by item, so nothing can be tested."
    alike = _alike(first, ordered, cells, names)
    if not pairs:
        return f"{leads}; {alike}."
    better = [
        place
        for place in ordered
        if (pair := pairs.get(place)) and pair.significant() and way_up * pair.difference > 0
    ]
    if first in better:
        return f"{leads}: {_gain(metric, pairs[first], unit, f' over {baseline}')}; {alike}."
    if better:
        gain = _gain(metric, pairs[better[0]], unit, "")
        return f"{leads}; {names[better[0]]} is shown to beat {baseline}: {gain}."
    return f"No method is shown to beat {baseline}; {_could_show(metric, pairs)}."


def _level(cell: Cell) -> float:
    return (cell.value or 0.0) if cell.level is None else cell.level


def _value(metric: str, cell: Cell, unit: str) -> str:
    seeds = f" (mean of {cell.seeds} seeds)" if cell.seeds > 1 else ""
    return f"{number(cell.value, decimals(metric))}{unit}{seeds}"


def _gain(metric: str, pair: Comparison, unit: str, over: str) -> str:
    places = decimals(metric)
    within = f" {interval(pair.ci95, places, signed=True)}" if pair.ci95 else ""
    p = p_of(pair)
    told = "" if p is None else f", {p_text(p)}"
    points = " points" if unit else ""
    return f"{number(pair.difference, places, signed=True)}{points}{over}{within}{told}"


def p_text(p: float) -> str:
    """Return a p-value as text."""
    return "p < 0.001" if p < 0.001 else f"p = {p:.3f}"


def _alike(
    first: int, ordered: Sequence[int], cells: Mapping[int, Cell], names: Sequence[str]
) -> str:
    """Return from which other rows the first one is not told apart."""
    letters = set(cells[first].letters)
    same = [names[place] for place in ordered[1:] if letters & set(cells[place].letters)]
    if not same:
        return "told apart from every other method"
    listed = ", ".join(same) if len(same) <= _NAMED else f"{len(same)} others"
    return f"not distinguishable from {listed}"


def beyond(metric: str, difference: float) -> bool:
    """Return whether values of a metric cannot differ by so much."""
    low, high = ENDS.get(metric, (-math.inf, math.inf))
    return difference > high - low


def _could_show(metric: str, pairs: Mapping[int, Comparison]) -> str:
    known = [(pair.detectable, pair.n) for pair in pairs.values() if pair.detectable is not None]
    if not known:
        return "too few items are shared to say more"
    least, n = min(known)
    if beyond(metric, least):
        return f"these {n:,} items are too few, or of too few prompts or users, to show any"
    unit = unit_of(metric)
    points = " points" if unit else ""
    return f"these {n:,} items could show {number(least, 0 if unit else 2)}{points}"
