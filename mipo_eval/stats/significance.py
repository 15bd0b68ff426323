"""Tests of paired differences, and what becomes of many p-values that are looked at together."""

from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from mipo_eval.stats.bootstrap import CHUNK_CELLS, Floats, Index
from mipo_eval.stats.estimates import normals

PERMUTATIONS = 10_000
COUNTED = 13
"""Clusters up to which all sign patterns are counted: 8,192, fewer than would be drawn."""
_FEW = 6
"""Clusters up to which patterns as extreme as what was seen count in full: halving them would find
something in 6.25 of 100 repetitions where nothing is."""
_LARGEST = 4_000
"""Clusters whose signs are drawn one by one; the sum of all smaller ones is normal."""


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
    # 2^-1100 is no number of a computer any more, but no p-value is 0.
    return np.asarray(np.clip(2 * lower, np.finfo(np.float64).tiny, 1.0), dtype=np.float64)


def permutation_test(
    sums: Floats,
    *,
    scale: Floats | None = None,
    seed: int = 0,
    permutations: int = PERMUTATIONS,
) -> Floats:
    """Return two-sided p-values for "the paired differences are symmetric around 0".

    The differences of a whole cluster change sign together, so items of a prompt may depend on
    each other. With few clusters (`COUNTED`) all 2^n sign patterns are counted (exact); otherwise
    patterns are drawn, and the observed one counts as one of them: (b + 1) / (m + 1), never 0.

    Patterns that are just as extreme as what was seen count half (the mid-p value; Lancaster 1961,
    and for McNemar's test Fagerland et al. 2013): wins and losses are whole numbers, many patterns
    tie, and counted in full they make a test of 5 % find something in 1 to 4 % of repetitions.

    Args:
        sums: (clusters, columns) sums of the differences, first minus second.
        scale: (columns,) by how much the observed sums count less than they are, because clusters
            of another kind make them vary too; None: they count in full.
        seed: of the draw.
        permutations: how many sign patterns to draw.
    """
    # The sum stands for the mean: flipping signs changes no count, so both are extreme together.
    # What a cluster is called and where it stands must not matter, so every column is put in
    # order: the j-th largest sum meets the j-th row of signs, and clusters at 0 say nothing.
    sizes = -np.sort(-np.abs(sums), axis=0)
    sizes = sizes[: int((sizes > 0).sum(axis=0).max(initial=0))]
    observed = np.abs(sums.sum(axis=0)) * (1.0 if scale is None else scale)
    return _signed(sizes, observed, seed=seed, permutations=permutations)


def _signed(sums: Floats, observed: Floats, *, seed: int, permutations: int) -> Floats:
    """Return how often sums under random signs are as far from 0 as the observed ones.

    Args:
        sums: (clusters, columns) sizes, the largest first.
        observed: (columns,) what is to be reached.
        seed: of the draw.
        permutations: how many sign patterns to draw.
    """
    # Sums that differ only by rounding are equal, or an exact test would depend on the order.
    rounding = 1e-9 * sums.sum(axis=0)
    telling = (sums > 0).sum(axis=0)
    least = np.array([observed - rounding, observed + np.where(telling > _FEW, 1, -1) * rounding])
    p_values = np.ones(len(observed))
    few = telling <= COUNTED
    if few.any():
        own = sums[:, few]
        own = own[: int((own > 0).sum(axis=0).max(initial=0))]
        n = len(own)
        signs = 2.0 * ((np.arange(1 << n)[:, None] >> np.arange(n)) & 1) - 1
        p_values[few] = (np.abs(signs @ own) >= least[:, None, few]).mean(axis=(0, 1))
    if not few.all():
        drawn = _random_signs(sums[:, ~few], seed, permutations)
        exceeding = (np.abs(drawn) >= least[:, ~few, None]).sum(axis=2).mean(axis=0)
        p_values[~few] = (exceeding + 1) / (permutations + 1)
    return p_values


def _random_signs(sums: Floats, seed: int, permutations: int) -> Floats:
    """Return (columns, permutations) sums under random signs.

    A row of signs depends on its place alone, so a column's numbers do not change with the others.
    The sum of the many small ones is normal to all purposes.
    """
    rng = np.random.default_rng(seed)
    drawn = np.zeros((sums.shape[1], permutations))
    rows = max(1, CHUNK_CELLS // permutations)
    large = sums[:_LARGEST]
    for start in range(0, len(large), rows):
        part = large[start : start + rows]
        signs = 2.0 * rng.integers(2, size=(len(part), permutations), dtype=np.int8) - 1
        drawn += part.T @ signs
    rest = np.sqrt((sums[_LARGEST:] ** 2).sum(axis=0))
    if rest.any():
        normal = np.random.default_rng((seed, 1)).standard_normal(permutations)
        drawn += rest[:, None] * normal
    return drawn


def adjust(p_values: ArrayLike, method: Literal["holm", "bh"] = "holm") -> Floats:
    """Return p-values corrected for being a family, whatever they have to do with each other.

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


def step_down(p_values: ArrayLike, together: Floats, pairs: Index, *, seed: int = 0) -> Floats:
    """Return p-values of differences between runs, corrected for each other (Romano-Wolf).

    How far the most extreme of many differences reaches by chance depends on how they hang
    together: those of 40 runs on the same items share runs and items, and Holm pays for them as if
    they were strangers. Here their common chance is drawn, normals with the runs' covariance
    (a Gaussian multiplier bootstrap); the largest takes the place of the whole family, and what is
    found leaves it (Westfall and Young 1993; Romano and Wolf 2005; Chernozhukov et al. 2013).

    Args:
        p_values: (tests,) of the differences alone.
        together: (runs, runs) covariance of the runs' means.
        pairs: (tests, 2) the runs of each difference.
        seed: of the draws.

    Returns:
        (tests,) corrected p-values, (b + 1) / (m + 1) with m = `PERMUTATIONS`.
    """
    from scipy.special import ndtri

    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    sizes = -ndtri(values[order] / 2)
    first, second = pairs[order].T
    spread = np.sqrt(np.maximum(_difference_variances(together, first, second), 0.0))
    scale = np.divide(1.0, spread, out=np.zeros_like(spread), where=spread > 0)
    means = normals(together, PERMUTATIONS, seed)
    exceeding = np.zeros(len(values))
    step = max(1, CHUNK_CELLS // max(len(values), 1))
    for start in range(0, PERMUTATIONS, step):
        part = means[start : start + step]
        extreme = np.abs(part[:, first] - part[:, second]) * scale
        # The largest of those that are not found yet: from the least extreme upwards.
        largest = np.maximum.accumulate(extreme[:, ::-1], axis=1)[:, ::-1]
        exceeding += (largest >= sizes).sum(axis=0)
    adjusted = np.empty_like(values)
    adjusted[order] = np.maximum.accumulate((exceeding + 1) / (PERMUTATIONS + 1))
    return adjusted


def _difference_variances(together: Floats, first: Index, second: Index) -> Floats:
    own = np.diag(together)
    return np.asarray(own[first] + own[second] - 2 * together[first, second])
