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
from mipo_eval.stats.bootstrap import Dependence, Floats, Index, Interval, Labels, Mask
from mipo_eval.stats.estimates import covariance, t_quantile
from mipo_eval.stats.intervals import RATE, constant_interval

_RIDGE = 0.001
"""Pull of the coefficients to 0, as if by a thousandth of an item: keeps them finite where every
long response wins."""
_STEPS = 25
_CLOSE = 1e-8


@dataclass(frozen=True, slots=True, kw_only=True)
class LengthControlled:
    """A win rate at equal length beside the raw one; rates are 0-100."""

    rate: float
    """Predicted win rate if every response were as long as its rival."""
    ci95: Interval | None
    """Clustered, and within 0 to 100; None with fewer than two groups."""
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
) -> LengthControlled:
    """Return the win rate at equal length.

    Args:
        outcomes: (items,) 1 for a win, 0.5 for a tie, 0 for a loss, or a probability of winning;
            NaN where there is none.
        lengths: (items,) of the responses, in tokens or characters; NaN where unknown.
        rival_lengths: (items,) of what they are compared with.
        groups: one label per item, see `bootstrap.Dependence`.

    Raises:
        DataError: no item has an outcome and both lengths, an outcome is not 0 to 1, or the
            numbers of items differ.
    """
    columns = [np.asarray(of, dtype=np.float64) for of in (outcomes, lengths, rival_lengths)]
    size = len(columns[0])
    if any(column.shape != (size,) for column in columns):
        shapes = ", ".join(str(column.shape) for column in columns)
        raise DataError(f"outcomes and lengths must be lists of one size, got {shapes}")
    known: Mask = np.asarray(~np.isnan(np.stack(columns)).any(axis=0))
    if not known.any():
        raise DataError(f"none of {size} items has an outcome and both lengths")
    targets, own, rival = (column[known] for column in columns)
    if targets.min() < 0 or targets.max() > 1:
        raise DataError("an outcome is outside 0 (loss) to 1 (win)")
    differences = own - rival
    spread = float(differences.std())
    scaled = np.tanh(differences / spread) if spread > 0 else np.zeros_like(differences)
    design = np.stack([np.ones_like(scaled), scaled], axis=1)
    fitted = _fit(design, targets)
    kinds = Dependence.of(groups, size).kinds(known)
    return LengthControlled(
        rate=_rate(fitted[0]),
        ci95=_interval(design, targets, kinds, fitted),
        raw_rate=100 * float(targets.mean()),
        length_effect=float(fitted[1] * math.tanh(1)) if spread else 0.0,
        mean_difference=float(differences.mean()),
        share_longer=100 * float((differences > 0).mean() + (differences == 0).mean() / 2),
        n=len(targets),
        unscored=size - len(targets),
    )


def _fit(design: Floats, targets: Floats) -> Floats:
    """Return (terms,) logistic coefficients by Newton's method."""
    fitted = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        gradient = design.T @ (targets - _chances(design, fitted)) - _RIDGE * fitted
        step = np.linalg.solve(_curvature(design, fitted), gradient)
        fitted += np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < _CLOSE:
            break
    return fitted


def _chances(design: Floats, fitted: Floats) -> Floats:
    from scipy.special import expit

    return np.asarray(expit(design @ fitted))


def _curvature(design: Floats, fitted: Floats) -> Floats:
    chance = _chances(design, fitted)
    weighed = design * (chance * (1 - chance))[:, None]
    return np.asarray(design.T @ weighed + _RIDGE * np.eye(design.shape[1]))


def _rate(intercept: float) -> float:
    """Return the predicted rate in percent: with the length term 0 the intercept is left."""
    from scipy.special import expit

    return 100 * float(expit(intercept))


def _interval(
    design: Floats, targets: Floats, kinds: tuple[Index, ...], fitted: Floats
) -> Interval | None:
    """Return the interval of the rate: clustered errors of the intercept, in log-odds.

    Where all outcomes are alike the regression has no doubt, as no resample of them would have.
    """
    n = min(int(ids.max()) + 1 for ids in kinds)
    if n < 2:
        return None
    if np.ptp(targets) == 0:
        return constant_interval(100 * float(targets[0]), n, RATE)
    scores = design * (targets - _chances(design, fitted))[:, None]
    bread = np.linalg.inv(_curvature(design, fitted))
    error = math.sqrt((bread @ covariance(scores, kinds) @ bread)[0, 0])
    reach = float(t_quantile(n - 1)) * error
    return _rate(fitted[0] - reach), _rate(fitted[0] + reach)
