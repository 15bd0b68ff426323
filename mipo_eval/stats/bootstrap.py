"""Clustered means: how sure a mean over items is when items share prompts.

Items that share a prompt are not independent draws, so whole groups (clusters) are resampled. A
mean over items is then a ratio, (sum of sums) / (sum of counts), and each cluster is fully
described by these two numbers: 10,000 resamples cost one small matrix product. All columns
(methods, tie rules, seeds) share the same resamples, so differences between columns are paired.

Standard errors follow from the clusters' residuals (linearisation of the ratio, the "sandwich").
With every item its own cluster they are the textbook sd / sqrt(n).
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Index = NDArray[np.intp]
Interval = tuple[float, float]
Labels = Sequence[Hashable | None] | None
"""One cluster label per item; None (for one item, or for all): the item is its own cluster."""

RESAMPLES = 10_000
CHUNK_CELLS = 2_000_000
"""Cells of a weight matrix held at once (16 MB): memory is bounded whatever is resampled."""
_KEPT_CELLS = 50_000_000
"""Largest weight matrix that is kept for the next caller (100 MB as small integers)."""


class Crossed(NamedTuple):
    """A label for an item that belongs to a prompt and to a user.

    `intervals.table_intervals` then lets items depend on each other both ways; whatever clusters
    in one way only goes by the prompt. None: the item has none, and is alone in that direction.
    """

    prompt: Hashable | None
    user: Hashable | None


@dataclass(frozen=True, slots=True)
class Clusters:
    """Sufficient statistics of a mean, per cluster and column.

    `sums` and `counts` have the shape (clusters, columns); a cluster without a value in a column
    has count 0 there.
    """

    sums: Floats
    counts: Floats

    def __len__(self) -> int:
        """Return the number of clusters."""
        return len(self.sums)

    def means(self) -> Floats:
        """Return the mean over items of every column, shape (columns,); NaN where none."""
        return ratio(self.sums.sum(axis=0), self.counts.sum(axis=0))


def cluster_ids(groups: Labels, size: int) -> tuple[Index, int]:
    """Number the clusters of `size` items in order of first appearance.

    Args:
        groups: one label per item; None for an item (or for all) makes it a cluster of its own;
            a `Crossed` label counts by its prompt.
        size: how many items there are.

    Returns:
        (items,) cluster numbers, and how many clusters there are.
    """
    if groups is None:
        return np.arange(size), size
    if len(groups) != size:
        raise ValueError(f"{size} values but {len(groups)} groups")
    known: dict[Hashable, int] = {}
    # A lone item gets a key no label can be equal to: the tuple of this private object and i.
    alone = object()
    labels = (group.prompt if isinstance(group, Crossed) else group for group in groups)
    ids = [
        known.setdefault((alone, i) if label is None else label, len(known))
        for i, label in enumerate(labels)
    ]
    return np.array(ids, dtype=np.intp), len(known)


def cluster(values: ArrayLike, groups: Labels = None, *, keep_empty: bool = False) -> Clusters:
    """Sum values per cluster.

    Args:
        values: (items,) or (items, columns); NaN marks a value that is absent and is left out.
        groups: one label per item, see `cluster_ids`.
        keep_empty: keep clusters without any value, so that tables over the same items have the
            same clusters and, with the same seed, the same resamples.

    Returns:
        The clusters that hold at least one value (or all), in order of first appearance.
    """
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    ids, n_clusters = cluster_ids(groups, len(table))
    present = ~np.isnan(table)
    if n_clusters == 0:
        return Clusters(np.zeros((0, table.shape[1])), np.zeros((0, table.shape[1])))
    # `reduceat` adds up runs of a sorted table: one pass for all columns, where `bincount` would
    # take one for each.
    order = np.argsort(ids, kind="stable")
    starts = np.searchsorted(ids[order], np.arange(n_clusters))
    sums = np.add.reduceat(np.where(present, table, 0.0)[order], starts)
    counts = np.add.reduceat(present[order].astype(np.float64), starts)
    used = counts.any(axis=1) | keep_empty
    return Clusters(sums[used], counts[used])


def ratio(sums: Floats, counts: Floats) -> Floats:
    """Return sums / counts, NaN where nothing was counted."""
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)


def resample_weights(n_clusters: int, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    """Yield bootstrap weights in chunks of bounded size.

    Each row says how often each cluster was drawn, with replacement, in one resample.

    Yields:
        (chunk, n_clusters) weights; every row sums to n_clusters.
    """
    rows = max(1, CHUNK_CELLS // max(n_clusters, 1))
    for start in range(0, resamples, rows):
        size = min(rows, resamples - start)
        drawn = rng.integers(n_clusters, size=(size, n_clusters), dtype=np.int64)
        drawn += np.arange(size)[:, None] * n_clusters
        counted = np.bincount(drawn.ravel(), minlength=size * n_clusters)
        yield counted.reshape(size, n_clusters).astype(np.float64)


@lru_cache(maxsize=2)
def _kept_weights(n_clusters: int, resamples: int, seed: int) -> NDArray[np.uint16]:
    """Return all weights of `resample_weights`, small enough to keep."""
    kept = np.empty((resamples, n_clusters), dtype=np.uint16)
    start = 0
    for weights in resample_weights(n_clusters, resamples, np.random.default_rng(seed)):
        kept[start : start + len(weights)] = weights
        start += len(weights)
    return kept


def seeded_weights(n_clusters: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield the weights that belong to a seed, as `resample_weights` draws them.

    They depend on nothing else, so every metric and task of a report with as many clusters has
    the same: drawn once, they are kept.
    """
    if n_clusters > np.iinfo(np.uint16).max or n_clusters * resamples > _KEPT_CELLS:
        yield from resample_weights(n_clusters, resamples, np.random.default_rng(seed))
        return
    kept = _kept_weights(n_clusters, resamples, seed)
    rows = max(1, CHUNK_CELLS // max(n_clusters, 1))
    for start in range(0, resamples, rows):
        yield kept[start : start + rows].astype(np.float64)


def replicates(clusters: Clusters, *, seed: int, resamples: int = RESAMPLES) -> Floats:
    """Return the resampled means, shape (resamples, columns); NaN where a column drew nothing."""
    # Most columns have a value for every item, and so the same counts: those are weighed once.
    counts, which = np.unique(clusters.counts, axis=1, return_inverse=True)
    return np.concatenate(
        [
            ratio(weights @ clusters.sums, (weights @ counts)[:, which.ravel()])
            for weights in seeded_weights(len(clusters), resamples, seed)
        ]
    )


def tail(n_clusters: int | None, level: float = 0.95) -> float:
    """Return the share of replicates to cut off on each side.

    With few clusters the plain percentile interval is too narrow: it has the width of a normal
    interval with the variance divided by n instead of n - 1. The cut is moved outwards to match
    Student's t (Hesterberg 2015, "expanded percentile"); with 200 clusters 2.5 % becomes 2.4 %,
    with 21 it becomes 1.6 %. None leaves the plain cut.
    """
    cut = (1 - level) / 2
    if n_clusters is None:
        return cut
    from scipy.special import ndtr, stdtrit

    degrees = n_clusters - 1
    return float(ndtr(stdtrit(degrees, cut) * np.sqrt(n_clusters / degrees)))


def percentile_interval(
    drawn: Floats, n_clusters: int | None = None, *, level: float = 0.95
) -> Interval:
    """Return the central interval of (resamples,) replicates; NaN ones are left out.

    Args:
        drawn: replicates of one statistic.
        n_clusters: how many clusters were resampled, to correct for few; None: no correction.
        level: coverage aimed at.
    """
    cut = tail(n_clusters, level)
    kept = drawn[~np.isnan(drawn)]
    low, high = np.quantile(kept, [cut, 1 - cut])
    return float(low), float(high)


def mean_intervals(
    values: ArrayLike,
    groups: Labels = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    level: float = 0.95,
) -> list[Interval | None]:
    """Return the percentile interval of each column's mean, clusters resampled.

    Args:
        values: (items,) or (items, columns); NaN marks an absent value.
        groups: one cluster label per item; None makes every item its own cluster.
        seed: same seed, same interval.
        resamples: how many bootstrap resamples.
        level: coverage aimed at; corrected for few clusters, see `tail`.

    Returns:
        One interval per column; None where fewer than two clusters hold a value, because one
        cluster says nothing about how much clusters differ.
    """
    clusters = cluster(values, groups)
    if len(clusters) < 2:
        return [None] * clusters.sums.shape[1]
    drawn = replicates(clusters, seed=seed, resamples=resamples)
    filled = (clusters.counts > 0).sum(axis=0).tolist()
    return [
        percentile_interval(drawn[:, column], n, level=level) if n >= 2 else None
        for column, n in enumerate(filled)
    ]


def influence(clusters: Clusters) -> Floats:
    """Return (clusters, columns): how far each cluster pulls the mean of each column.

    The columns of squares, summed and scaled by C / (C - 1), are the variances of the means.
    """
    total = clusters.counts.sum(axis=0)
    residuals = clusters.sums - clusters.means() * clusters.counts
    pulls = np.zeros_like(residuals)
    np.divide(residuals, total, out=pulls, where=total > 0)
    return pulls


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
    # With few groups the difference of estimates can fall below either, even below 0; a second
    # kind of dependence is never taken to make a mean surer than the first alone.
    return max(one + two - cell, one, two)
