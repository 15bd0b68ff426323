"""Standard errors of means over clustered items, and how much the clustering costs.

A mean over items is a ratio of two sums over clusters; its variance follows from the clusters'
residuals (linearisation, the "sandwich"). With every item its own cluster it is the textbook
sd / sqrt(n).
"""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from mipo_eval.stats.bootstrap import Clusters, Floats, cluster

Labels = Sequence[Hashable | None] | None


def influence(clusters: Clusters) -> Floats:
    """Return (clusters, columns): how far each cluster pulls the mean of each column.

    The columns of squares, summed and scaled by C / (C - 1), are the variances of the means.
    """
    total = clusters.counts.sum(axis=0)
    residuals = clusters.sums - clusters.means() * clusters.counts
    pulls = np.zeros_like(residuals)
    np.divide(residuals, total, out=pulls, where=total > 0)
    return pulls


def covariance(clusters: Clusters) -> Floats:
    """Return the (columns, columns) covariance of the means; NaN with fewer than two clusters."""
    n, columns = clusters.sums.shape
    if n < 2:
        return np.full((columns, columns), np.nan)
    pulls = influence(clusters)
    return np.asarray(pulls.T @ pulls * (n / (n - 1)))


def standard_errors(clusters: Clusters) -> Floats:
    """Return (columns,) standard errors of the means.

    NaN for a column with fewer than two clusters that hold a value.
    """
    filled = (clusters.counts > 0).sum(axis=0)
    squares = (influence(clusters) ** 2).sum(axis=0)
    scale = np.full(len(filled), np.nan)
    np.divide(filled, filled - 1, out=scale, where=filled > 1)
    return np.asarray(np.sqrt(squares * scale))


def standard_error(values: ArrayLike, groups: Labels = None) -> float | None:
    """Return the standard error of the mean of (items,) values, clustered by `groups`.

    NaN marks an absent value. None with fewer than two clusters.
    """
    clusters = cluster(np.asarray(values, dtype=np.float64).reshape(-1, 1), groups)
    error = float(standard_errors(clusters)[0])
    return None if np.isnan(error) else error


def design_effect(values: ArrayLike, groups: Labels) -> float | None:
    """Return by how much the clustering multiplies the variance of the mean.

    1: items of a group are as good as independent; m: the m items of a group are copies, and only
    the number of groups counts. None where it cannot be told (fewer than two clusters, no spread).
    """
    clustered, plain = standard_error(values, groups), standard_error(values)
    if clustered is None or plain is None or plain == 0:
        return None
    return (clustered / plain) ** 2


def two_way_variance(values: ArrayLike, first: Labels, second: Labels) -> float | None:
    """Return the variance of the mean when items share groups of two kinds (prompts and users).

    Cameron, Gelbach and Miller (2011): variance by the first kind, plus by the second, minus by
    both at once, so that what an item has for itself is counted once. Never below the larger of
    the two one-way variances. None with fewer than two clusters of either kind.
    """
    column = np.asarray(values, dtype=np.float64).reshape(-1)
    first = list(range(len(column))) if first is None else first
    second = list(range(len(column))) if second is None else second
    # An item without a label is a cluster of its own in that direction, and so in both.
    both = [None if a is None or b is None else (a, b) for a, b in zip(first, second, strict=True)]
    errors = [standard_error(column, labels) for labels in (first, second, both)]
    if errors[0] is None or errors[1] is None or errors[2] is None:
        return None
    one, two, cell = (error**2 for error in errors if error is not None)
    return max(one + two - cell, one, two)
