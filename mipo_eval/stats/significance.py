"""Tests for paired results, exact or by permutation, and corrections for many of them.

All functions take one column per comparison, so the 780 pairs of 40 runs are one call.
"""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mipo_eval.stats.bootstrap import Clusters, Floats
from mipo_eval.stats.variance import standard_errors

Adjust = Literal["holm", "bh"]

PERMUTATIONS = 10_000
_CHUNK_CELLS = 2_000_000
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
    n = len(clusters)
    observed = np.abs(clusters.sums.sum(axis=0))
    # Sums that differ only by rounding are equal, or an exact test would depend on the order.
    reached = observed - 1e-9 * np.abs(clusters.sums).sum(axis=0)
    if 1 << n <= permutations:
        signs = 2.0 * ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1) - 1
        return np.asarray((np.abs(signs @ clusters.sums) >= reached).mean(axis=0))
    rng = np.random.default_rng(seed)
    exceeding = np.zeros(len(observed))
    step = max(1, _CHUNK_CELLS // n)
    for start in range(0, permutations, step):
        size = min(step, permutations - start)
        flips = 2.0 * rng.integers(2, size=(size, n), dtype=np.int8) - 1
        exceeding += (np.abs(flips @ clusters.sums) >= reached).sum(axis=0)
    drawn = (exceeding + 1) / (permutations + 1)
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
    if values.size == 0:
        return values
    if method == "holm":
        return _holm(values)
    from statsmodels.stats.multitest import multipletests

    return np.asarray(multipletests(values, method="fdr_bh")[1], dtype=np.float64)


def _holm(values: Floats) -> Floats:
    """Return what statsmodels' multipletests(method="holm") does, number for number.

    That one calls `gc.collect`, which takes half a second where a large store has been read: more
    than all the tests of a leaderboard.
    """
    order = np.argsort(values)
    raised = np.maximum.accumulate(values[order] * np.arange(len(values), 0, -1))
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
