"""What a suite can detect: the smallest difference at a size, and the size for a difference.

A difference is detectable when it is (z_alpha + z_power) standard errors, 2.80 for 5 % two-sided
and 80 %; more where few groups tell the error (Student's t), and more again where the error that
is reckoned with was itself seen in so few groups: what is then found in 80 of 100 repetitions is
averaged over what the error could have been. Pairing removes what both methods
share: with correlation rho of their item values the variance of the difference is
sd1^2 + sd2^2 - 2 rho sd1 sd2.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from mipo_eval.errors import ConfigError
from mipo_eval.stats.seeds import Doubt, inverse_chi_squared

_ERRORS = 200
"""Sizes that an error is taken to have, each as likely as the others."""
_MOST = 10**9
"""Items that nobody has."""


@lru_cache(maxsize=1024)
def _reach(alpha: float, power: float, degrees: float = math.inf, *, seen: bool = False) -> float:
    """Return how many standard errors a detectable difference has; by Student's t for few groups.

    Three groups need 5.7 errors where many need 2.8; 8.8 of an error that was seen in three.
    """
    if not (0 < alpha < 1 and 0 < power < 1):
        raise ConfigError(f"alpha {alpha} and power {power} must both lie between 0 and 1")
    from scipy.optimize import brentq
    from scipy.special import gammaincinv, ndtr, ndtri, stdtrit

    if math.isinf(degrees):
        return float(ndtri(1 - alpha / 2) + ndtri(power))
    critical = float(stdtrit(degrees, 1 - alpha / 2))
    # An error that `degrees` tell is off by the root of chi-squared over them: even quantiles.
    even = (np.arange(_ERRORS) + 0.5) / _ERRORS
    errors = np.sqrt(2 * gammaincinv(degrees / 2, even) / degrees)
    expected = errors[:, None] if seen else 1.0

    def missing(reach: float) -> float:
        return float(power - ndtr(reach * expected - critical * errors).mean())

    return float(brentq(missing, 0.0, 100 * critical))


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
    items_per_group: float | None = None
    """Of the prompts or users that tell the error; None: there are many."""
    alpha: float = 0.05
    """Two-sided."""
    power: float = 0.8

    def item_variance(self) -> float:
        """Return the variance that one item gives the difference, clustering included."""
        shared = 2 * self.correlation * self.sd_first * self.sd_second
        return (self.sd_first**2 + self.sd_second**2 - shared) * self.design_effect

    def detectable(self, n_items: int, n_seeds: int = 1) -> float:
        """Return the smallest difference the design detects with these numbers.

        How much seeds differ is told by the seeds alone, less what items explain of it: two of each
        method leave two degrees of freedom. On an item seeds are as much alike as methods are, so
        what is each one's own averages out. With one seed each, methods are those checkpoints.
        """
        if n_items < 1 or n_seeds < 1:
            raise ConfigError(f"{n_items} items and {n_seeds} seeds: both must be at least 1")
        items, degrees = self.item_variance() / (n_items * n_seeds), math.inf
        if self.items_per_group is not None:
            degrees = max(n_items / self.items_per_group - 1, 1.0)
        error = math.sqrt(items)
        if n_seeds > 1:
            spread = items + 2 * self.seed_sd**2 / n_seeds
            scaled = spread * inverse_chi_squared(1, 2 * n_seeds - 2)
            own = inverse_chi_squared(0, degrees) if degrees < math.inf else 1.0
            doubt = Doubt(items * own + np.maximum(scaled - items, 0.0))
            error, degrees = doubt.error, doubt.degrees
        return _reach(self.alpha, self.power, round(degrees, 3)) * error

    def items_needed(self, difference: float, n_seeds: int = 1) -> int | None:
        """Return the items needed to detect `difference`.

        None: no number of items can, because so few seeds differ too much.
        """
        if difference == 0:
            raise ConfigError("a difference of 0 cannot be detected by any number of items")
        wanted = -abs(difference)
        found = bisect_left(range(_MOST), wanted, lo=1, key=lambda n: -self.detectable(n, n_seeds))
        return found if found < _MOST else None


def detectable_from_error(
    error: float, degrees: float = math.inf, *, alpha: float = 0.05, power: float = 0.8
) -> float:
    """Return the smallest detectable difference, given the error of the difference.

    Args:
        error: standard error of the difference, as it was seen.
        degrees: its degrees of freedom.
        alpha: two-sided level of the test.
        power: how often the difference is to be found.
    """
    return _reach(alpha, power, round(degrees, 3), seen=True) * error


def paired_correlation(first: ArrayLike, second: ArrayLike) -> float | None:
    """Return the correlation of two methods' values over their common items.

    None where it is not defined: fewer than two common items, or one method without any spread.
    """
    pair = np.stack([np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)])
    pair = pair[:, ~np.isnan(pair).any(axis=0)]
    if pair.shape[1] < 2 or (pair == pair[:, :1]).all(axis=1).any():
        return None
    return float(np.asarray(np.corrcoef(pair))[0, 1])
