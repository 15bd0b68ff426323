"""Means over items with their errors: the one place that every interval and test of a mean asks.

An error is the clustered ("sandwich") error with the correction for unequal groups that Bell and
McCaffrey (2002) call CR2, and its degrees of freedom are theirs (Imbens and Kolesar 2016): with
equal groups both are the textbook's, groups - 1, and two groups are enough for an interval that
holds. Where prompts and users cross, the variances of the two kinds are added and that of their
pairs is taken off, so that what an item has for itself is counted once (Cameron, Gelbach and Miller
2011; Miller 2024). Nothing is drawn: a number depends on its own items and on nothing else.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mipo_eval.errors import DataError
from mipo_eval.stats.bootstrap import (
    Dependence,
    Floats,
    Index,
    Interval,
    Labels,
    Mask,
    group_sums,
)

_ALIKE = 1e-12
"""Errors below this share of the largest value are rounding: all groups show the same."""


@dataclass(frozen=True, slots=True)
class Estimates:
    """Means of columns over items; every field has the shape (columns,)."""

    means: Floats
    """NaN without a value."""
    errors: Floats
    """Standard errors; NaN with fewer than two groups, 0 where all groups show the same."""
    degrees: Floats
    """Degrees of freedom of the errors; NaN with fewer than two groups."""
    items: NDArray[np.intp]
    """How many items have a value."""

    def intervals(self, level: float = 0.95) -> list[Interval | None]:
        """Return Student's intervals; None where there are not two groups that differ."""
        reach = t_quantile(self.degrees, level) * self.errors
        return [
            (float(mean - half), float(mean + half)) if half > 0 else None
            for mean, half in zip(self.means, reach, strict=True)
        ]

    def p_values(self) -> Floats:
        """Return two-sided p-values of the t-test that a mean is 0; NaN without an error.

        1 where all groups show 0, and 0 where they all show another value: the exact test knows.
        """
        from scipy.special import stdtr

        means = np.abs(self.means)
        with np.errstate(divide="ignore", invalid="ignore"):
            t = np.where((means == 0) & (self.errors == 0), 0.0, means / self.errors)
        return np.asarray(2 * stdtr(self.degrees, -t))


