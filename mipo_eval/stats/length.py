"""Win rate at equal length: how often would a response win if it were as long as its rival?

A logistic model explains each outcome by the difference in length; the length-controlled rate is
its prediction with the difference set to nothing. The idea and the tanh are AlpacaEval 2's, whose
fitted model also needs files that exist for its 805 prompts only. This one needs lengths and
outcomes, so it works on any suite.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mipo_eval.errors import DataError
from mipo_eval.stats.bootstrap import (
    CHUNK_CELLS,
    Floats,
    Interval,
    Labels,
    cluster_ids,
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
    """Predicted win rate if every response were as long as its rival."""
    ci95: Interval | None
    """By refitting in every clustered resample; None with fewer than two groups."""
    raw_rate: float
    """Mean outcome of the same items."""
    length_effect: float
    """Log-odds from the typical (one standard deviation) longer response; > 0: length pays."""
    mean_difference: float
    """Mean length of responses minus rivals, in the unit of the lengths."""
    share_longer: float
    """Percent of responses longer than their rival; equal ones count half."""
    n: int
    unscored: int
    """Items without an outcome or a length."""

    @property
    def extrapolated(self) -> bool:
        """Whether hardly any response is longer (or shorter) than its rival.

        The rate at equal length is then outside of what was seen: for AlpacaEval's tersest models
        it comes out 20 points too high.
        """
        return not 5 <= self.share_longer <= 95


def length_controlled(
    outcomes: ArrayLike,
    lengths: ArrayLike,
    rival_lengths: ArrayLike,
    groups: Labels = None,
    *,
    seed: int = 0,
) -> LengthControlled:
    """Return the win rate at equal length.

    Args:
        outcomes: (items,) 1 for a win, 0.5 for a tie, 0 for a loss, or a probability of winning;
            NaN where there is none.
        lengths: (items,) of the responses, in tokens or characters; NaN where unknown.
        rival_lengths: (items,) of what they are compared with.
        groups: prompt group (or user) per item.
        seed: of the bootstrap.

    Raises:
        DataError: no item has an outcome and both lengths, an outcome is not 0 to 1, or the
            numbers of items differ.
    """
    columns = [np.asarray(of, dtype=np.float64) for of in (outcomes, lengths, rival_lengths)]
    size = len(columns[0])
    if any(column.shape != (size,) for column in columns):
        shapes = ", ".join(str(column.shape) for column in columns)
        raise DataError(f"outcomes and lengths must be lists of one size, got {shapes}")
    known = ~np.isnan(np.stack(columns)).any(axis=0)
    if not known.any():
        raise DataError(f"none of {size} items has an outcome and both lengths")
    targets, own, rival = (column[known] for column in columns)
    if targets.min() < 0 or targets.max() > 1:
        raise DataError("an outcome is outside 0 (loss) to 1 (win)")
    differences = own - rival
    spread = float(differences.std())
    scaled = np.tanh(differences / spread) if spread > 0 else np.zeros_like(differences)
    design = np.stack([np.ones_like(scaled), scaled], axis=1)
    fitted = _fit(design, targets, np.ones((1, len(targets))), np.zeros(2))
    labels = None if groups is None else [groups[i] for i in np.flatnonzero(known).tolist()]
    return LengthControlled(
        rate=float(_rates(fitted)[0]),
        ci95=_refit_interval(design, targets, labels, fitted[0], seed),
        raw_rate=100 * float(targets.mean()),
        length_effect=float(fitted[0, 1] * math.tanh(1)) if spread else 0.0,
        mean_difference=float(differences.mean()),
        share_longer=100 * float((differences > 0).mean() + (differences == 0).mean() / 2),
        n=len(targets),
        unscored=size - len(targets),
    )


def _fit(design: Floats, targets: Floats, weights: Floats, start: Floats) -> Floats:
    """Return (rows, terms) logistic coefficients, one fit per row of item weights; Newton.

    All resamples are fitted at once: a step is two matrix products over (rows, items) and a batch
    of 2 x 2 systems, where 2,000 fits one by one would take minutes.
    """
    from scipy.special import expit

    terms = design.shape[1]
    squares = (design[:, :, None] * design[:, None, :]).reshape(len(design), -1)
    fitted = np.tile(start, (len(weights), 1))
    ridge = _RIDGE * np.eye(terms)
    for _ in range(_STEPS):
        chance = expit(fitted @ design.T)
        gradient = (weights * (targets - chance)) @ design - _RIDGE * fitted
        curvature = (weights * chance * (1 - chance)) @ squares
        step = np.linalg.solve(curvature.reshape(-1, terms, terms) + ridge, gradient[:, :, None])[
            :, :, 0
        ]
        fitted += np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < _CLOSE:
            break
    return fitted


def _rates(fitted: Floats) -> Floats:
    """Return (rows,) predicted rates in percent: with the length term 0 the intercept is left."""
    from scipy.special import expit

    return np.asarray(100 * expit(fitted[:, 0]))


def _refit_interval(
    design: Floats, targets: Floats, groups: Labels, start: Floats, seed: int
) -> Interval | None:
    """Return the interval from refitting in every resample: the coefficients' error is in it."""
    ids, n_clusters = cluster_ids(groups, len(targets))
    if n_clusters < 2:
        return None
    rng = np.random.default_rng(seed)
    step = max(1, CHUNK_CELLS // len(targets))
    drawn = []
    for begin in range(0, _REFITS, step):
        size = min(step, _REFITS - begin)
        weights = np.concatenate(list(resample_weights(n_clusters, size, rng)))[:, ids]
        drawn.append(_rates(_fit(design, targets, weights, start)))
    return percentile_interval(np.concatenate(drawn), n_clusters)
