"""A judge's noise: what comes out otherwise when the same is asked again.

A value of an item is what the judge makes of it on average, plus noise that another asking draws
anew. The variance between askings, averaged over items, is the noise's; over the number of items it
is the noise's part of the variance of their mean, whatever the items have in common.
"""

import math
from dataclasses import dataclass

import numpy as np

from mipo_eval.stats.bootstrap import Floats, Interval, Labels
from mipo_eval.stats.estimates import estimates
from mipo_eval.stats.intervals import rate_intervals


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeNoise:
    """How much of a number is the judge's noise; units are those of the values."""

    items: int
    """Items with two answers or more."""
    sd: float
    """Standard deviation of one item's value between askings."""
    sd_ci95: Interval | None
    error: float
    """Standard error that the noise alone gives to the mean over all items."""
    share: float | None
    """0-100: the noise's part of the variance behind the mean's interval; None where that is 0 or
    not known."""
    share_ci95: Interval | None


def judge_noise(
    answers: Floats, groups: Labels, values: Floats, all_groups: Labels
) -> JudgeNoise | None:
    """Return the noise in a mean over items, from some of them that were asked about again.

    Args:
        answers: (items asked again, askings) values; NaN where an asking brought none.
        groups: one label for each of these items, see `bootstrap.Dependence`.
        values: (items,) of all items, as first asked; NaN is left out.
        all_groups: one label for each of all items.

    Returns:
        None where not one item has two answers.
    """
    counts = (~np.isnan(answers)).sum(axis=1)
    told = counts > 1
    if not told.any():
        return None
    own = None if groups is None else [groups[row] for row in np.flatnonzero(told).tolist()]
    between = np.nanvar(answers[told], axis=1, ddof=1)
    noise = float(between.mean())
    # As rates in percent of the most there can be: an interval that holds near both ends. The most
    # is where half of the answers are at either end of values that vary as much as all items do.
    n = int(counts[told].min())
    halves = (n // 2) * (n - n // 2) / (n * (n - 1))
    most = max(float(between.max()), 4 * halves * float(np.nanvar(values)))
    rate = rate_intervals(100 * between[:, None] / most, own)[0] if most else None
    ends = rate and (rate[0] * most / 100, rate[1] * most / 100)
    whole = estimates(values, all_groups)
    variance = float(whole.items[0] * whole.errors[0] ** 2)
    known = variance > 0
    return JudgeNoise(
        items=int(told.sum()),
        sd=math.sqrt(noise),
        sd_ci95=ends and (math.sqrt(ends[0]), math.sqrt(ends[1])),
        error=math.sqrt(noise / whole.items[0]),
        share=min(100.0, 100 * noise / variance) if known else None,
        share_ci95=_ratio(noise, ends, variance, float(whole.degrees[0]))
        if known and ends
        else None,
    )


def _ratio(part: float, ends: Interval, variance: float, degrees: float) -> Interval:
    """Return the interval, 0-100, of a part of a variance with so many degrees of freedom.

    From the intervals of both (MOVER, Donner and Zou 2012), that of the variance by chi-squared.
    """
    from scipy.special import chdtri

    low, high = (degrees * variance / float(chdtri(degrees, tail)) for tail in (0.025, 0.975))
    product = part * variance

    def end(own: float, other: float, sign: int) -> float:
        under = own * other * (2 * part - own) * (2 * variance - other)
        root = math.sqrt(max(0.0, product**2 - under))
        return (product + sign * root) / (other * (2 * variance - other))

    found = (end(ends[0], high, -1), end(ends[1], low, 1))
    return min(max(0.0, 100 * found[0]), 100.0), min(max(0.0, 100 * found[1]), 100.0)
