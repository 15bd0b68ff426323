"""Several training seeds: what differs between seeds, and what covers both seeds and items.

The same items are answered by every seed's checkpoint, so seeds and items are crossed. Two things
make a reported mean uncertain: other items would have been drawn, and other seeds. The first is a
clustered error of the mean over seeds. The second is known from two or three seeds only: their
spread, less the part that item noise alone explains, and how uncertain it is itself. So a variance
is not put in but drawn, as often as chi-squared with seeds - 1 degrees of freedom could have given
the spread that was seen (a generalized interval, Weerahandi 1993; Krishnamoorthy and Mathew 2009).
`benchmarks/bench_coverage.py` measures the coverage.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from mipo_eval.errors import DataError
from mipo_eval.stats.bootstrap import Floats, Index, Interval, Labels
from mipo_eval.stats.estimates import Estimates, estimates, mean_covariance, t_quantile
from mipo_eval.stats.intervals import inside, intervals_in

_DRAWS = 4_000
"""Variances drawn; a p-value is an exact mean over them, so few are enough."""


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


def over_seeds(values: Floats) -> Floats:
    """Return the mean of (..., seeds) over the seeds with a value; NaN without any."""
    counts = (~np.isnan(values)).sum(axis=-1)
    means: Floats = np.nansum(values, axis=-1) / np.where(counts, counts, np.nan)
    return means


class Doubt(NamedTuple):
    """How sure a mean, or a difference of means, over items and seeds is."""

    variances: Floats
    """(draws,) what its variance could be, given what was seen."""

    @property
    def error(self) -> float:
        """Standard error; the median of what it could be, or the mean where most say 0."""
        return float(np.sqrt(np.median(self.variances) or self.variances.mean()))

    @property
    def degrees(self) -> float:
        """The degrees of freedom with which Student's interval of this error would be as wide."""
        from scipy.optimize import brentq

        ends = self.around(0.0)
        if ends is None:
            return math.inf
        reach = ends[1] / self.error
        few, many = 1.0, 1e6
        if not t_quantile(many) < reach < t_quantile(few):
            return few if reach >= t_quantile(few) else many
        return float(brentq(lambda degrees: float(t_quantile(degrees)) - reach, few, many))

    def p(self, value: float) -> float:
        """Return the two-sided p-value of a value against 0."""
        return 1.0 if value == 0 else 2 * self.tail(abs(value))

    def tail(self, distance: float) -> float:
        """Return the p-value of a value so far above what it is tested against."""
        from scipy.special import ndtr

        with np.errstate(divide="ignore"):
            return float(ndtr(-distance / np.sqrt(self.variances)).mean())

    def around(self, value: float) -> Interval | None:
        """Return the 95 % interval; None where nothing varies."""
        highest = float(np.sqrt(self.variances.max()))
        if highest == 0:
            return None
        from scipy.optimize import brentq

        # From few draws the largest variance decides the tail: 2 errors of it are always enough.
        half = brentq(lambda reach: self.p(reach) - 0.05, 1e-9 * highest, 2 * highest)
        return value - float(half), value + float(half)


@dataclass(frozen=True, slots=True)
class SeedSpread:
    """What training again adds to the variance of means over seeds; fields are (methods,)."""

    between: Floats
    """Variance of the mean over seeds as the spread of seeds shows it; 0 with one seed."""
    noise: Floats
    """The part of it that other items explain, and that their error holds already."""
    degrees: Index
    """Seeds - 1; 0 with one seed, of which nothing is known."""

    def variances(self) -> Floats:
        """Return the best guess of what training again adds."""
        return np.maximum(self.between - self.noise, 0.0)

    def doubt(self, variance: float, degrees: float, methods: Sequence[int]) -> Doubt | None:
        """Return how sure a mean or difference of these methods is; None where none has seeds.

        Args:
            variance: of the mean over items.
            degrees: its degrees of freedom.
            methods: one for a mean, two for a difference.
        """
        several = [m for m in methods if self.degrees[m] > 0]
        if not several or np.isnan(variance):
            return None
        # Two methods are taken to differ alike between seeds, as in Student's test: two and two
        # degrees of freedom apart would tell nothing, four together do.
        free, each = self.degrees[several], self.degrees[several] + 1
        spread = float((self.between[several] * each * free).sum() / free.sum())
        scaled = spread * float((1 / each).sum()) * inverse_chi_squared(1, float(free.sum()))
        seeds = np.maximum(scaled - float(self.noise[several].sum()), 0.0)
        return Doubt(variance * inverse_chi_squared(0, float(degrees)) + seeds)


