"""Intervals for special cases: two kinds of groups at once, proportions, all groups alike."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mipo_eval.stats.bootstrap import (
    CHUNK_CELLS,
    RESAMPLES,
    Crossed,
    Floats,
    Interval,
    Labels,
    cluster,
    cluster_ids,
    mean_intervals,
    percentile_interval,
    ratio,
    resample_weights,
    two_way_variance,
)


def two_way_intervals(
    values: ArrayLike, first: Labels, second: Labels, *, seed: int = 0, resamples: int = RESAMPLES
) -> list[Interval | None]:
    """Return 95 % intervals of means whose items share groups of two kinds (prompts and users).

    Both kinds are resampled independently and the weights multiplied (the pigeonhole bootstrap,
    Owen 2007). That counts an item's own noise up to three times, so the replicates are drawn in
    to the two-way variance (`variance.two_way_variance`); their shape is kept.

    Args:
        values: (items, columns); NaN marks an absent value.
        first: label per item of one kind, for example the prompt group.
        second: label per item of the other kind, for example the user.
        seed: same seed, same intervals; all columns share the resamples.
        resamples: how many bootstrap resamples.

    Returns:
        One interval per column, corrected for few groups of the rarer kind; None with fewer than
        two groups of either kind.
    """
    table = np.asarray(values, dtype=np.float64)
    used = ~np.isnan(table).all(axis=1)
    kept = np.flatnonzero(used).tolist()
    labels = [None if side is None else [side[i] for i in kept] for side in (first, second)]
    table = table[used]
    drawn = _pigeonhole(table, labels, np.random.default_rng(seed), resamples)
    # With few groups of one kind its draws decide the tails, however many the other has.
    rarer = min(cluster_ids(side, len(table))[1] for side in labels)
    intervals: list[Interval | None] = []
    for column, replicate in zip(table.T, drawn.T, strict=True):
        variance = two_way_variance(column, labels[0], labels[1])
        if variance is None:
            intervals.append(None)
            continue
        mean = float(np.nanmean(column))
        spread = float(np.nanstd(replicate))
        # The variance is unbiased already: only Student's tail remains to be corrected for. The
        # interval's cut expects replicates whose variance is (n - 1) / n of the true one, as a
        # plain bootstrap's is, so the scale takes the same factor.
        scale = np.sqrt(variance * (rarer - 1) / rarer) / spread if spread > 0 else 0.0
        intervals.append(percentile_interval(mean + (replicate - mean) * scale, rarer))
    return intervals


def _pigeonhole(
    table: Floats, labels: Sequence[Labels], rng: np.random.Generator, resamples: int
) -> Floats:
    """Return (resamples, columns) means under products of two kinds of bootstrap weights."""
    present = (~np.isnan(table)).astype(np.float64)
    filled = np.nan_to_num(table)
    sides = [cluster_ids(side, len(table)) for side in labels]
    step = max(1, CHUNK_CELLS // max(len(table), 1))
    drawn = [np.empty((0, table.shape[1]))]
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        # An item counts as often as its prompt and its user were both drawn: a product, as if
        # rows and columns of a table were resampled.
        weights = np.ones((size, len(table)))
        for ids, n in sides:
            weights *= np.concatenate(list(resample_weights(n, size, rng)))[:, ids]
        drawn.append(ratio(weights @ filled, weights @ present))
    return np.concatenate(drawn)


def table_intervals(
    values: ArrayLike, groups: Labels = None, *, seed: int = 0
) -> list[Interval | None]:
    """Return the 95 % interval of every column's mean, as its items' labels ask for.

    Args:
        values: (items, columns); NaN marks an absent value.
        groups: one label per item. `Crossed` labels with users that come back make it two-way;
            where one kind has fewer than two groups, the other alone is resampled.
        seed: of the bootstrap.
    """
    table = np.asarray(values, dtype=np.float64)
    if groups is None or not any(isinstance(group, Crossed) for group in groups):
        return mean_intervals(table, groups, seed=seed)
    prompts = [group.prompt if isinstance(group, Crossed) else group for group in groups]
    users = [group.user if isinstance(group, Crossed) else None for group in groups]
    n_prompts, n_users = (cluster_ids(side, len(table))[1] for side in (prompts, users))
    if n_users < 2 or n_users == len(table):
        return mean_intervals(table, prompts, seed=seed)
    if n_prompts < 2 or n_prompts == len(table):
        return mean_intervals(table, users, seed=seed)
    # A large table needs fewer resamples than it can afford: only the shape is taken from them.
    resamples = int(np.clip(20_000_000 // len(table), 1_000, RESAMPLES))
    return two_way_intervals(table, prompts, users, seed=seed, resamples=resamples)


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


def constant_rate_interval(
    rate: float, n_clusters: int, *, lowest: float = 0.0, highest: float = 100.0
) -> Interval:
    """Return the exact 95 % interval of a mean when every cluster shows the same value.

    No resampling can tell how rare the unseen is. If a share q of all clusters were different, n
    clusters alike would be seen with probability (1 - q)^n; the largest q with at least 2.5 % is
    taken, and those clusters could have any value from `lowest` to `highest`. For a rate of 0 or
    100 this is the Clopper-Pearson interval.
    """
    alike = 0.025 ** (1 / n_clusters)
    return rate * alike + lowest * (1 - alike), rate * alike + highest * (1 - alike)


def rate_intervals(
    values: ArrayLike, groups: Labels = None, *, seed: int = 0
) -> list[Interval | None]:
    """Return the 95 % interval of every column of rates in percent.

    As `table_intervals`, but with `constant_rate_interval` where all groups show the same rate: a
    bootstrap of ten wins out of ten would claim to be certain.

    Args:
        values: (items, columns) percentages; NaN marks an absent value.
        groups: one label per item.
        seed: of the bootstrap.
    """
    intervals = table_intervals(values, groups, seed=seed)
    for column, interval in enumerate(intervals):
        if interval is not None and interval[0] == interval[1]:
            own = cluster(np.asarray(values, dtype=np.float64)[:, column], groups)
            intervals[column] = constant_rate_interval(interval[0], len(own))
    return intervals
