"""Intervals of means, of rates, and of shares; what is known where all groups show the same."""

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mipo_eval.stats.bootstrap import Floats, Interval, Labels
from mipo_eval.stats.estimates import Estimates, as_table, estimates, t_quantile


def mean_intervals(
    values: ArrayLike, groups: Labels = None, *, level: float = 0.95
) -> list[Interval | None]:
    """Return the interval of each column's mean, as its items' labels ask for.

    Args:
        values: (items,) or (items, columns); NaN marks an absent value.
        groups: one label per item, see `bootstrap.Dependence`.
        level: coverage aimed at.

    Returns:
        One interval per column; None where fewer than two groups hold a value, or where all groups
        show the same: then nothing says how much groups differ.
    """
    return estimates(values, groups).intervals(level)


def proportion_interval(
    successes: int,
    n: int,
    *,
    method: Literal["wilson", "exact"] = "wilson",
    level: float = 0.95,
) -> Interval:
    """Return the interval of a share of independent yes/no items, 0-1.

    Args:
        successes: how many of the items are a yes.
        n: how many items, at least 1.
        method: "wilson" is close to the level on average; "exact" (Clopper-Pearson) never covers
            less and is for tiny n.
        level: coverage aimed at.
    """
    from scipy.stats import binomtest

    interval = binomtest(successes, n).proportion_ci(confidence_level=level, method=method)
    return float(interval.low), float(interval.high)


def constant_interval(value: float, n_groups: float, span: Interval) -> Interval:
    """Return the exact 95 % interval of a mean when every group shows the same value.

    No sample can tell how rare the unseen is. If a share q of all groups were different, n groups
    alike would be seen with probability (1 - q)^n; the largest q with at least 2.5 % is taken, and
    those groups could have any value of the span. For a rate of 0 or 100 of a span of 0 to 100
    this is the Clopper-Pearson interval.

    Args:
        value: what all groups show.
        n_groups: how many groups.
        span: the lowest and the highest value that an item can have.
    """
    alike = 0.025 ** (1 / n_groups)
    lowest, highest = span
    return value * alike + lowest * (1 - alike), value * alike + highest * (1 - alike)


RATE = (0.0, 100.0)
"""The span of a rate in percent."""
SHARE = (0.0, 1.0)
"""The span of a share, or of a similarity."""
_ROUNDING = 1e-9
"""A share this near to 0 or 1 is that, and an error this small is none."""
NET = (-100.0, 100.0)
"""The span of a net win rate."""


def rate_intervals(values: ArrayLike, groups: Labels = None) -> list[Interval | None]:
    """Return the 95 % interval of every column of rates in percent.

    Wilson's score interval with the number of independent items that would have the clustered
    error, and Student's quantile: it stays within 0 to 100 and holds near both ends. Where all
    groups show the same rate it is `constant_interval`.

    Args:
        values: (items, columns) percentages; NaN marks an absent value.
        groups: one label per item, see `bootstrap.Dependence`.
    """
    table = as_table(values)
    found = estimates(table, groups)
    # In shares from here on. As many items would have to be independent for such an error:
    more, size = _one_more(table, found, RATE) / 100**2, found.degrees + 1
    share = found.means / 100
    variance = rare_variances(table, found, RATE) / 100**2
    with np.errstate(divide="ignore", invalid="ignore"):
        independent = (share * (1 - share) + more / size) / variance
        squared = t_quantile(found.degrees) ** 2 / independent
        center = (share + squared / 2) / (1 + squared)
        half = np.sqrt(squared * share * (1 - share) + squared**2 / 4) / (1 + squared)
    intervals: list[Interval | None] = []
    for column, mean in enumerate(found.means.tolist()):
        if np.isnan(size[column]):
            intervals.append(None)
        elif found.errors[column] == 0:
            intervals.append(constant_interval(mean, float(size[column]), RATE))
        else:
            low, high = center[column] - half[column], center[column] + half[column]
            intervals.append((max(100 * float(low), 0.0), min(100 * float(high), 100.0)))
    return intervals