@lru_cache(maxsize=64)
def inverse_chi_squared(place: int, degrees: float) -> Floats:
    """Return draws of degrees / chi-squared: evenly spread quantiles, shuffled by place."""
    from scipy.special import gammaincinv

    even = (np.arange(_DRAWS) + 0.5) / _DRAWS
    shuffled = np.random.default_rng(place).permutation(even)
    return np.asarray(degrees / (2 * gammaincinv(degrees / 2, shuffled)))


def seed_spread(values: Floats, groups: Labels) -> SeedSpread:
    """Return what seeds add, from (items, methods, seeds) values; a seed without any is none."""
    methods = values.shape[1]
    found = SeedSpread(np.zeros(methods), np.zeros(methods), np.zeros(methods, dtype=np.intp))
    if values.shape[2] < 2:
        return found
    for method in range(methods):
        own = values[:, method]
        own = own[:, ~np.isnan(own).all(axis=0)]
        seeds = own.shape[1]
        if seeds < 2:
            continue
        together = mean_covariance(own, groups)
        # What all seeds share (an item that is hard for every checkpoint) moves their means
        # together and not apart: only what is each one's own is noise between them.
        apart = (np.trace(together) - together.sum() / seeds) / (seeds - 1)
        found.noise[method] = apart / seeds
        found.between[method] = np.nanmean(own, axis=0).var(ddof=1) / seeds
        found.degrees[method] = seeds - 1
    return found


def seed_summaries(
    tables: Sequence[ArrayLike], groups: Labels = None, span: Interval | None = None
) -> list[SeedSummary]:
    """Summarise methods that were each trained with one or several seeds.

    Args:
        tables: per method (seeds, items) values of the same items; NaN marks an absent value.
        groups: one label per item, see `bootstrap.Dependence`.
        span: lowest and highest value an item can have, where known (inf for none); no interval
            leaves it.

    Raises:
        DataError: the methods have different numbers of items, or a seed has no value at all.
    """
    found, size = [], None
    for method, table in enumerate(tables):
        values = np.atleast_2d(np.asarray(table, dtype=np.float64))
        size = values.shape[1] if size is None else size
        if values.shape[1] != size:
            raise DataError(
                f"method {method} has {values.shape[1]} items, the first has {size}; "
                "give all methods the same items, NaN where one has no value"
            )
        if np.isnan(values).all(axis=1).any():
            raise DataError(f"method {method} has a seed without any value; leave that seed out")
        found.append(_summary(values.T, groups, span))
    return found


def _summary(values: Floats, groups: Labels, span: Interval | None) -> SeedSummary:
    """Summarise (items, seeds) values of one method."""
    means = np.nanmean(values, axis=0)
    center = float(means.mean())
    averaged = over_seeds(values)
    items: Estimates = estimates(averaged, groups)
    variance, degrees = float(items.errors[0] ** 2), float(items.degrees[0])
    doubt = seed_spread(values[:, None, :], groups).doubt(variance, degrees, [0])
    alone = intervals_in(averaged, groups, span)[0]
    moved = center - float(items.means[0])
    of_items = inside(alone and (alone[0] + moved, alone[1] + moved), span)
    # Where nothing varies, over seeds neither, what was not seen is as rare as the items say.
    of_all = (doubt.around(center) or of_items) if doubt else None
    return SeedSummary(
        mean=center,
        std=float(means.std(ddof=1)) if len(means) > 1 else None,
        per_seed=tuple(means.tolist()),
        n_items=int(items.items[0]),
        items_ci95=of_items,
        ci95=inside(of_all, span),
    )
