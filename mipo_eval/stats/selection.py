"""The selection guard: what "best of k" is worth when it was chosen on the items it is shown on.

The paper's Tables 1 and 2 report the best of several negative strategies; a swept learning rate is
the same. The highest of k noisy means is too high on average, most where the candidates are alike.
The correction repeats the choice on resampled items and reads the chosen candidate's mean on the
items left out of the resample (Tsamardinos et al. 2018): chosen on some, measured on others.
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
    Interval,
    cluster,
    percentile_interval,
    ratio,
    seeded_weights,
)
from mipo_eval.stats.variance import Labels


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
    nested: float | None
    """The same by halves: chosen on one half of the groups, measured on the other, averaged."""
    ci95: Interval | None
    """Interval of the best candidate, moved by the correction."""
    chosen_share: float | None
    """Percent of resamples in which this candidate is the best: 100 is a clear choice."""

    @property
    def optimism(self) -> float | None:
        """By how much the shown value is too high."""
        return None if self.corrected is None else self.shown - self.corrected


def best_of(
    table: ArrayLike,
    names: Sequence[str],
    groups: Labels = None,
    *,
    seed: int = 0,
    splits: int = 200,
) -> BestOf:
    """Choose the candidate with the highest mean, and say what the choice is worth.

    Args:
        table: (items, candidates) values, higher is better; NaN marks an absent value.
        names: one per candidate.
        groups: prompt group (or user) per item: chosen and measured groups are kept apart.
        seed: of resamples and splits.
        splits: how many random halvings `nested` averages over.

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
        return BestOf(
            name=names[best],
            k=len(names),
            shown=shown,
            corrected=None,
            nested=None,
            ci95=None,
            chosen_share=None,
        )
    drawn, chosen, unseen = _choose_again(clusters, seed)
    # Noise can put the unseen mean above the shown one; a correction upwards makes no sense.
    corrected = min(float(np.nanmean(unseen)), shown) if len(names) > 1 else shown
    low, high = percentile_interval(drawn[:, best], len(clusters))
    moved = corrected - shown
    return BestOf(
        name=names[best],
        k=len(names),
        shown=shown,
        corrected=corrected,
        nested=_nested(clusters, np.random.default_rng((seed, 1)), splits),
        ci95=(low + moved, high + moved),
        chosen_share=100 * float((chosen == best).mean()),
    )


def _best(means: Floats) -> Floats:
    """Return (rows,) the column with the highest mean; a column without a mean is never chosen."""
    return np.asarray(np.where(np.isnan(means), -np.inf, means).argmax(axis=1))


def _choose_again(clusters: Clusters, seed: int) -> tuple[Floats, Floats, Floats]:
    """Repeat the choice on every resample.

    Returns:
        (resamples, candidates) means, (resamples,) chosen columns, and (resamples,) means of the
        chosen one over the clusters not drawn.
    """
    drawn, chosen, unseen = [], [], []
    for weights in seeded_weights(len(clusters), RESAMPLES, seed):
        means = ratio(weights @ clusters.sums, weights @ clusters.counts)
        best = _best(means)
        left_out = (weights == 0).astype(np.float64)
        others = ratio(left_out @ clusters.sums, left_out @ clusters.counts)
        drawn.append(means)
        chosen.append(best)
        unseen.append(others[np.arange(len(best)), best])
    return np.concatenate(drawn), np.concatenate(chosen), np.concatenate(unseen)


def _nested(clusters: Clusters, rng: np.random.Generator, splits: int) -> float:
    """Return the mean of candidates chosen on one half of the clusters, over the other half."""
    order = rng.permuted(np.tile(np.arange(len(clusters)), (splits, 1)), axis=1)
    first = (order < len(clusters) // 2).astype(np.float64)
    measured = []
    for half, other in ((first, 1 - first), (1 - first, first)):
        best = _best(ratio(half @ clusters.sums, half @ clusters.counts))
        means = ratio(other @ clusters.sums, other @ clusters.counts)
        measured.append(means[np.arange(splits), best])
    return float(np.nanmean(measured))
