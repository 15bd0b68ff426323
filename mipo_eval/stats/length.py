"""Win rate at equal length: how often would the response win if it were as long as the reference?

A logistic model explains each outcome by the difference in length (and by how hard the item is,
where that is known); the length-controlled rate is its mean prediction with the length difference
set to nothing. The idea and the tanh are AlpacaEval 2's. Its fitted model also needs files that
exist for its 805 prompts only; this one needs lengths and outcomes, so it works on any suite. The
interval refits the model in every resample: the error of the coefficients is in it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mipo_eval.errors import DataError
from mipo_eval.stats.bootstrap import (
    CHUNK_CELLS,
    Floats,
    Interval,
    Labels,
    cluster_ids,
    mean_interval,
    percentile_interval,
    resample_weights,
)

_RIDGE = 0.001
"""Pull of the coefficients to 0, as if by a thousandth of an item: keeps them finite where every
long response wins."""
_REFITS = 2_000
"""Resamples; each is a whole regression, a few hundred microseconds."""
_STEPS = 25
_CLOSE = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthControlled:
    """A win rate at equal length beside the raw one; rates are 0-100."""

    rate: float
    """Predicted win rate if every response were as long as its reference."""
    ci95: Interval | None
    """By refitting in every clustered resample; None with fewer than two groups."""
    raw_rate: float
    """Mean outcome of the same items."""
    length_effect: float
    """Log-odds from the typical (one standard deviation) longer response; > 0: length pays."""
    mean_difference: float
    """Mean length of responses minus references, in the unit of the lengths."""
    share_longer: float
    """Percent of responses longer than their reference; equal ones count half."""
    n: int
    unscored: int
    """Items without an outcome or a length."""

    @property
    def extrapolated(self) -> bool:
        """Whether hardly any response is longer (or shorter) than its reference.

        The rate at equal length is then outside of what was seen. On AlpacaEval's terse models it
        came out 20 points too high without item difficulties, and within 7 with them.
        """
        return not 5 <= self.share_longer <= 95


@dataclass(frozen=True, slots=True)
class _Data:
    """Items with everything known: design (items, terms), column 1 the length; targets 0-1."""

    design: Floats
    targets: Floats
    groups: Labels


def length_controlled(
    outcomes: ArrayLike,
    lengths: ArrayLike,
    reference_lengths: ArrayLike,
    groups: Labels = None,
    *,
    difficulty: ArrayLike | None = None,
    seed: int = 0,
) -> LengthControlled:
    """Return the win rate at equal length.

    Args:
        outcomes: (items,) 1 for a win, 0.5 for a tie, 0 for a loss, or a probability of winning;
            NaN where there is none.
        lengths: (items,) of the responses, in tokens or characters; NaN where unknown.
        reference_lengths: (items,) of the reference responses.
        groups: prompt group (or user) per item.
        difficulty: (items,) how hard the item is to win, any scale; see `item_difficulty`.
        seed: of the bootstrap.

    Raises:
        DataError: no item has an outcome and both lengths, an outcome is not 0 to 1, or the
            numbers of items differ.
    """
    data, differences, size = _prepare(outcomes, lengths, reference_lengths, groups, difficulty)
    spread = float(differences.std())
    ones = np.ones((1, len(data.targets)))
    fitted = _fit(data, ones, np.zeros(data.design.shape[1]))
    return LengthControlled(
        rate=float(_rates(data, ones, fitted)[0]),
        ci95=_refit_interval(data, fitted[0], seed),
        raw_rate=100 * float(data.targets.mean()),
        length_effect=float(fitted[0, 1] * math.tanh(1)) if spread else 0.0,
        mean_difference=float(differences.mean()),
        share_longer=100 * float((differences > 0).mean() + (differences == 0).mean() / 2),
        n=len(data.targets),
        unscored=size - len(data.targets),
    )


def _prepare(
    outcomes: ArrayLike,
    lengths: ArrayLike,
    reference_lengths: ArrayLike,
    groups: Labels,
    difficulty: ArrayLike | None,
) -> tuple[_Data, Floats, int]:
    """Return the items with everything known, their length differences, and how many were given."""
    given = [outcomes, lengths, reference_lengths, *([] if difficulty is None else [difficulty])]
    columns = [np.asarray(column, dtype=np.float64) for column in given]
    size = len(columns[0])
    if any(column.shape != (size,) for column in columns):
        shapes = ", ".join(str(column.shape) for column in columns)
        raise DataError(f"outcomes, lengths and difficulty must be lists of one size, got {shapes}")
    known = ~np.isnan(np.stack(columns)).any(axis=0)
    if not known.any():
        raise DataError(f"none of {size} items has an outcome and both lengths")
    targets, own, reference, *hard = (column[known] for column in columns)
    if targets.min() < 0 or targets.max() > 1:
        raise DataError("an outcome is outside 0 (loss) to 1 (win)")
    differences = own - reference
    spread = differences.std()
    scaled = np.tanh(differences / spread) if spread > 0 else np.zeros_like(differences)
    terms = [np.ones_like(scaled), scaled, *(_standard(column) for column in hard)]
    labels = None if groups is None else [groups[i] for i in np.flatnonzero(known).tolist()]
    return _Data(np.stack(terms, axis=1), targets, labels), differences, size


def _standard(column: Floats) -> Floats:
    """Return the column with mean 0 and standard deviation 1 (0 everywhere if it is constant)."""
    spread = column.std()
    return (column - column.mean()) / spread if spread > 0 else np.zeros_like(column)


def _fit(data: _Data, weights: Floats, start: Floats) -> Floats:
    """Return (rows, terms) logistic coefficients, one fit per row of item weights; Newton."""
    design, targets = data.design, data.targets
    terms = design.shape[1]
    squares = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    fitted = np.tile(start, (len(weights), 1))
    ridge = _RIDGE * np.eye(terms)
    for _ in range(_STEPS):
        chance = _logistic(fitted @ design.T)
        gradient = (weights * (targets - chance)) @ design - _RIDGE * fitted
        curvature = (weights * chance * (1 - chance)) @ squares
        step = np.linalg.solve(curvature.reshape(-1, terms, terms) + ridge, gradient[:, :, None])[
            :, :, 0
        ]
        fitted += np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < _CLOSE:
            break
    return fitted


def _logistic(logits: Floats) -> Floats:
    from scipy.special import expit

    return np.asarray(expit(logits))


def _rates(data: _Data, weights: Floats, fitted: Floats) -> Floats:
    """Return (rows,) predicted rates in percent with the length term left out."""
    equal = data.design.copy()
    equal[:, 1] = 0
    predicted = _logistic(fitted @ equal.T)
    return np.asarray(100 * (weights * predicted).sum(axis=1) / weights.sum(axis=1))


def _refit_interval(data: _Data, start: Floats, seed: int) -> Interval | None:
    ids, n_clusters = cluster_ids(data.groups, len(data.targets))
    if n_clusters < 2:
        return None
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK_CELLS // len(data.targets))
    drawn = []
    for begin in range(0, _REFITS, step):
        size = min(step, _REFITS - begin)
        weights = np.concatenate(list(resample_weights(n_clusters, size, rng)))[:, ids]
        drawn.append(_rates(data, weights, _fit(data, weights, start)))
    return percentile_interval(np.concatenate(drawn), n_clusters)


def item_difficulty(table: ArrayLike, run: int) -> NDArray[np.float64]:
    """Return (items,) how hard each item is for the other runs, in log-odds of not winning.

    Args:
        table: (items, runs) outcomes, 0 to 1; NaN marks an absent one.
        run: the run whose win rate is wanted; its own outcomes are left out.

    Returns:
        0 (after smoothing by half a win and half a loss) where the others win half the time or
        have no outcome.
    """
    others = np.delete(np.asarray(table, dtype=np.float64), run, axis=1)
    counted = (~np.isnan(others)).sum(axis=1)
    won = np.nansum(others, axis=1)
    return np.asarray(np.log((counted - won + 0.5) / (won + 0.5)))


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthBin:
    """One point of the plot of win rate against length difference."""

    low: float
    """Length of the response minus its reference, in the unit of the lengths."""
    high: float
    rate: float
    """Percent."""
    ci95: Interval | None
    n: int


def length_profile(
    outcomes: ArrayLike,
    lengths: ArrayLike,
    reference_lengths: ArrayLike,
    groups: Sequence[str | None] | None = None,
    *,
    bins: int = 8,
    seed: int = 0,
) -> list[LengthBin]:
    """Return win rates in bins of about equally many items, by length difference, ascending.

    Arguments and errors are those of `length_controlled`; items of equal difference stay together,
    so there may be fewer bins.
    """
    data, differences, _ = _prepare(outcomes, lengths, reference_lengths, groups, None)
    edges = np.unique(np.quantile(differences, np.linspace(0, 1, bins + 1)[1:-1]))
    place = np.searchsorted(edges, differences, side="left")
    profile = []
    for number in np.unique(place):
        own = np.flatnonzero(place == number)
        labels = None if data.groups is None else [data.groups[i] for i in own.tolist()]
        values = 100 * data.targets[own]
        profile.append(
            LengthBin(
                low=float(differences[own].min()),
                high=float(differences[own].max()),
                rate=float(values.mean()),
                ci95=mean_interval(values, labels, seed=seed),
                n=len(own),
            )
        )
    return profile
