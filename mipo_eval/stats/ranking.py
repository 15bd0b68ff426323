"""Ranks with their uncertainty: tie groups, rank intervals, and what "best of k" is worth.

A table sorted by a mean looks like a strict order even where the data cannot tell neighbours
apart. Two remedies: letters, shared by all runs that no comparison separates (a compact letter
display), and the range of ranks a run takes when the items are drawn again.

The selection guard says what the best of k is worth when it was chosen on the items it is shown on,
as in the paper's Tables 1 and 2 (the best of several negative strategies) and in sweeps. The
highest of k noisy means is too high on average, most where the candidates are alike. The correction
repeats the choice on resampled items and reads the chosen candidate's mean on the items left out of
the resample (Tsamardinos et al. 2018): chosen on some, measured on others.
"""

from collections.abc import Sequence
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
    percentile_interval,
    ratio,
    replicates,
    seeded_weights,
)
from mipo_eval.stats.paired import Adjust, told_apart


@dataclass(frozen=True, slots=True, kw_only=True)
class Rank:
    """One run's place in a table."""

    name: str
    mean: float
    rank: int
    """1 is the highest mean; equal means share the better rank."""
    rank_ci95: tuple[int, int] | None
    """Ranks in the central 95 % of resamples; None with fewer than two groups."""
    letters: str
    """Runs that share a letter are not told apart by any (corrected) paired comparison."""
    tied_with_best: bool
    """Whether no comparison separates it from the run with the highest mean."""


def rank_runs(
    table: ArrayLike,
    names: Sequence[str],
    groups: Labels = None,
    *,
    method: Adjust = "holm",
    alpha: float = 0.05,
    seed: int = 0,
) -> list[Rank]:
    """Rank runs by their mean, best first.

    Args:
        table: (items, runs) values, higher is better; NaN marks an absent value. Means are over
            each run's own items, comparisons over the items two runs share.
        names: one per run.
        groups: prompt group (or user) per item.
        method: correction over all pairs of runs.
        alpha: level below which a pair is told apart.
        seed: of bootstrap and permutations.

    Raises:
        ConfigError: a name is there twice.
        DataError: a run has no value, or two runs share no item.
    """
    values = np.asarray(table, dtype=np.float64)
    clusters = cluster(values, groups, keep_empty=True)
    means = clusters.means()
    if np.isnan(means).any():
        empty = [name for name, mean in zip(names, means, strict=True) if np.isnan(mean)]
        raise DataError(f"runs without any value cannot be ranked: {', '.join(empty)}")
    apart = told_apart(values, names, groups, method=method, alpha=alpha, seed=seed)
    order = [names[i] for i in np.argsort(-means, kind="stable")]
    letters = letter_display(order, apart)
    if len(clusters) >= 2:
        drawn = replicates(clusters, seed=seed)
        lows, highs = np.quantile(ranks(drawn), [0.025, 0.975], axis=0, method="nearest")
    places = ranks(means[None, :])[0]
    ranked = {
        name: Rank(
            name=name,
            mean=float(means[i]),
            rank=int(places[i]),
            rank_ci95=(int(lows[i]), int(highs[i])) if len(clusters) >= 2 else None,
            letters=letters[name],
            tied_with_best=frozenset((name, order[0])) not in apart,
        )
        for i, name in enumerate(names)
    }
    return [ranked[name] for name in order]


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
    drawn, unseen = _choose_again(clusters, best, seed)
    # Noise can put the unseen mean above the shown one; a correction upwards makes no sense.
    corrected = min(float(np.nanmean(unseen)), shown) if len(names) > 1 else shown
    low, high = percentile_interval(drawn, len(clusters))
    moved = corrected - shown
    return BestOf(
        name=names[best],
        k=len(names),
        shown=shown,
        corrected=corrected,
        ci95=(low + moved, high + moved),
    )


def _choose_again(clusters: Clusters, shown: int, seed: int) -> tuple[Floats, Floats]:
    """Repeat the choice on every resample.

    A resample leaves out about a third of the clusters: they had no part in the choice, so the
    chosen candidate's mean over them has nothing of its luck.

    Returns:
        (resamples,) means of the candidate that is shown, and (resamples,) means of the one chosen
        there over the clusters not drawn.
    """
    drawn, unseen = [], []
    for weights in seeded_weights(len(clusters), RESAMPLES, seed):
        means = ratio(weights @ clusters.sums, weights @ clusters.counts)
        # A candidate without a mean is never chosen.
        best = np.where(np.isnan(means), -np.inf, means).argmax(axis=1)
        left_out = (weights == 0).astype(np.float64)
        others = ratio(left_out @ clusters.sums, left_out @ clusters.counts)
        drawn.append(means[:, shown])
        unseen.append(others[np.arange(len(best)), best])
    return np.concatenate(drawn), np.concatenate(unseen)
