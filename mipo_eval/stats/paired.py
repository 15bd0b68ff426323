"""Paired comparisons of runs on their common items: difference, interval, tests, corrections.

Nothing is silently joined away: items that only one side has are counted beside every comparison.
All comparisons of a call are columns of one table, so the 780 pairs of 40 runs are one call; yet
each is what it would be alone, whatever else is in the table and in whatever order.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations, islice
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.stats.bootstrap import (
    Dependence,
    Floats,
    Index,
    Interval,
    Labels,
    Mask,
    group_sums,
)
from mipo_eval.stats.estimates import Estimates, estimates, mean_covariance, patterns
from mipo_eval.stats.intervals import score_intervals
from mipo_eval.stats.margin import Evidence, fixed_evidence
from mipo_eval.stats.power import detectable_from_error
from mipo_eval.stats.seeds import SeedSpread, over_seeds, seed_spread
from mipo_eval.stats.significance import COUNTED, adjust, permutation_test, sign_test, step_down

Adjust = Literal["max-t", "holm", "bh"]
"""Corrections for a family: Romano-Wolf, Holm (both of the chance of any false difference) and
Benjamini-Hochberg (of the share of false ones among those found)."""

_CHUNK_PAIRS = 500
"""Comparisons whose sign patterns are held at once (40 MB at 10,000 patterns)."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """First run against second on the items both have; units are those of the values."""

    first: str
    second: str
    difference: float
    """Mean of first minus second over the common items."""
    ci95: Interval | None
    """Paired and clustered; None with fewer than two groups in common, or where no group differs
    from the others and nothing is known of the span of values."""
    n: int
    """Common items; at least 1."""
    only_first: int
    """Items with a value in the first run alone: left out."""
    only_second: int
    wins: int
    """Common items with the first run's value higher."""
    losses: int
    ties: int
    p_sign: float | None
    """Exact sign test of wins against losses (McNemar for yes/no values); items independent. None
    where one may look again: see `sequence`."""
    p: float | None
    """Paired permutation test that keeps groups (prompts, users) together, and what other seeds
    make of it where there are several; None with fewer than two groups."""
    p_adjusted: float | None = None
    """`p` corrected for all comparisons made together; None for one alone."""
    effect_size: float | None
    """Difference in standard deviations of the item differences (d_z); None without spread."""
    detectable: float | None
    """Smallest difference these items could have shown (5 % two-sided, power 80 %): it says nothing
    of the one that was seen. None where the items show no spread."""
    evidence: Evidence | None = field(default=None, compare=False, repr=False)
    """What `margin.within` asks."""

    def significant(self, alpha: float = 0.05) -> bool:
        """Return whether the (corrected, where there is a family) p-value is below `alpha`."""
        p = self.p if self.p_adjusted is None else self.p_adjusted
        return p is not None and p < alpha


def compare(
    first: ArrayLike,
    second: ArrayLike,
    groups: Labels = None,
    *,
    names: tuple[str, str] = ("first", "second"),
    span: Interval | None = None,
) -> Comparison:
    """Compare two runs; see `compare_all`."""
    table = np.stack([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)])
    found = compare_all(table.T, names, groups, span=span)
    return found[0]


def compare_all(
    table: ArrayLike,
    names: Sequence[str],
    groups: Labels = None,
    *,
    baseline: str | None = None,
    method: Adjust = "max-t",
    span: Interval | None = None,
) -> list[Comparison]:
    """Compare all pairs of runs, or all runs with a baseline.

    Args:
        table: (items, runs) values, or (items, runs, seeds) of methods trained several times: the
            difference is then that of the means over seeds, and covers other seeds too. NaN marks
            an absent value; a seed without any is none.
        names: one per run.
        groups: one label per item, see `bootstrap.Dependence`; None makes every item its own.
        baseline: compare every other run with this one (other minus baseline).
        method: correction over the comparisons of this call.
        span: lowest and highest value an item can have, where known: without it no interval can be
            told of values that all differ alike.

    Raises:
        ConfigError: the baseline is not among the runs, or a name is there twice.
        DataError: two runs to be compared share no item, or a value is infinite.
    """
    runs = _Runs.of(table, names, groups)
    if baseline is not None and baseline not in names:
        raise ConfigError(f"baseline {baseline!r} is not among the runs: {', '.join(names)}")
    found: list[Comparison] = []
    alone: list[Floats] = []
    pairs = list(_pairs(names, baseline))
    for chunk in _chunks(iter(pairs)):
        compared, p_values = _compare_chunk(runs, chunk, span)
        found += compared
        alone.append(p_values)
    if len(found) < 2:
        return found
    return _corrected(runs, found, np.concatenate(alone), np.array(pairs, dtype=np.intp), method)


