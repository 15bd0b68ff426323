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
from mipo_eval.stats.intervals import rare_variances
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


class _Side(NamedTuple):
    """The part of item differences on one side of 0, as sizes."""

    mean: float
    square: float
    """Mean of the squares."""


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
    gains: _Side
    losses: _Side
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

    def _p(self, seen: float, bound: float, sides: tuple[_Side, _Side]) -> float | None:
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

    def _at_bound(self, seen: float, bound: float, sides: tuple[_Side, _Side]) -> float:
        """Return by how much the variance at the bound is larger than the one that was seen.

        One loss in 200 shows little spread; were losses as frequent as the bound has it, there
        would be more. So gains are made rarer and losses more frequent by one factor until their
        mean is the bound (a score test; for wins and losses it is nearly Tango's of 1998).
        """
        if self.widest is None or self.alike:
            return 1.0
        up, down = (
            side if side.mean > 0 else _Side(self.widest / self.n, self.widest**2 / self.n)
            for side in sides
        )
        factor = (-bound + math.sqrt(bound**2 + 4 * up.mean * down.mean)) / (2 * down.mean)
        there = up.square / factor + down.square * factor - bound**2
        return max(1.0, there / (sides[0].square + sides[1].square - seen**2))


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
    sides = [
        (np.nanmean(part, axis=0).tolist(), np.nanmean(part**2, axis=0).tolist())
        for part in (np.maximum(differences, 0.0), np.maximum(-differences, 0.0))
    ]
    return [
        FixedEvidence(
            difference=float(means.means[k]),
            variance=float(variances[k]),
            degrees=float(means.degrees[k]),
            alike=bool(means.errors[k] == 0),
            n=int(means.items[k]),
            gains=_Side(sides[0][0][k], sides[0][1][k]),
            losses=_Side(sides[1][0][k], sides[1][1][k]),
            widest=widest,
            seeds=seeds,
            pair=pair,
        )
        for k, pair in enumerate(pairs)
    ]
