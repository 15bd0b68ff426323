"""What a suite can detect: the smallest difference at a size, and the size for a difference.

A difference is detectable when it is (z_alpha + z_power) standard errors, 2.80 for 5 % two-sided
and 80 %; more where few groups tell the error (Student's t). Pairing removes what both methods
share: with correlation rho of their item values the variance of the difference is
sd1^2 + sd2^2 - 2 rho sd1 sd2.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from mipo_eval.errors import ConfigError


def _reach(alpha: float, power: float, degrees: float | None = None) -> float:
    """Return how many standard errors a detectable difference has; by Student's t for few groups.

    Three groups need 5.4 errors where many need 2.8.
    """
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ConfigError(f"alpha {alpha} and power {power} must both lie between 0 and 1")
    from scipy.special import ndtri, stdtrit

    if degrees is None:
        return float(ndtri(1 - alpha / 2) + ndtri(power))
    return float(stdtrit(degrees, 1 - alpha / 2) + stdtrit(degrees, power))


def rate_sd(rate: float) -> float:
    """Return the standard deviation of a yes/no item with this rate; both in percent."""
    if not 0 <= rate <= 100:
        raise ConfigError(f"rate {rate} is no percentage; give 0 to 100")
    return math.sqrt(rate * (100 - rate))


@dataclass(frozen=True, slots=True, kw_only=True)
class Design:
    """How two methods are compared; differences have the unit of the standard deviations."""

    sd_first: float
    """Of one item's value under the first method; `rate_sd` for a win rate."""
    sd_second: float
    correlation: float = 0.0
    """Between the two methods' values of the same item; 0 when they are not paired."""
    design_effect: float = 1.0
    """By how much clustering multiplies the variance of the difference; see
    `estimates.design_effect`."""
    seed_sd: float = 0.0
    """Standard deviation of a method's mean between training seeds."""
    alpha: float = 0.05
    """Two-sided."""
    power: float = 0.8

    def item_variance(self) -> float:
        """Return the variance that one item gives the difference, clustering included."""
        shared = 2 * self.correlation * self.sd_first * self.sd_second
        return (self.sd_first**2 + self.sd_second**2 - shared) * self.design_effect

    def detectable(self, n_items: int, n_seeds: int = 1) -> float:
        """Return the smallest difference the design detects with these numbers."""
        if n_items < 1 or n_seeds < 1:
            raise ConfigError(f"{n_items} items and {n_seeds} seeds: both must be at least 1")
        variance = self.item_variance() / n_items + 2 * self.seed_sd**2 / n_seeds
        return _reach(self.alpha, self.power) * math.sqrt(variance)

    def items_needed(self, difference: float, n_seeds: int = 1) -> int | None:
        """Return the items needed to detect `difference`.

        None: no number of items can, because so few seeds differ too much.
        """
        left = self._variance_allowed(difference) - 2 * self.seed_sd**2 / n_seeds
        return max(1, _ceil(self.item_variance() / left)) if left > 0 else None

    def _variance_allowed(self, difference: float) -> float:
        if difference == 0:
            raise ConfigError("a difference of 0 cannot be detected by any number of items")
        return (difference / _reach(self.alpha, self.power)) ** 2


def _ceil(value: float) -> int:
    """Round up, but not for the sake of a rounding error."""
    return math.ceil(value - 1e-9)


def detectable_from_error(
    error: float, degrees: float | None = None, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Return the smallest detectable difference, given the error of the difference.

    Args:
        error: standard error of the difference.
        degrees: its degrees of freedom; None: many.
        alpha: two-sided level of the test.
        power: how often the difference is to be found.
    """
    return _reach(alpha, power, degrees) * error


def paired_correlation(first: ArrayLike, second: ArrayLike) -> float | None:
    """Return the correlation of two methods' values over their common items.

    None where it is not defined: fewer than two common items, or one method without any spread.
    """
    pair = np.stack([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)])
    pair = pair[:, ~np.isnan(pair).any(axis=0)]
    if pair.shape[1] < 2 or (pair == pair[:, :1]).all(axis=1).any():
        return None
    return float(np.asarray(np.corrcoef(pair))[0, 1])