def told_apart(
    table: ArrayLike, names: Sequence[str], groups: Labels = None, *, alpha: float = 0.05
) -> set[frozenset[str]]:
    """Return the pairs of runs that differ: those that `compare_all` finds."""
    found = compare_all(table, names, groups)
    return {frozenset((one.first, one.second)) for one in found if one.significant(alpha)}


@dataclass(frozen=True, slots=True)
class _Runs:
    """Runs side by side, and what their seeds add."""

    values: Floats
    """(items, runs) means over seeds."""
    has: Mask
    names: Sequence[str]
    groups: Labels
    dependence: Dependence
    seeds: SeedSpread

    @classmethod
    def of(cls, table: ArrayLike, names: Sequence[str], groups: Labels) -> "_Runs":
        """Check and prepare a table of `compare_all`."""
        values = np.asarray(table, dtype=np.float64)
        if values.ndim not in {2, 3} or values.shape[1] != len(names):
            raise DataError(
                f"{len(names)} runs are named, but the values have shape {values.shape}"
            )
        if np.isinf(values).any():
            raise DataError("a value is infinite; leave such items out with a reason")
        if len(set(names)) < len(names):
            twice = sorted({name for name in names if list(names).count(name) > 1})
            raise ConfigError(f"runs named twice: {', '.join(twice)}")
        seeds = seed_spread(values if values.ndim == 3 else values[:, :, None], groups)
        means = over_seeds(values) if values.ndim == 3 else values
        dependence = Dependence.of(groups, len(values))
        return cls(means, ~np.isnan(means), names, groups, dependence, seeds)


def _chunks(pairs: Iterator[tuple[int, int]]) -> Iterator[Index]:
    while chunk := list(islice(pairs, _CHUNK_PAIRS)):
        yield np.array(chunk, dtype=np.intp)


def _pairs(names: Sequence[str], baseline: str | None) -> Iterator[tuple[int, int]]:
    if baseline is None:
        yield from combinations(range(len(names)), 2)
    else:
        base = list(names).index(baseline)
        yield from ((run, base) for run in range(len(names)) if run != base)


def _compare_chunk(
    runs: _Runs, pairs: Index, span: Interval | None
) -> tuple[list[Comparison], Floats]:
    """Return comparisons, and the p-values that a correction goes by; NaN where there is none."""
    differences = _differences(runs, pairs)
    means = estimates(differences, runs.groups)
    doubts = [
        runs.seeds.doubt(error**2, degrees, pair)
        for error, degrees, pair in zip(
            means.errors.tolist(), means.degrees.tolist(), pairs.tolist(), strict=True
        )
    ]
    intervals = _intervals(differences, means, span)
    p_items, floors = _permuted(differences, means, runs.dependence)
    wins, losses = (differences > 0).sum(axis=0), (differences < 0).sum(axis=0)
    p_signs, effects = sign_test(wins, losses), effect_sizes(differences)
    alone = [(runs.has[:, a] & ~runs.has[:, b]).sum(axis=0) for a, b in (pairs.T, pairs.T[::-1])]
    evidence = fixed_evidence(differences, means, span, runs.seeds, pairs.tolist())
    by_t = means.p_values()
    found = []
    for k, (pair, doubt) in enumerate(zip(pairs, doubts, strict=True)):
        difference, p = float(means.means[k]), float(p_items[k])
        error = doubt.error if doubt else float(means.errors[k])
        if doubt:
            by_t[k] = doubt.p(difference)
            p = max(p, float(by_t[k]))
        by_t[k] = max(by_t[k], floors[k])
        found.append(
            Comparison(
                first=runs.names[pair[0]],
                second=runs.names[pair[1]],
                difference=difference,
                ci95=doubt.around(difference) if doubt else intervals[k],
                n=int(means.items[k]),
                only_first=int(alone[0][k]),
                only_second=int(alone[1][k]),
                wins=int(wins[k]),
                losses=int(losses[k]),
                ties=int(means.items[k] - wins[k] - losses[k]),
                p_sign=float(p_signs[k]),
                p=None if math.isnan(p) else p,
                effect_size=None if math.isnan(effects[k]) else float(effects[k]),
                detectable=_detectable(error, doubt.degrees if doubt else float(means.degrees[k])),
                evidence=evidence[k],
            )
        )
    return found, by_t


