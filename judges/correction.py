"""Win rates corrected for the judge's errors with human labels on some of the items.

Two estimates stand beside the uncorrected rate, since they rest on different assumptions:

- Prediction-powered inference (Angelopoulos et al., 2023): the judge's mean over all items plus the
  mean of (human - judge) over the labelled ones. Right whatever the judge's errors are, as long as
  the labelled items are a random sample of all; the worse the judge, the wider the interval.
- Rogan and Gladen (1978): the judge's rate of wins turned into the true one with its sensitivity
  and specificity. Narrower, but it also needs these to be the same on the items without labels,
  and it is undefined for a judge that is no better than chance.
"""

import math
from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from mipo_eval.errors import DataError
from mipo_eval.metrics.aggregate import same_length

_Z95 = 1.959963984540054
"""The normal quantile of a two-sided 95 % interval."""


class Corrected(NamedTuple):
    """A corrected rate with its interval, 0-100."""

    value: float
    ci95: tuple[float, float]
    n: int
    """Items with the judge's outcome."""
    labelled: int
    """Items among them that also have a human one."""


def prediction_powered(judge: Sequence[float | None], human: Sequence[float | None]) -> Corrected:
    """Return the win rate corrected by prediction-powered inference.

    Args:
        judge: per item the outcome by the judge: 1 win, 0 loss, 0.5 a tie; None is missing.
        human: per item the outcome by people; None where nobody was asked.

    Raises:
        DataError: fewer than two items have both outcomes, or the lengths differ.
    """
    known, paired = _outcomes(judge, human)
    errors = [true - said for said, true in paired]
    value = fmean(known) + fmean(errors)
    # The labelled items are among all; the two means are taken as independent, as usual.
    variance = _variance(known) / len(known) + _variance(errors) / len(errors)
    return _bounded(value, math.sqrt(variance), len(known), len(paired))


def rogan_gladen(judge: Sequence[float | None], human: Sequence[float | None]) -> Corrected:
    """Return the win rate corrected by the judge's sensitivity and specificity.

    It takes what `prediction_powered` does; an item that either calls a tie is left out.

    Raises:
        DataError: people saw no win or no loss, or the judge is no better than chance on them.
    """
    judge = [None if outcome == 0.5 else outcome for outcome in judge]
    human = [None if outcome == 0.5 else outcome for outcome in human]
    known, paired = _outcomes(judge, human)
    of_wins = [said for said, true in paired if true == 1]
    of_losses = [1 - said for said, true in paired if true == 0]
    if not of_wins or not of_losses:
        raise DataError(
            "the correction needs items that people call a win and ones they call a loss"
        )
    sensitivity, specificity = fmean(of_wins), fmean(of_losses)
    skill = sensitivity + specificity - 1
    if skill <= 0:
        raise DataError(
            f"the judge is no better than chance on the labelled items (sensitivity "
            f"{sensitivity:.2f}, specificity {specificity:.2f}): nothing can be corrected with it"
        )
    rate = fmean(known)
    value = (rate + specificity - 1) / skill
    # Delta method (Rogan and Gladen's own). It takes the three shares as coming from different
    # items; the labelled ones are among all, which makes the interval a little too wide.
    variance = (
        rate * (1 - rate) / len(known)
        + value**2 * sensitivity * (1 - sensitivity) / len(of_wins)
        + (1 - value) ** 2 * specificity * (1 - specificity) / len(of_losses)
    ) / skill**2
    return _bounded(value, math.sqrt(variance), len(known), len(paired))


def _outcomes(
    judge: Sequence[float | None], human: Sequence[float | None]
) -> tuple[list[float], list[tuple[float, float]]]:
    same_length("judge", len(judge), "human", human)
    known = [said for said in judge if said is not None]
    paired = [
        (said, true)
        for said, true in zip(judge, human, strict=True)
        if said is not None and true is not None
    ]
    if len(paired) < 2:
        raise DataError(
            f"{len(paired)} items have the outcome of both judge and people: a correction needs "
            "at least two"
        )
    return known, paired


def _variance(values: Sequence[float]) -> float:
    if len(values) < 2:
        return 0.0
    mean = fmean(values)
    return math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1)


def _bounded(value: float, error: float, n: int, labelled: int) -> Corrected:
    low, high = value - _Z95 * error, value + _Z95 * error
    kept = [100 * min(1.0, max(0.0, x)) for x in (value, low, high)]
    return Corrected(kept[0], (kept[1], kept[2]), n, labelled)
