"""Ranks with their uncertainty: tie groups, rank intervals, and what "best of k" is worth.

A table sorted by a mean looks like a strict order even where the data cannot tell neighbours
apart. Two remedies: letters, shared by all runs that no comparison separates (a compact letter
display), and the range of ranks a run can have given what is told apart (Mogstad, Romano, Shaikh
and Wilhelm 2024). Both say with 95 % that nothing in the whole table is wrong.

The selection guard says what the best of k is worth when it was chosen on the items it is shown on,
as in the paper's Tables 1 and 2 (the best of several negative strategies) and in sweeps. The
highest of k noisy means is too high on average, most where the candidates are alike. The correction
repeats the choice on resampled items and reads the chosen candidate's mean on the items left out of
the resample (Tsamardinos et al. 2018): chosen on some, measured on others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

import numpy as np
from numpy.typing import ArrayLike

from mipo_eval.errors import DataError
from mipo_eval.stats.bootstrap import (
    RESAMPLES,
    Clusters,
    Floats,
    Interval,
    Labels,
    cluster,
    ratio,
    seeded_weights,
)
from mipo_eval.stats.estimates import estimates
from mipo_eval.stats.paired import told_apart
from mipo_eval.stats.seeds import over_seeds


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One run's place in a table."""

    name: str
    mean: float
    """As it would be on all items of the table, see `level_means`."""
    missing: int
    """Items of the table without a value of this run: another run has one."""
    rank: int
    """1 is the highest mean; equal means share the better rank."""
    rank_ci95: tuple[int, int] | None
    """From how many runs are told apart above and below it; None with fewer than two groups."""
    letters: str
    """Runs that share a letter are not told apart by any (corrected) paired comparison."""
    tied_with_best: bool
    """Whether no comparison separates it from the run with the highest mean."""


def rank_runs(
    table: ArrayLike, names: Sequence[str], groups: Labels = None, *, alpha: float = 0.05
) -> list[Rank]:
    """Rank runs by their mean, best first.

    Args:
        table: (items, runs) values, or (items, runs, seeds), higher is better; NaN marks an absent
            value. Runs are ranked and compared on the items they share.
        names: one per run.
        groups: one label per item, see `bootstrap.Dependence`.
        alpha: level below which a pair is told apart, corrected over all pairs.

    Raises:
        ConfigError: a name is there twice.
        DataError: a run has no value, or two runs share no item.
    """
    values = np.asarray(table, dtype=np.float64)
    flat = over_seeds(values) if values.ndim == 3 else values
    empty = [name for name, column in zip(names, flat.T, strict=True) if np.isnan(column).all()]
    if empty:
        raise DataError(f"runs without any value cannot be ranked: {', '.join(empty)}")
    apart = told_apart(values, names, groups, alpha=alpha)
    means = level_means(flat)
    order = [names[i] for i in np.argsort(-means, kind="stable")]
    letters = letter_display(order, apart)
    places = ranks(means[None, :])[0]
    table_items = flat[~np.isnan(flat).all(axis=1)]
    by_name = dict(zip(names, means.tolist(), strict=True))
    sure = bool(np.isfinite(estimates(flat, groups).degrees).any())
    ranked = {
        name: Rank(
            name=name,
            mean=float(means[i]),
            missing=int(np.isnan(table_items[:, i]).sum()),
            rank=int(places[i]),
            rank_ci95=_range(name, by_name, apart) if sure else None,
            letters=letters[name],
            tied_with_best=frozenset((name, order[0])) not in apart,
        )
        for i, name in enumerate(names)
    }
    return [ranked[name] for name in order]


def level_means(values: Floats) -> Floats:
    """Return (runs,) means of (items, runs) values, as they would be if no value were missing.

    A run that skips hard items has a high mean, and an item that only some runs have says nothing
    of the others. So each item is given a level of its own and each run its distance from it, by
    least squares: two runs are as far apart as on their common items, and where nothing is missing
    these are the plain means.
    """
    has = ~np.isnan(values)
    means = np.asarray(np.nanmean(values, axis=0))
    if has.all():
        return means
    filled, each = np.where(has, values, 0.0), has.astype(np.float64)
    counts = each.sum(axis=1, keepdims=True)
    shares = np.divide(each, counts, out=np.zeros_like(each), where=counts > 0)
    normal = np.diag(each.sum(axis=0)) - each.T @ shares
    right = filled.sum(axis=0) - shares.T @ filled.sum(axis=1)
    effects = np.linalg.lstsq(normal, right, rcond=None)[0]
    # The items' levels then are what is left; a run's mean is over the levels of all items.
    levels = (filled - each * effects).sum(axis=1)[has.any(axis=1)] / counts[has.any(axis=1), 0]
    return np.asarray(levels.mean() + effects)


def _range(name: str, means: Mapping[str, float], apart: set[frozenset[str]]) -> tuple[int, int]:
    """Return the best and the worst rank of a run, given who is told apart from it."""
    others = [other for other in means if frozenset((name, other)) in apart]
    better = sum(means[other] > means[name] for other in others)
    return 1 + better, len(means) - (len(others) - better)