def _detectable(error: float, degrees: float) -> float | None:
    """Return the smallest difference that is found; None where the items show no spread."""
    return detectable_from_error(error, degrees) if error > 0 else None


def _differences(runs: _Runs, pairs: Index) -> Floats:
    """Return (items, pairs) first minus second; NaN where one of them has no value."""
    differences = runs.values[:, pairs[:, 0]] - runs.values[:, pairs[:, 1]]
    for pair, n in zip(pairs, (~np.isnan(differences)).sum(axis=0), strict=True):
        if n == 0:
            first, second = runs.names[pair[0]], runs.names[pair[1]]
            raise DataError(f"{first} and {second} have no item in common: nothing to pair")
    return differences


def _intervals(
    differences: Floats, means: Estimates, span: Interval | None
) -> list[Interval | None]:
    """Return the interval of every difference of single runs."""
    if span is None:
        return means.intervals()
    widest = span[1] - span[0]
    return score_intervals(differences, means, (-widest, widest))


def _permuted(
    differences: Floats, means: Estimates, dependence: Dependence
) -> tuple[Floats, Floats]:
    """Return the permutation p-value of every column, and how small its p-value could be at all.

    Where prompts and users cross, both leave their mark on the difference. Signs then change by
    the kind that leaves more: the shape of chance is that of the one, its scale that of both, as in
    the multiway wild bootstrap (MacKinnon, Nielsen and Webb 2021); the t-test has the last word.
    """
    p_values, floors = np.full((2, differences.shape[1]), np.nan)
    by_t = means.p_values()
    for rows, columns in patterns(differences):
        part = differences[np.ix_(rows, columns)]
        kinds = dependence.kinds(rows)[:2]
        if any(int(ids.max(initial=-1)) < 1 for ids in kinds):
            continue
        errors = [estimates(part, ids.tolist()).errors for ids in kinds]
        larger = np.argmax(errors, axis=0)
        for kind, ids in enumerate(kinds):
            own = larger == kind
            both = means.errors[columns[own]]
            scale = np.divide(errors[kind][own], both, out=np.ones_like(both), where=both > 0)
            sums = group_sums(part[:, own], ids)
            telling = (sums != 0).sum(axis=0)
            found = permutation_test(sums, scale=scale)
            if len(kinds) == 2:
                found = np.fmax(found, by_t[columns[own]])
            p_values[columns[own]] = found
            floors[columns[own]] = np.where(telling > COUNTED, 2.0 ** (1 - telling), found)
    return p_values, floors


def _corrected(
    runs: _Runs, found: Sequence[Comparison], alone: Floats, pairs: Index, method: Adjust
) -> list[Comparison]:
    """Add p-values corrected for each other; a comparison without one counts for nothing."""
    known = ~np.isnan(alone)
    if not known.any():
        return list(found)
    if method == "max-t":
        together = mean_covariance(runs.values, runs.groups) + np.diag(runs.seeds.variances())
        adjusted = step_down(alone[known], together, pairs[known])
    else:
        adjusted = adjust(alone[known], method)
    made = list(found)
    for k, p in zip(np.flatnonzero(known).tolist(), adjusted.tolist(), strict=True):
        made[k] = replace(found[k], p_adjusted=max(p, found[k].p or 0.0))
    return made
