"""Paired comparisons of runs on their common items: difference, interval, tests, corrections.

Nothing is silently joined away: items that only one side has are counted beside every comparison.
The tests take one column per comparison, so the 780 pairs of 40 runs are one call.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, islice
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.stats.bootstrap import (
    CHUNK_CELLS,
    Clusters,
    Floats,
    Index,
    Interval,
    Labels,
    cluster,
    replicates,
    standard_errors,
)
from mipo_eval.stats.bootstrap import tail as cut_off
from mipo_eval.stats.power import detectable_from_error

Adjust = Literal["holm", "bh"]

PERMUTATIONS = 10_000
_FEWEST = 10
"""Permutations at least as extreme below which their share is too coarse to be a p-value."""


def sign_test(wins: ArrayLike, losses: ArrayLike) -> Floats:
    """Return two-sided exact p-values for wins against losses; ties say nothing and are left out.

    For yes/no outcomes the items won are those only the first got right, those lost only the
    second: the exact McNemar test. 1 where nothing was won or lost.

    Args:
        wins: (comparisons,) items on which the first is better.
        losses: (comparisons,) items on which the second is better.
    """
    from scipy.special import bdtr

    wins, losses = np.asarray(wins), np.asarray(losses)
    # P(X <= k) for X ~ Binomial(n, 1/2): symmetric, so twice the smaller tail.
    lower = bdtr(np.minimum(wins, losses).astype(np.float64), wins + losses, 0.5)
    return np.asarray(np.minimum(1.0, 2 * lower), dtype=np.float64)


def permutation_test(
    clusters: Clusters, *, seed: int = 0, permutations: int = PERMUTATIONS
) -> Floats:
    """Return two-sided p-values for "the paired differences are symmetric around 0".

    The differences of a whole cluster change sign together, so items of a prompt may depend on
    each other. With few clusters all 2^n sign patterns are enumerated (exact); otherwise they are
    drawn, and the observed one counts as one of them. A p-value below the resolution of the draw
    is taken from the clusters' t-test instead, so that it survives a correction for many tests.

    Args:
        clusters: sums and counts of the differences (first minus second), one column each.
        seed: of the draw.
        permutations: how many sign patterns to draw.
    """
    # The sum stands for the mean: flipping signs changes no count, so both are extreme together.
    n = len(clusters)
    observed = np.abs(clusters.sums.sum(axis=0))
    # Sums that differ only by rounding are equal, or an exact test would depend on the order.
    reached = observed - 1e-9 * np.abs(clusters.sums).sum(axis=0)
    if 1 << n <= permutations:
        signs = 2.0 * ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1) - 1
        return np.asarray((np.abs(signs @ clusters.sums) >= reached).mean(axis=0))
    rng = np.random.default_rng(seed)
    exceeding = np.zeros(len(observed))
    step = max(1, CHUNK_CELLS // n)
    for start in range(0, permutations, step):
        size = min(step, permutations - start)
        flips = 2.0 * rng.integers(2, size=(size, n), dtype=np.int8) - 1
        exceeding += (np.abs(flips @ clusters.sums) >= reached).sum(axis=0)
    drawn = (exceeding + 1) / (permutations + 1)
    # With 10,000 draws no p-value is below 1e-4, and Holm over 780 pairs of runs would make 0.08
    # of the clearest difference there is. So deep in the tail, where the draws cannot tell 1e-5
    # from 1e-9, the t-test does; at most what ten such draws would say.
    finest = np.minimum(t_test(clusters), (_FEWEST + 1) / (permutations + 1))
    return np.where(exceeding < _FEWEST, finest, drawn)


def t_test(clusters: Clusters) -> Floats:
    """Return two-sided p-values of the clustered t-test that each column's mean is 0.

    1 where the mean is 0; 0 where all clusters agree on a mean that is not; NaN with fewer than
    two clusters.
    """
    from scipy.special import stdtr

    degrees = (clusters.counts > 0).sum(axis=0) - 1
    means = np.abs(clusters.means())
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(means == 0, 0.0, means / standard_errors(clusters))
    return np.asarray(2 * stdtr(degrees, -t), dtype=np.float64)


def adjust(p_values: ArrayLike, method: Adjust = "holm") -> Floats:
    """Return p-values corrected for being a family.

    Args:
        p_values: (tests,).
        method: "holm" bounds the chance of any false difference; "bh" (Benjamini-Hochberg) bounds
            the expected share of false ones among those found.
    """
    values = np.asarray(p_values, dtype=np.float64)
    n, order = len(values), np.argsort(values)
    if method == "holm":
        raised = np.maximum.accumulate(values[order] * np.arange(n, 0, -1))
    else:
        scaled = values[order] / (np.arange(1, n + 1) / n)
        raised = np.minimum.accumulate(scaled[::-1])[::-1]
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(raised, 1.0)
    return adjusted


def effect_sizes(differences: ArrayLike) -> NDArray[np.float64]:
    """Return (comparisons,) mean difference in standard deviations of the difference (d_z).

    Args:
        differences: (items, comparisons), first minus second; NaN marks an item not in common.

    Returns:
        NaN where the difference has no spread: no scale to measure it by.
    """
    table = np.asarray(differences, dtype=np.float64)
    present = ~np.isnan(table)
    n = present.sum(axis=0)
    filled = np.where(present, table, 0.0)
    mean = filled.sum(axis=0) / np.maximum(n, 1)
    squares = np.where(present, (filled - mean) ** 2, 0.0).sum(axis=0)
    spread = np.sqrt(squares / np.maximum(n - 1, 1))
    usable = spread > 1e-12 * np.maximum(np.abs(mean), 1e-300)
    sizes = np.full(mean.shape, np.nan)
    np.divide(mean, spread, out=sizes, where=usable)
    return sizes


_CHUNK_PAIRS = 500
"""Comparisons whose replicates are held at once (40 MB at 10,000 resamples)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """First run against second on the items both have; units are those of the values."""

    first: str
    second: str
    difference: float
    """Mean of first minus second over the common items."""
    ci95: Interval | None
    """Clustered, paired bootstrap; None with fewer than two groups in common."""
    n: int
    """Common items; at least 1."""
    only_first: int
    """Items with a value in the first run alone: left out."""
    only_second: int
    wins: int
    """Common items with the first run's value higher."""
    losses: int
    ties: int
    p_sign: float
    """Exact sign test of wins against losses (McNemar for yes/no values); items independent."""
    p_permutation: float | None
    """Paired permutation test that keeps groups together; None with fewer than two groups."""
    p_adjusted: float | None = None
    """`p_permutation` corrected for all comparisons made together; None for one alone."""
    effect_size: float | None
    """Difference in standard deviations of the item differences (d_z); None without spread."""
    detectable: float | None
    """Smallest difference these items could have shown (5 % two-sided, power 80 %)."""

    @property
    def below_resolution(self) -> bool:
        """Whether the difference is smaller than what the items could have shown."""
        return self.detectable is not None and abs(self.difference) < self.detectable

    def significant(self, alpha: float = 0.05) -> bool:
        """Return whether the (corrected, where there is a family) p-value is below `alpha`."""
        p = self.p_permutation if self.p_adjusted is None else self.p_adjusted
        return p is not None and p < alpha


