"""How the board's numbers look: formats, names of metrics with units, colours."""

import math
from collections.abc import Sequence

from mipo_eval.reports.labels import LABELS

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#8C8C8C")
"""Okabe and Ito's colours without black and yellow, which vanish on dark and on light."""


def metric_title(metric: str, control: str = "") -> str:
    """Return a metric's name with its unit; one of another tool is called what that calls it."""
    title = LABELS.get(metric, metric.replace("_", " "))
    return f"{control}: {title}" if control else title


def number(value: float | None, places: int = 1, *, signed: bool = False) -> str:
    """Return a number as text; an absent one is a dash, never zero."""
    if value is None or math.isnan(value):
        return "\u2013"
    return f"{value:{'+' if signed else ''},.{places}f}".replace("-", "\u2212")


def interval(ends: Sequence[float] | None, places: int = 1) -> str:
    """Return an interval as text; an absent one is empty."""
    if ends is None:
        return ""
    return f"[{number(ends[0], places)}, {number(ends[1], places)}]"


def count(done: int, what: str) -> str:
    """Return "1 run" or "2 runs"."""
    return f"{done:,} {what}" + ("" if done == 1 else "s")
