"""The probability-weighted rating: the mean of the scale under the judge's own probabilities.

It stands beside the plain rating, never in its place: it tells apart responses that get the same
number, and its calibration against human labels is measured by `mipo-eval validate`.
"""

import math
from collections.abc import Iterable
from typing import NamedTuple

from mipo_eval.judges.cleaning import plain

LEAST_MASS = 0.5
"""Below this probability on the scale the judge was about to say something else."""


class WeightedRating(NamedTuple):
    """A rating between the lowest and the highest of the scale, with what it rests on."""

    value: float | None
    """None when the scale has less than half of the probability, or no probabilities came."""
    mass: float
    """Probability, 0-1, that the first token of the reply was a rating at all."""


def weighted_rating(
    logprobs: Iterable[tuple[str, float]] | None, low: int = 1, high: int = 5
) -> WeightedRating:
    """Return the mean rating under the probabilities of the reply's first token.

    Spellings of one rating (" 4", "4") are added up; everything else is left out and the rest is
    scaled to one. Nothing is cut off: the share left out is told by `mass`.

    Args:
        logprobs: (token, log-probability in nats) of the first token's alternatives.
        low: lowest rating; it and the highest must be single digits.
        high: highest rating.
    """
    weights = _weights(logprobs, low, high)
    mass = min(1.0, math.fsum(weights))
    probabilities = _scaled(weights)
    if probabilities is None:
        return WeightedRating(None, mass)
    return WeightedRating(low + math.fsum(i * p for i, p in enumerate(probabilities)), mass)


def rating_probabilities(
    logprobs: Iterable[tuple[str, float]] | None, low: int = 1, high: int = 5
) -> tuple[float, ...] | None:
    """Return the probability of each rating, lowest first, summing to one.

    None where the judge gave no probabilities, or less than half of them to the scale.
    """
    return _scaled(_weights(logprobs, low, high))


def _weights(
    logprobs: Iterable[tuple[str, float]] | None, low: int, high: int
) -> tuple[float, ...]:
    weights = [0.0] * (high - low + 1)
    for token, logprob in logprobs or ():
        text = plain(token)
        if text.isdecimal() and low <= int(text) <= high:
            weights[int(text) - low] += math.exp(logprob)
    return tuple(weights)


def _scaled(weights: tuple[float, ...]) -> tuple[float, ...] | None:
    mass = math.fsum(weights)
    return None if mass < LEAST_MASS else tuple(weight / mass for weight in weights)