def t_quantile(degrees: ArrayLike, level: float = 0.95) -> Floats:
    """Return how many standard errors an interval reaches to each side."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(np.asarray(degrees, dtype=np.float64), (1 + level) / 2))


def estimates(values: ArrayLike, groups: Labels = None) -> Estimates:
    """Return the mean of every column with its error.

    Args:
        values: (items,) or (items, columns); NaN marks a value that is absent and is left out.
        groups: one label per item, see `bootstrap.Dependence`.

    Raises:
        DataError: a value is infinite.
    """
    table = as_table(values)
    dependence = Dependence.of(groups, len(table))
    size = table.shape[1]
    found = Estimates(
        means=np.full(size, np.nan),
        errors=np.full(size, np.nan),
        degrees=np.full(size, np.nan),
        items=(~np.isnan(table)).sum(axis=0),
    )
    for rows, columns in patterns(table):
        part = table[:, columns] if rows.all() else table[np.ix_(rows, columns)]
        if not len(part):
            continue
        found.means[columns] = means = part.mean(axis=0)
        kinds = dependence.kinds(rows)
        if any(ids.max() == 0 for ids in kinds):
            continue
        variances = [_spread(part, means, ids) for ids in kinds]
        variance, degrees = _of_kinds(variances)
        smallest = (_ALIKE * np.abs(part).max(axis=0)) ** 2
        found.errors[columns] = np.sqrt(np.where(variance > smallest, variance, 0.0))
        found.degrees[columns] = degrees
    return found


def as_table(values: ArrayLike) -> Floats:
    """Return (items, columns) numbers.

    Raises:
        DataError: a value is infinite.
    """
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    if np.isinf(table).any():
        raise DataError("a value is infinite; leave such items out with a reason")
    return table


def patterns(table: Floats) -> Iterator[tuple[Mask, Index]]:
    """Yield (items,) which items have a value, and the columns that have just those."""
    present = ~np.isnan(table)
    alike: dict[bytes, list[int]] = {}
    for column in range(table.shape[1]):
        alike.setdefault(np.packbits(present[:, column]).tobytes(), []).append(column)
    for columns in alike.values():
        yield present[:, columns[0]], np.array(columns, dtype=np.intp)


def jackknifed(value: float, kinds: Sequence[Index], without: Sequence[Floats]) -> Estimates:
    """Return a figure that is no mean, with its error: from what it is without each group.

    A figure may depend on all of its items at once, as Self-BLEU does: an item also counts by what
    it does to the others. For a mean this is what `estimates` gives, whatever the groups' sizes.

    Args:
        value: the figure of all items.
        kinds: (items,) numbers of the groups, of `Dependence.kinds`.
        without: per kind (groups,) the figure of the other items alone.
    """
    error, degrees = np.array([np.nan]), np.array([np.nan])
    # Of two users who cross with prompts one alone may leave nothing to compare: then it is about
    # other prompts with these users.
    told = [k for k, one in enumerate(without[:2]) if len(one) > 1 and not np.isnan(one).any()]
    used = told[:1] if len(told) < min(len(kinds), 2) else range(len(kinds))
    if told:
        variance, degrees = _of_kinds([_pulled(value, without[k], _shares(kinds[k])) for k in used])
        error = np.sqrt(np.where(variance > (_ALIKE * abs(value)) ** 2, variance, 0.0))
    return Estimates(np.array([value]), error, degrees, np.array([len(kinds[0])]))


def _pulled(value: float, figures: Floats, share: Floats) -> tuple[Floats, float]:
    """Return the variance by one kind of groups of a `jackknifed` figure, and its degrees."""
    pulls = (1 - share) * (value - figures)
    # What a figure changes by because there are fewer items says nothing of the group.
    pulls -= share * pulls.sum()
    return np.array([(pulls**2 / (1 - share)).sum()]), _degrees(share)


def _shares(ids: Index) -> Floats:
    return np.asarray(np.bincount(ids) / len(ids))


def _spread(part: Floats, means: Floats, ids: Index) -> tuple[Floats, float]:
    """Return the variances of the means by one kind of groups, and their degrees of freedom."""
    share = _shares(ids)
    residuals = group_sums(part - means, ids)
    variances = (residuals**2 / (1 - share[:, None])).sum(axis=0) / len(part) ** 2
    return variances, _degrees(share)


def _degrees(share: Floats) -> float:
    """Return Satterthwaite's degrees of the sum of squares, were all items independent and alike.

    Written out for a mean the (groups, groups) matrix is a diagonal and an outer product.
    """
    lever = share**2 / (1 - share)
    inverse = (share**2).sum() + lever.sum() ** 2 - (lever**2).sum()
    return float(1 / inverse)


def _of_kinds(found: list[tuple[Floats, float]]) -> tuple[Floats, Floats]:
    """Return variances and degrees of freedom from those of one kind, or of two and their pairs."""
    variance = crossed([one for one, _ in found])
    least = np.full(len(variance), min(degrees for _, degrees in found))
    if len(found) == 1:
        return variance, least
    (one, own), (two, other), _ = found
    with np.errstate(divide="ignore", invalid="ignore"):
        both = variance**2 / (one**2 / own + two**2 / other)
    # Where nothing varies (NaN) the rarer kind tells how much that is worth.
    return variance, np.where(np.isnan(both), least, np.clip(both, least, own + other))


def crossed(variances: list[Floats]) -> Floats:
    """Return the variance by one kind of groups, or by two kinds that cross.

    With few groups the sum of estimates can fall below either, even below 0; a second kind of
    dependence is never taken to make a mean surer than the first alone.
    """
    if len(variances) == 1:
        return variances[0]
    one, two, pairs = variances
    return np.maximum(one + two - pairs, np.maximum(one, two))


def covariance(scores: Floats, kinds: tuple[Index, ...]) -> Floats:
    """Return the covariance matrix of sums of scores that depend on each other by kinds of groups.

    Args:
        scores: (items, columns), each column summing to 0; 0 for an absent value.
        kinds: of `Dependence.kinds`.

    Returns:
        (columns, columns), positive semi-definite, its variances those of `crossed`.
    """
    found = []
    for ids in kinds:
        sums, n = group_sums(scores, ids), int(ids.max()) + 1
        found.append(sums.T @ sums * (n / (n - 1)))
    if len(found) == 1:
        return found[0]
    total = found[0] + found[1] - found[2]
    values, vectors = np.linalg.eigh(total)
    total = (vectors * np.maximum(values, 0.0)) @ vectors.T
    wanted = crossed([np.diag(one) for one in found])
    return np.asarray(total + np.diag(np.maximum(wanted - np.diag(total), 0.0)))


def mean_covariance(table: Floats, groups: Labels) -> Floats:
    """Return (columns, columns) covariance of the means of columns; absent values are left out.

    Zeros with fewer than two groups.
    """
    present = ~np.isnan(table)
    used: Mask = np.asarray(present.any(axis=1))
    part, size = table[used], table.shape[1]
    kinds = Dependence.of(groups, len(table)).kinds(used)
    if any(int(ids.max(initial=-1)) < 1 for ids in kinds):
        return np.zeros((size, size))
    counts = np.maximum(present.sum(axis=0), 1)
    means = np.nansum(part, axis=0) / counts
    pulls = np.where(np.isnan(part), 0.0, part - means) / counts
    return covariance(pulls, kinds)


def standard_error(values: ArrayLike, groups: Labels = None) -> float | None:
    """Return the standard error of the mean of (items,) values, clustered by `groups`.

    NaN marks an absent value. None with fewer than two groups.
    """
    error = float(estimates(np.asarray(values, dtype=np.float64).reshape(-1, 1), groups).errors[0])
    return None if np.isnan(error) else error


def design_effect(values: ArrayLike, groups: Labels) -> float | None:
    """Return by how much the clustering multiplies the variance of the mean.

    1: items of a group are as good as independent; m: the m items of a group are copies, and only
    the number of groups counts. None where it cannot be told (fewer than two groups, no spread).
    """
    clustered, plain = standard_error(values, groups), standard_error(values)
    if clustered is None or not plain:
        return None
    return (clustered / plain) ** 2


def normals(matrix: Floats, resamples: int, seed: int) -> Floats:
    """Return (resamples, columns) draws of normals with mean 0 and this covariance matrix."""
    size = len(matrix)
    # A little on the diagonal lets a singular matrix (more columns than groups) be factored, and
    # keeps the factor, and so the draws, from depending on rounding.
    lift = 1e-10 * np.trace(matrix) / size
    factor = np.linalg.cholesky(matrix + (lift or 1.0) * np.eye(size))
    drawn = np.random.default_rng(seed).standard_normal((resamples, size))
    return np.asarray(drawn @ factor.T)