def compare(
    first: ArrayLike,
    second: ArrayLike,
    groups: Labels = None,
    *,
    names: tuple[str, str] = ("first", "second"),
    seed: int = 0,
) -> Comparison:
    """Compare two runs; see `compare_all`."""
    table = np.stack([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)])
    found = compare_all(table.T, list(names), groups, seed=seed)
    return found[0]


def compare_all(
    table: ArrayLike,
    names: Sequence[str],
    groups: Labels = None,
    *,
    baseline: str | None = None,
    method: Adjust = "holm",
    seed: int = 0,
) -> list[Comparison]:
    """Compare all pairs of runs, or all runs with a baseline.

    Args:
        table: (items, runs) values; NaN marks an absent value.
        names: one per run.
        groups: prompt group (or user) per item; None makes every item its own.
        baseline: compare every other run with this one (other minus baseline).
        method: correction over the comparisons of this call.
        seed: of the bootstrap and the permutations, which all comparisons share.

    Raises:
        ConfigError: the baseline is not among the runs, or a name is there twice.
        DataError: two runs to be compared share no item, or a value is infinite.
    """
    values = np.asarray(table, dtype=np.float64)
    _check(values, names, baseline)
    found: list[Comparison] = []
    for pairs in _chunks(_pairs(names, baseline)):
        found += _compare_chunk(values, names, groups, pairs, seed)
    p_values = _adjusted([comparison.p_permutation for comparison in found], method)
    if len(found) < 2:
        return found
    return [replace(one, p_adjusted=p) for one, p in zip(found, p_values, strict=True)]


def told_apart(
    table: ArrayLike,
    names: Sequence[str],
    groups: Labels = None,
    *,
    method: Adjust = "holm",
    alpha: float = 0.05,
    seed: int = 0,
) -> set[frozenset[str]]:
    """Return the pairs of runs that differ: those `compare_all` finds, without their intervals."""
    values = np.asarray(table, dtype=np.float64)
    _check(values, names, None)
    p_values: list[float | None] = []
    for pairs in _chunks(_pairs(names, None)):
        differences = _differences(values, names, pairs)
        p_values += _p_values(cluster(differences, groups, keep_empty=True), seed)
    found = zip(_pairs(names, None), _adjusted(p_values, method), strict=True)
    return {
        frozenset((names[first], names[second]))
        for (first, second), p in found
        if p is not None and p < alpha
    }


