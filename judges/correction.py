"""Win rates corrected for the judge's errors with human labels on some of the items.

Two estimates stand beside the uncorrected rate, since they rest on different assumptions:

- Prediction-powered inference with power tuning (PPI++, Angelopoulos, Duchi and Zrnic 2023): the
  mean by people on the labelled items, plus as much as the judge is worth of the difference between
  its means over all items and over these. Right whatever the judge's errors are, as long as the
  labelled items are a random sample of all; a judge that is worth nothing leaves people's mean.
- Rogan and Gladen (1978): the judge's rate of wins turned into the true one with its sensitivity
  and specificity. It also needs these to be the same on the items without labels, and it is
  undefined for a judge that is no better than chance.

Both are sums over items up to what vanishes, so their errors are clustered like those of any mean,
and know that the labelled items are among all.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mipo_eval.errors import DataError
from mipo_eval.metrics.aggregate import same_length
from mipo_eval.stats.bootstrap import Dependence, Floats, Labels, Mask
from mipo_eval.stats.estimates import covariance, t_quantile


class Corrected(NamedTuple):
    """A corrected rate with its interval, 0-100."""

    value: float
    ci95: tuple[float, float]
    n: int
    """Items with the judge's outcome."""
    labelled: int
    """Items among them that also have a human one."""


def prediction_powered(
    judge: Sequence[float | None], human: Sequence[float | None], groups: Labels = None
) -> Corrected:
    """Return the win rate corrected by prediction-powered inference.

    Args:
        judge: per item the outcome by the judge: 1 win, 0 loss, 0.5 a tie; None is missing.
        human: per item the outcome by people; None where nobody was asked.
        groups: one label per item, see `stats.bootstrap.Dependence`.

    Raises:
        DataError: fewer than two items (or groups of items) have both outcomes, or the lengths
            differ.
    """
    said, true, both = _outcomes(judge, human)
    known = ~np.isnan(said)
    everywhere, here = np.where(known, said - said[known].mean(), 0.0), said[both].mean()
    spread = float(((said[both] - here) ** 2).sum())
    # What a point of the judge's is worth of people's; less than nothing is nothing.
    worth = float(((said[both] - here) * true[both]).sum()) / spread if spread > 0 else 0.0
    worth = min(max(worth, 0.0), 1.0)
    value = true[both].mean() + worth * (said[known].mean() - here)
    apart = true - worth * said
    parts = worth * everywhere / known.sum()
    parts += np.where(both, apart - apart[both].mean(), 0.0) / both.sum()
    return _corrected(float(value), parts, (known, both), groups)


def rogan_gladen(
    judge: Sequence[float | None], human: Sequence[float | None], groups: Labels = None
) -> Corrected:
    """Return the win rate corrected by the judge's sensitivity and specificity.

    It takes what `prediction_powered` does; an item that either calls a tie is left out.

    Raises:
        DataError: people saw no win or no loss, or the judge is no better than chance on them.
    """
    judge = [None if outcome == 0.5 else outcome for outcome in judge]
    human = [None if outcome == 0.5 else outcome for outcome in human]
    said, true, both = _outcomes(judge, human)
    known = ~np.isnan(said)
    won, lost = both & (true == 1), both & (true == 0)
    if not won.any() or not lost.any():
        raise DataError(
            "the correction needs items that people call a win and items that they call a loss"
        )
    sensitivity, specificity = float(said[won].mean()), float(1 - said[lost].mean())
    skill = sensitivity + specificity - 1
    if skill <= 0:
        raise DataError(
            "the judge is not better than chance on the labelled items (sensitivity "
            f"{sensitivity:.2f}, specificity {specificity:.2f}), so its win rate cannot be "
            "corrected"
        )
    rate = float(said[known].mean())
    value = (rate + specificity - 1) / skill
    # The delta method: how far each item moves the three shares, and they the value.
    parts = np.where(known, said - rate, 0.0) / known.sum()
    parts -= value * np.where(won, said - sensitivity, 0.0) / won.sum()
    parts += (1 - value) * np.where(lost, 1 - said - specificity, 0.0) / lost.sum()
    return _corrected(value, parts / skill, (known, both), groups)


def _outcomes(
    judge: Sequence[float | None], human: Sequence[float | None]
) -> tuple[Floats, Floats, Mask]:
    """Return (items,) outcomes by both, NaN for none, and which items have both."""
    same_length("judge", len(judge), "human", human)
    said, true = (
        np.array([np.nan if outcome is None else outcome for outcome in of], dtype=np.float64)
        for of in (judge, human)
    )
    both = ~np.isnan(said + true)
    if both.sum() < 2:
        raise DataError(
            f"{both.sum()} items have both a verdict of the judge and a label: a correction needs "
            "at least two"
        )
    return said, true, both


def _corrected(value: float, parts: Floats, items: tuple[Mask, Mask], groups: Labels) -> Corrected:
    """Return a rate with its interval, from how far each item moves it (0 where it does not).

    Args:
        value: 0-1; noise can put it outside.
        parts: (items,) that sum to 0.
        items: which have the judge's outcome, and which people's too.
        groups: one label per item.
    """
    known, both = items
    dependence = Dependence.of(groups, len(parts))
    kinds = dependence.kinds(known)
    # The labelled items are what is scarce: their groups tell the degrees of freedom.
    of_all = min(int(ids.max()) + 1 for ids in kinds)
    labelled = min(int(ids.max()) + 1 for ids in dependence.kinds(both))
    if labelled < 2:
        raise DataError(
            "all labelled items are of one prompt group, so nothing is known about others: label "
            "more"
        )
    scarce = labelled / (labelled - 1) * (of_all - 1) / of_all
    error = np.sqrt(covariance(parts[known][:, None], kinds)[0, 0] * scarce)
    reach = float(t_quantile(labelled - 1) * error)
    middle, low, high = (100 * min(1.0, max(0.0, x)) for x in (value, value - reach, value + reach))
    return Corrected(middle, (low, high), int(known.sum()), int(both.sum()))