def ranks(means: Floats) -> Floats:
    """Return (rows, runs) ranks within each row of means: 1 is the highest, equals share it.

    Rows in which a run has no mean (NaN) are left out. Does what scipy's `rankdata` does with
    method "min": to import that one takes longer than all the rest of a leaderboard.
    """
    whole = -means[~np.isnan(means).any(axis=1)]
    order = np.argsort(whole, axis=1, kind="stable")
    raised = np.take_along_axis(whole, order, axis=1)
    first = np.zeros(whole.shape, dtype=np.intp)
    first[:, 1:] = np.where(np.diff(raised, axis=1) > 0, np.arange(1, whole.shape[1]), 0)
    places = np.empty(whole.shape)
    np.put_along_axis(places, order, np.maximum.accumulate(first, axis=1) + 1.0, axis=1)
    return places


def letter_display(order: Sequence[str], apart: set[frozenset[str]]) -> dict[str, str]:
    """Give runs letters so that two share one exactly when they are not told apart.

    Insert and absorb (Piepho 2004): begin with one group of all; every pair told apart splits the
    groups that hold both; groups within others are dropped. Groups are lettered by their best run.

    Args:
        order: runs, best first.
        apart: pairs of runs that are told apart.
    """
    groups = [frozenset(order)]
    for pair in sorted(apart, key=lambda pair: sorted(map(order.index, pair))):
        # Each group that holds both runs becomes two, without the one and without the other. What
        # then lies within another group says nothing that the larger one does not.
        split = []
        for group in groups:
            split += [group - {run} for run in pair] if pair <= group else [group]
        distinct = list(dict.fromkeys(split))
        groups = [g for g in distinct if not any(g < other for other in distinct)]
    groups.sort(key=lambda group: sorted(map(order.index, group)))
    between = "" if len(groups) <= len(ascii_lowercase) else " "
    return {
        run: between.join(_letter(i) for i, group in enumerate(groups) if run in group)
        for run in order
    }


def _letter(index: int) -> str:
    """Return a, b, ... z, aa, ab, ... as spreadsheets name columns."""
    name = ""
    index += 1
    while index:
        index, digit = divmod(index - 1, 26)
        name = ascii_lowercase[digit] + name
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class BestOf:
    """The best of k candidates, chosen and shown on the same items."""

    name: str
    k: int
    """How many candidates there were; the value is to be marked "best of k"."""
    shown: float
    """Mean of the best candidate: what a table without the guard prints."""
    corrected: float | None
    """Mean on items the choice did not see; never above `shown`. None with fewer than two
    groups."""
    ci95: Interval | None
    """Interval of the best candidate, moved by the correction."""


def best_of(
    table: ArrayLike,
    names: Sequence[str],
    groups: Labels = None,
    *,
    seed: int = 0,
) -> BestOf:
    """Choose the candidate with the highest mean, and say what the choice is worth.

    Args:
        table: (items, candidates) values, higher is better; NaN marks an absent value.
        names: one per candidate.
        groups: prompt group (or user) per item: chosen and measured groups are kept apart.
        seed: of the resamples.

    Raises:
        DataError: a candidate has no value, or names and columns differ in number.
    """
    values = np.asarray(table, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != len(names):
        raise DataError(f"{len(names)} candidates are named, the values have shape {values.shape}")
    clusters = cluster(values, groups)
    means = clusters.means()
    if len(clusters) == 0 or np.isnan(means).any():
        raise DataError("a candidate without any value cannot be the best of anything")
    best = int(np.argmax(means))
    shown = float(means[best])
    if len(clusters) < 2:
        return BestOf(name=names[best], k=len(names), shown=shown, corrected=None, ci95=None)
    unseen = _choose_again(clusters, seed)
    # Noise can put the unseen mean above the shown one; a correction upwards makes no sense.
    corrected = min(float(np.nanmean(unseen)), shown) if len(names) > 1 else shown
    moved = corrected - shown
    alone = estimates(values[:, best], groups).intervals()[0]
    return BestOf(
        name=names[best],
        k=len(names),
        shown=shown,
        corrected=corrected,
        ci95=alone and (alone[0] + moved, alone[1] + moved),
    )


def _choose_again(clusters: Clusters, seed: int) -> Floats:
    """Repeat the choice on every resample.

    A resample leaves out about a third of the clusters: they had no part in the choice, so the
    chosen candidate's mean over them has nothing of its luck.

    Returns:
        (resamples,) means of the candidate chosen there over the clusters not drawn.
    """
    unseen = []
    for weights in seeded_weights(len(clusters), RESAMPLES, seed):
        means = ratio(weights @ clusters.sums, weights @ clusters.counts)
        # A candidate without a mean is never chosen.
        best = np.where(np.isnan(means), -np.inf, means).argmax(axis=1)
        left_out = (weights == 0).astype(np.float64)
        others = ratio(left_out @ clusters.sums, left_out @ clusters.counts)
        unseen.append(others[np.arange(len(best)), best])
    return np.concatenate(unseen)
