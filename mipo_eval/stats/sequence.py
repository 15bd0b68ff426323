"""Intervals and p-values that hold however often one looks, and whenever one stops.

A fixed-n interval that is looked at again and again excludes the truth sooner or later. A
confidence sequence does so in 5 of 100 cases over all looks together, forever. This one is by
betting (Waudby-Smith and Ramdas 2024): against "the mean is m" one bets, group after group, that
items lie above m, and below m. Were m true the bets would be fair, so the wealth exceeds 40 times
the stake with a chance of at most 1 in 40 whenever one stops (Ville's inequality); every m against
which it has not is left in the interval. Several bets of fixed size run beside each other, from
careful to bold, and their mean counts ("diversified"): there is nothing to tune, and the same
groups in another order give the same numbers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mipo_eval.stats.bootstrap import Crossed, Dependence, Floats, Interval, Labels, group_sums
from mipo_eval.stats.paired import Comparison
from mipo_eval.stats.significance import adjust

_BETS = 0.8 * 0.5 ** np.arange(10)
"""Shares of the wealth that the worst group would cost."""
_STAKES = np.array([10, 20, 30, 30, 20, 10, 5, 3, 2, 1]) / 131
"""How much is put on each bet: most on those that are right for differences of 5 to 20 points; the
careful ones are for what only some 10,000 groups can show."""
_LEAST = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceEvidence:
    """Evidence of groups that came one after the other, however many were waited for."""

    sums: Floats
    """(kinds of groups,) sums of a group's items, scaled to 0 to 1."""
    counts: Floats
    """(kinds of groups,) its items."""
    times: Floats
    """(kinds of groups,) how many groups are like it."""
    largest: int
    """Items of the largest group there is, also among those that were not waited for."""
    span: Interval

    @property
    def groups(self) -> int:
        """How many groups have a value."""
        return int(self.times.sum())

    def p_above(self, bound: float) -> float:
        """Return the p-value of "the mean is at most `bound`"; half of the 5 % is for each side."""
        share = self._share(bound)
        if share <= 0 or share >= 1:
            return float(share >= 1)
        return min(1.0, 2 * float(np.exp(-self._log_wealth(share, above=True))))

    def p_below(self, bound: float) -> float:
        """Return the p-value of "the mean is at least `bound`"."""
        share = self._share(bound)
        if share <= 0 or share >= 1:
            return float(share <= 0)
        return min(1.0, 2 * float(np.exp(-self._log_wealth(share, above=False))))

    def interval(self, level: float = 0.95) -> Interval:
        """Return the confidence sequence as it stands."""
        wanted = np.log(2 / (1 - level))
        mean = float(self.sums @ self.times / (self.counts @ self.times))
        low, high = self.span
        return (
            low + (high - low) * self._end(mean, float(wanted), above=True),
            high - (high - low) * self._end(1 - mean, float(wanted), above=False),
        )

    def _share(self, value: float) -> float:
        return (value - self.span[0]) / (self.span[1] - self.span[0])

    def _end(self, reach: float, wanted: float, *, above: bool) -> float:
        """Return how far from the span's end the interval begins; the wealth falls on the way."""
        from scipy.optimize import brentq

        def lacking(room: float) -> float:
            return self._log_wealth(room if above else 1 - room, above=above) - wanted

        if reach <= _LEAST or lacking(_LEAST) <= 0:
            return 0.0
        # Against the mean that was seen no bet has won anything.
        return float(brentq(lacking, _LEAST, min(reach, 1 - _LEAST)))

    def _log_wealth(self, share: float, *, above: bool) -> float:
        """Return the logarithm of what a stake of 1 has become against "the mean is `share`"."""
        room = share if above else 1 - share
        surplus = self.sums - share * self.counts
        gains = (surplus if above else -surplus) / (room * self.largest)
        wealth = np.log1p(_BETS[:, None] * gains) @ self.times
        return float(np.logaddexp.reduce(wealth + np.log(_STAKES)))


def sequence_evidence(values: Floats, groups: Labels, span: Interval) -> SequenceEvidence | None:
    """Return the evidence of (items,) values that lie in a span; None without a value.

    Groups are the prompts or the users, see `bootstrap.Dependence`. Where both cross, it is the
    coarser kind: the items that another kind ties together are then taken for independent.

    Args:
        values: NaN for an item without a value, or that was not waited for.
        groups: one label for every item, those not waited for too: how large groups are is known
            beforehand.
        span: lowest and highest value an item can have.
    """
    ids = Dependence.of(groups, len(values)).coarsest()
    has = ~np.isnan(values)
    if not has.any():
        return None
    scaled = np.where(has, (values - span[0]) / (span[1] - span[0]), 0.0)
    both = group_sums(np.stack([scaled, has.astype(np.float64)], axis=1), ids)
    # What groups look like is soon told: wins, ties and losses of a prompt are few numbers.
    alike, times = np.unique(both[both[:, 1] > 0], axis=0, return_counts=True)
    return SequenceEvidence(
        sums=alike[:, 0],
        counts=alike[:, 1],
        times=times.astype(np.float64),
        largest=int(np.bincount(ids).max()),
        span=span,
    )


def crossing_note(groups: Sequence[Crossed]) -> str | None:
    """Return what is taken for granted where prompts and users cross; None where they do not."""
    dependence = Dependence.of(groups, len(groups))
    kinds = dependence.kinds()
    if len(kinds) == 1:
        return None
    own = dependence.coarsest()
    by_users = np.array_equal(own, kinds[1])
    kept, other = ("users", "prompts") if by_users else ("prompts", "users")
    return f"groups: the {int(own.max()) + 1} {kept}; {other} that they share count as different"


def sequence_intervals(values: Floats, groups: Labels, span: Interval) -> list[Interval | None]:
    """Return the 95 % confidence sequence of the mean of each of (items, columns) values."""
    found = (sequence_evidence(column, groups, span) for column in values.T)
    return [None if one is None else one.interval() for one in found]


def at_any_time(
    found: Sequence[Comparison], differences: Floats, groups: Labels, widest: float
) -> list[Comparison]:
    """Return comparisons with intervals and p-values that hold whenever one looks.

    Args:
        found: comparisons of single runs.
        differences: (items, comparisons) first minus second.
        groups: see `sequence_evidence`.
        widest: the largest difference an item can have.
    """
    evidence = [sequence_evidence(column, groups, (-widest, widest)) for column in differences.T]
    p_values = [1.0 if one is None else min(one.p_above(0.0), one.p_below(0.0)) for one in evidence]
    adjusted = adjust(p_values, "holm").tolist() if len(found) > 1 else [None] * len(found)
    return [
        replace(
            pair,
            ci95=None if one is None else one.interval(),
            p=p,
            p_adjusted=corrected,
            p_sign=None,
            detectable=None,
            evidence=one,
        )
        for pair, one, p, corrected in zip(found, evidence, p_values, adjusted, strict=True)
    ]