def _chunks(pairs: Iterator[tuple[int, int]]) -> Iterator[Index]:
    while chunk := list(islice(pairs, _CHUNK_PAIRS)):
        yield np.array(chunk, dtype=np.intp)


def _adjusted(p_values: Sequence[float | None], method: Adjust) -> list[float | None]:
    """Return p-values corrected for each other; None stays None and counts for nothing."""
    known = iter(adjust([p for p in p_values if p is not None], method).tolist())
    return [None if p is None else next(known) for p in p_values]


def _check(values: Floats, names: Sequence[str], baseline: str | None) -> None:
    if values.ndim != 2 or values.shape[1] != len(names):
        raise DataError(f"{len(names)} runs are named, but the values have shape {values.shape}")
    if np.isinf(values).any():
        raise DataError("a value is infinite; leave such items out with a reason")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if list(names).count(name) > 1})
        raise ConfigError(f"runs named twice: {', '.join(twice)}")
    if baseline is not None and baseline not in names:
        raise ConfigError(f"baseline {baseline!r} is not among the runs: {', '.join(names)}")


def _pairs(names: Sequence[str], baseline: str | None) -> Iterator[tuple[int, int]]:
    if baseline is None:
        yield from combinations(range(len(names)), 2)
    else:
        base = list(names).index(baseline)
        yield from ((run, base) for run in range(len(names)) if run != base)


def _compare_chunk(
    values: Floats,
    names: Sequence[str],
    groups: Labels,
    pairs: Index,
    seed: int,
) -> list[Comparison]:
    present = ~np.isnan(values)
    differences = _differences(values, names, pairs)
    common = (~np.isnan(differences)).sum(axis=0)
    clusters = cluster(differences, groups, keep_empty=True)
    intervals, p_values = _intervals(clusters, seed), _p_values(clusters, seed)
    wins, losses = (differences > 0).sum(axis=0), (differences < 0).sum(axis=0)
    p_signs, effects = sign_test(wins, losses), effect_sizes(differences)
    means, errors = clusters.means(), standard_errors(clusters)
    alone = [(present[:, a] & ~present[:, b]).sum(axis=0) for a, b in (pairs.T, pairs.T[::-1])]
    return [
        Comparison(
            first=names[pair[0]],
            second=names[pair[1]],
            difference=float(means[k]),
            ci95=intervals[k],
            n=int(common[k]),
            only_first=int(alone[0][k]),
            only_second=int(alone[1][k]),
            wins=int(wins[k]),
            losses=int(losses[k]),
            ties=int(common[k] - wins[k] - losses[k]),
            p_sign=float(p_signs[k]),
            p_permutation=p_values[k],
            effect_size=None if math.isnan(effects[k]) else float(effects[k]),
            detectable=None if math.isnan(errors[k]) else detectable_from_error(float(errors[k])),
        )
        for k, pair in enumerate(pairs)
    ]


def _differences(values: Floats, names: Sequence[str], pairs: Index) -> Floats:
    """Return (items, pairs) first minus second; NaN where one of them has no value."""
    differences = values[:, pairs[:, 0]] - values[:, pairs[:, 1]]
    for pair, n in zip(pairs, (~np.isnan(differences)).sum(axis=0), strict=True):
        if n == 0:
            raise DataError(
                f"{names[pair[0]]} and {names[pair[1]]} have no item in common: nothing to pair"
            )
    return differences


def _p_values(clusters: Clusters, seed: int) -> list[float | None]:
    """Return the permutation p-value of every column; None with fewer than two groups."""
    filled = (clusters.counts > 0).sum(axis=0)
    if len(clusters) < 2:
        return [None] * len(filled)
    p_values = permutation_test(clusters, seed=seed)
    return [float(p) if n >= 2 else None for p, n in zip(p_values, filled, strict=True)]


def _intervals(clusters: Clusters, seed: int) -> list[Interval | None]:
    """Return the interval of every column's mean; None with fewer than two groups."""
    filled = (clusters.counts > 0).sum(axis=0)
    intervals: list[Interval | None] = [None] * len(filled)
    if len(clusters) < 2:
        return intervals
    drawn = replicates(clusters, seed=seed)
    for n in np.unique(filled[filled >= 2]).tolist():
        columns, cut = np.flatnonzero(filled == n), cut_off(n)
        part = drawn[:, columns]
        quantile = np.nanquantile if np.isnan(part).any() else np.quantile
        lows, highs = quantile(part, [cut, 1 - cut], axis=0)
        for column, low, high in zip(columns, lows, highs, strict=True):
            intervals[column] = (float(low), float(high))
    return intervals
