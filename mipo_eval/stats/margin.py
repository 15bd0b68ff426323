"""No difference, shown: is a difference within a margin, or at least not below it?

A p-value above 5 % shows nothing; two one-sided tests do (Schuirmann 1987): a difference lies
within the margin when "at most -margin" and "at least +margin" are both refuted at 5 %, and one of
them alone says that a run is not worse than that. Both cannot be true at once, so looking at both
costs nothing.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy as np

from mipo_eval.errors import ConfigError
from mipo_eval.stats.bootstrap import Floats, Interval
from mipo_eval.stats.estimates import Estimates
from mipo_eval.stats.intervals import OneSide, rare_variances, sides, variance_at
from mipo_eval.stats.seeds import SeedSpread

Finding = Literal["equivalent", "not below", "not above"]


class Evidence(Protocol):
    """What is known of a difference."""

    def p_above(self, bound: float) -> float | None:
        """Return the p-value of "the difference is at most `bound`"; None: it cannot be told."""

    def p_below(self, bound: float) -> float | None:
        """Return the p-value of "the difference is at least `bound`"."""


class Within(NamedTuple):
    """How a difference stands to a margin; p-values are corrected for all that were asked about."""

    margin: float
    p_above: float
    """Of "the first is lower by the margin or more"."""
    p_below: float
    """Of "the first is higher by the margin or more"."""

    def finding(self, alpha: float = 0.05) -> Finding | None:
        """Return what is shown; None is not "they differ"."""
        if max(self.p_above, self.p_below) < alpha:
            return "equivalent"
        if self.p_above < alpha:
            return "not below"
        return "not above" if self.p_below < alpha else None

    @property
    def p(self) -> float:
        """The p-value of what is found; of equivalence where nothing is."""
        shown = {"not below": self.p_above, "not above": self.p_below}
        return shown.get(self.finding() or "", max(self.p_above, self.p_below))


def within(evidence: Sequence[Evidence | None], margin: float) -> list[Within | None]:
    """Return how differences stand to a margin, in the unit of the values.

    Every p-value is multiplied by the number of differences (Bonferroni): of the two statements
    about each at most one is false.

    Raises:
        ConfigError: the margin is not above 0.
    """
    if not margin > 0:
        raise ConfigError(f"margin {margin:g}: give a number above 0, in points of the metric")
    asked = sum(one is not None for one in evidence)
    found: list[Within | None] = []
    for one in evidence:
        ends = one and (one.p_above(-margin), one.p_below(margin))
        if not ends or ends[0] is None or ends[1] is None:
            found.append(None)
        else:
            above, below = (min(1.0, asked * p) for p in ends if p is not None)
            found.append(Within(margin, above, below))
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedEvidence:
    """Evidence of a number of items that was settled beforehand."""

    difference: float
    variance: float
    """Of the mean, clustered; where values have ends, with what rare differences do not show."""
    degrees: float
    alike: bool
    """Whether all groups show the same difference."""
    n: int
    gains: OneSide
    losses: OneSide
    widest: float | None
    """The largest difference an item can have, where that is known."""
    seeds: SeedSpread
    pair: tuple[int, int]
    """Places of the two runs in `seeds`."""

    def p_above(self, bound: float) -> float | None:
        """Return the p-value of "the difference is at most `bound`"."""
        return self._p(self.difference, bound, (self.gains, self.losses))

    def p_below(self, bound: float) -> float | None:
        """Return the p-value of "the difference is at least `bound`"."""
        return self._p(-self.difference, -bound, (self.losses, self.gains))

    def _p(self, seen: float, bound: float, sides: tuple[OneSide, OneSide]) -> float | None:
        if math.isnan(self.degrees) or (self.alike and self.widest is None):
            return None
        if seen <= bound:
            return 1.0
        variance = self.variance * self._at_bound(seen, bound, sides)
        # Means of few values move in steps; half an item keeps the error below 5 %.
        step = 0.0 if self.widest is None else self.widest / (2 * self.n)
        distance = max(seen - bound - step, 0.0)
        doubt = self.seeds.doubt(variance, self.degrees, self.pair)
        if doubt is not None:
            return doubt.tail(distance)
        if self.alike and self.widest is not None:
            # As in `constant_interval`: so many groups alike, if the rest were as low as can be.
            share = (self.widest + bound) / (self.widest + seen)
            return float(max(share, 0.0) ** (self.degrees + 1))
        from scipy.special import stdtr

        return float(stdtr(self.degrees, -distance / math.sqrt(variance)))

    def _at_bound(self, seen: float, bound: float, sides: tuple[OneSide, OneSide]) -> float:
        """Return by how much the variance at the bound is larger than the one that was seen."""
        if self.widest is None or self.alike:
            return 1.0
        distance, share = np.array(self.widest), np.array(1 / self.n)
        above, below = (side.at_least(distance, share) for side in sides)
        there = float(variance_at(np.array(bound), above, below))
        return max(1.0, there / float(sides[0].square + sides[1].square - seen**2))


def fixed_evidence(
    differences: Floats,
    means: Estimates,
    span: Interval | None,
    seeds: SeedSpread,
    pairs: Sequence[tuple[int, int]],
) -> list[FixedEvidence]:
    """Return the evidence of (items, pairs) differences between runs.

    Args:
        differences: NaN where an item is not in common.
        means: of the differences.
        span: lowest and highest value of an item, where known.
        seeds: of the runs.
        pairs: their places.
    """
    widest = None if span is None else span[1] - span[0]
    variances = means.errors**2
    if widest is not None:
        variances = rare_variances(differences, means, (-widest, widest))
    gains, losses = sides(differences)
    return [
        FixedEvidence(
            difference=float(means.means[k]),
            variance=float(variances[k]),
            degrees=float(means.degrees[k]),
            alike=bool(means.errors[k] == 0),
            n=int(means.items[k]),
            gains=OneSide(gains.mean[k], gains.square[k]),
            losses=OneSide(losses.mean[k], losses.square[k]),
            widest=widest,
            seeds=seeds,
            pair=pair,
        )
        for k, pair in enumerate(pairs)
    ]