class OneSide(NamedTuple):
    """The part of values on one side of what is usual, as distances; fields are (columns,)."""

    mean: Floats
    square: Floats
    """Mean of the squares."""

    def at_least(self, distance: Floats, share: Floats) -> "OneSide":
        """Return the same, or one item of that share and distance where the side is empty."""
        empty = self.mean == 0
        mean, square = share * distance, share * distance**2
        return OneSide(np.where(empty, mean, self.mean), np.where(empty, square, self.square))


def sides(table: Floats) -> tuple[OneSide, OneSide]:
    """Return what lies above 0 and what lies below, of (items, columns); NaN is left out."""
    above, below = (
        OneSide(np.nanmean(part, axis=0), np.nanmean(part**2, axis=0))
        for part in (np.maximum(table, 0.0), np.maximum(-table, 0.0))
    )
    return above, below


def variance_at(bound: Floats, above: OneSide, below: OneSide) -> Floats:
    """Return (columns,) the variance of values were their mean `bound`.

    One loss in 200 shows little spread; were losses as frequent as the bound has it, there would be
    more. So what lies above is made rarer and what lies below more frequent by one factor until the
    mean is the bound: a score test, for wins and losses nearly Tango's (1998).

    Args:
        bound: (columns,) a mean to be tested.
        above: of the values that were seen; neither side may be empty, see `OneSide.at_least`.
        below: the same.
    """
    root = np.sqrt(bound**2 + 4 * above.mean * below.mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        factor = (root - bound) / (2 * below.mean)
        return np.asarray(above.square / factor + below.square * factor - bound**2)


_LEAST_VARIANCE = 0.05
"""Of what was seen: below that nothing is made of how rare values would be."""


def span_intervals(values: ArrayLike, groups: Labels, span: Interval) -> list[Interval | None]:
    """Return the 95 % interval of means of values that lie in a span, see `score_intervals`."""
    table = as_table(values)
    return score_intervals(table, estimates(table, groups), span)


def score_intervals(table: Floats, found: Estimates, span: Interval) -> list[Interval | None]:
    """Return the 95 % interval of means of values that lie in a span, differences for example.

    A score interval: the means that Student's test does not refute with the clustered error there
    would be at each (`variance_at`). Near the ends of the span, where what is rare has hardly been
    seen, it is not symmetric. `constant_interval` where all groups show the same.

    Args:
        table: (items, columns) values; NaN marks an absent one.
        found: their `estimates`.
        span: lowest and highest value.
    """
    intervals: list[Interval | None] = [None] * len(found.means)
    told = ~np.isnan(found.degrees)
    for column in np.flatnonzero(told & (found.errors == 0)):
        size = float(found.degrees[column]) + 1
        intervals[column] = constant_interval(float(found.means[column]), size, span)
    columns = np.flatnonzero(told & (found.errors > 0))
    own = table[:, columns]
    usual, means = np.nanmedian(own, axis=0), found.means[columns]
    farthest = np.maximum(usual - span[0], span[1] - usual)
    above, below = sides(own - usual)
    variances = above.square + below.square - (means - usual) ** 2
    above, below = (one.at_least(farthest, 1 / found.items[columns]) for one in (above, below))
    reach = t_quantile(found.degrees[columns]) * found.errors[columns] / np.sqrt(variances)
    low = means - _reached(means - usual, above, below, reach, means - span[0])
    high = means + _reached(usual - means, below, above, reach, span[1] - means)
    for column, *ends in zip(columns, low.tolist(), high.tolist(), strict=True):
        intervals[column] = (ends[0], ends[1])
    return intervals


def _reached(seen: Floats, above: OneSide, below: OneSide, reach: Floats, room: Floats) -> Floats:
    """Return (columns,) how far below the mean the interval ends, at most as far as there is room.

    By bisection; `reach` is how far a standard deviation of the values takes it.
    """
    inside, outside = np.zeros_like(room), room.copy()
    least = _LEAST_VARIANCE * (above.square + below.square - seen**2)
    for _ in range(50):
        middle = (inside + outside) / 2
        variance = variance_at(seen - middle, above, below)
        refuted = middle >= reach * np.sqrt(np.fmax(variance, least))
        outside, inside = np.where(refuted, middle, outside), np.where(refuted, inside, middle)
    return outside


def spanned(found: Estimates, variances: Floats, span: Interval) -> list[Interval | None]:
    """Return Student's intervals from (columns,) variances that are known, kept within a span."""
    reach = t_quantile(found.degrees) * np.sqrt(variances)
    intervals: list[Interval | None] = []
    for mean, half, error, degrees in zip(
        found.means.tolist(),
        reach.tolist(),
        found.errors.tolist(),
        found.degrees.tolist(),
        strict=True,
    ):
        if np.isnan(degrees):
            intervals.append(None)
        elif error == 0:
            intervals.append(constant_interval(mean, degrees + 1, span))
        else:
            intervals.append((max(mean - half, span[0]), min(mean + half, span[1])))
    return intervals


def share_interval(found: Estimates, variances: Floats) -> Interval | None:
    """Return the 95 % interval of one share between 0 and 1, from its variance.

    Student's on the scale of log-odds: it stays within 0 and 1, and near either end what is drawn
    again lies more to the one side, as the interval does. At an end itself, where the odds have no
    logarithm, it is Student's of the share.
    """
    from scipy.special import expit, logit

    value, error, degrees = (float(of[0]) for of in (found.means, found.errors, found.degrees))
    if np.isnan(degrees):
        return None
    if error < _ROUNDING:
        return constant_interval(value, degrees + 1, SHARE)
    if min(value, 1 - value) < _ROUNDING:
        return spanned(found, variances, SHARE)[0]
    reach = float(t_quantile(degrees)) * float(np.sqrt(variances[0])) / (value * (1 - value))
    return float(expit(logit(value) - reach)), float(expit(logit(value) + reach))


def intervals_in(values: ArrayLike, groups: Labels, span: Interval | None) -> list[Interval | None]:
    """Return the 95 % interval of every column's mean, as what is known of its ends asks for.

    An end of the span may be infinite.
    """
    if span == RATE:
        return rate_intervals(values, groups)
    if span and np.isfinite(span).all():
        return span_intervals(values, groups, span)
    return [inside(one, span) for one in mean_intervals(values, groups)]


def inside(interval: Interval | None, span: Interval | None) -> Interval | None:
    """Keep an interval within what values can be: Student's distribution has no ends."""
    if interval is None or span is None:
        return interval
    return max(interval[0], span[0]), min(interval[1], span[1])


def rare_variances(table: Floats, found: Estimates, span: Interval) -> Floats:
    """Return (columns,) variances of means that do not take what is rare for more than it shows.

    One loss in 200 wins says little of how losses cluster. So one more group counts that is as far
    from the mean as the span goes, with the weight 1 / (1 + items unlike the usual one)^2: much
    where hardly an item differs, nothing where many do.
    """
    return found.errors**2 + _one_more(table, found, span) / (found.degrees + 1) ** 2


def _one_more(table: Floats, found: Estimates, span: Interval) -> Floats:
    """Return (columns,) what the one more group of `rare_variances` adds to the sum of squares."""
    known = ~np.isnan(found.means)
    usual = np.full(len(known), np.nan)
    usual[known] = np.nanmedian(table[:, known], axis=0)
    unlike = ((table != usual) & ~np.isnan(table)).sum(axis=0)
    farthest = np.maximum(found.means - span[0], span[1] - found.means)
    return np.asarray((farthest / (1 + unlike)) ** 2)
