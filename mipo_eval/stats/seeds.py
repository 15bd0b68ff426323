"""Several training seeds: what differs between seeds, and an interval that covers both.

The same items are answered by every seed's checkpoint, so seeds and items are crossed. Two things
make a reported mean uncertain: other items would have been drawn, and other seeds. The first is a
clustered bootstrap of the mean over seeds. The second cannot be bootstrapped from three seeds (a
resample of three has two thirds of their variance, and percentiles of three values have no tails),
so it is drawn from Student's t with seeds - 1 degrees of freedom, after taking out the part of the
spread between seeds that item noise alone explains. `benchmarks/bench_coverage.py` measures the
coverage, beside the plain resampling of seeds, then groups, then items.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mipo_eval.errors import DataError
from mipo_eval.stats.bootstrap import (
    RESAMPLES,
    Clusters,
    Floats,
    Index,
    Interval,
    Labels,
    cluster,
    influence,
    replicates,
    tail,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SeedSummary:
    """A method trained with several seeds; units are those of the values."""

    mean: float
    """Mean over seeds of the mean over items."""
    std: float | None
    """Standard deviation over seeds (n - 1), what papers print after +-; None for one seed."""
    per_seed: tuple[float, ...]
    n_items: int
    """Items with a value under at least one seed."""
    items_ci95: Interval | None
    """Other items, these checkpoints: says nothing about training again."""
    ci95: Interval | None
    """Other items and other seeds; None with one seed or fewer than two groups."""

    @property
    def n_seeds(self) -> int:
        """How many seeds."""
        return len(self.per_seed)


def _excess_seed_variance(clusters: Clusters, method_of: Index, n_methods: int) -> Floats:
    """Return (methods,) the variance that seeds, beyond item noise, give the mean over seeds.

    The spread of seed means contains sigma_seed^2 + sigma_noise^2 / items. The noise is estimated
    from how differently the clusters of one seed deviate from those of the others. Seeds that
    happen to agree better than noise lets them give a negative estimate; NaN with one seed.
    """
    n = len(clusters)
    means, pulls = clusters.means(), influence(clusters)
    excess = np.zeros(n_methods)
    for method in range(n_methods):
        own = method_of == method
        seeds = int(own.sum())
        if seeds < 2:
            excess[method] = np.nan
            continue
        # What all seeds share (an item that is hard for every checkpoint) moves their means
        # together and not apart: only each seed's own part of the pulls is noise between them.
        own_pulls = pulls[:, own]
        apart = own_pulls - own_pulls.mean(axis=1, keepdims=True)
        noise = (apart**2).sum() / (seeds - 1) * n / (n - 1)
        excess[method] = (means[own].var(ddof=1) - noise) / seeds
    return excess


def _item_deviations(clusters: Clusters, method_of: Index, *, seed: int, resamples: int) -> Floats:
    """Return (resamples, methods) deviations of the mean over seeds when items are redrawn."""
    average = (method_of[:, None] == np.arange(method_of.max() + 1)) / np.bincount(method_of)
    drawn = replicates(clusters, seed=seed, resamples=resamples)
    # A resample in which a seed has no value says nothing about this seed: no deviation.
    deviations = np.nan_to_num(drawn - clusters.means()) @ average
    # The quantile is taken later, of a sum: the correction for few clusters scales instead.
    from scipy.special import ndtri

    return np.asarray(deviations * (ndtri(tail(len(clusters))) / ndtri(0.025)))


def _interval(center: float, deviations: Floats) -> Interval | None:
    if np.isnan(deviations).any():
        return None
    low, high = np.quantile(deviations, [0.025, 0.975])
    return center + float(low), center + float(high)


def _table(tables: Sequence[ArrayLike], groups: Labels) -> tuple[Clusters, Index]:
    """Put the seeds of all methods side by side as columns; return the method of each."""
    columns: list[Floats] = []
    method_of: list[int] = []
    for method, table in enumerate(tables):
        values = np.atleast_2d(np.asarray(table, dtype=np.float64))
        if columns and values.shape[1] != len(columns[0]):
            raise DataError(
                f"method {method} has {values.shape[1]} items, the first has {len(columns[0])}; "
                "give all methods the same items, NaN where one has no value"
            )
        if np.isnan(values).all(axis=1).any():
            raise DataError(f"method {method} has a seed without any value; leave that seed out")
        columns += list(values)
        method_of += [method] * len(values)
    return cluster(np.stack(columns, axis=1), groups), np.array(method_of, dtype=np.intp)


def seed_summaries(
    tables: Sequence[ArrayLike],
    groups: Labels = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> list[SeedSummary]:
    """Summarise methods that were each trained with one or several seeds.

    Args:
        tables: per method (seeds, items) values of the same items; NaN marks an absent value.
        groups: one cluster label per item (prompt group or user).
        seed: of the bootstrap; all methods share the resampled items.
        resamples: how many bootstrap resamples.

    Raises:
        DataError: the methods have different numbers of items, or a seed has no value at all.
    """
    clusters, method_of = _table(tables, groups)
    means = clusters.means()
    enough = len(clusters) >= 2
    if enough:
        rng = np.random.default_rng((seed, 1))  # another stream than that of the items
        items = _item_deviations(clusters, method_of, seed=seed, resamples=resamples)
        excess = _excess_seed_variance(clusters, method_of, len(tables))
        # One draw of items and one of seeds are added per replicate: their quantiles are those of
        # the sum, where adding two intervals' widths would count both extremes at once. A negative
        # excess is a variance of 0; one seed has none at all (NaN), and so no interval.
        degrees = np.maximum(np.bincount(method_of) - 1, 1)
        seeds = rng.standard_t(degrees, size=items.shape) * np.sqrt(np.maximum(excess, 0.0))
    summaries = []
    for method, table in enumerate(tables):
        own = means[method_of == method]
        center = float(own.mean())
        values = np.atleast_2d(np.asarray(table, dtype=np.float64))
        summaries.append(
            SeedSummary(
                mean=center,
                std=float(own.std(ddof=1)) if len(own) > 1 else None,
                per_seed=tuple(own.tolist()),
                n_items=int((~np.isnan(values)).any(axis=0).sum()),
                items_ci95=_interval(center, items[:, method]) if enough else None,
                ci95=_interval(center, items[:, method] + seeds[:, method]) if enough else None,
            )
        )
    return summaries
