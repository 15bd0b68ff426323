"""Agreement of two raters beyond what chance gives, and of ratings with human choices."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from mipo_eval.errors import DataError
from mipo_eval.metrics.aggregate import refuse_non_finite, same_length
from mipo_eval.records import Values


def cohen_kappa(first: Sequence[Hashable], second: Sequence[Hashable]) -> float | None:
    """Return Cohen's kappa of two raters over the same items, -1 to 1.

    (observed - expected) / (1 - expected), with the agreement expected of two raters who keep
    their own frequencies and ignore the items. None where both always give one and the same label:
    chance alone would agree on everything, so there is nothing to measure.

    Args:
        first: one label per item.
        second: one label per item; leave out items that either rater did not label.

    Raises:
        DataError: the lengths differ, or there is no item.
    """
    same_length("first", len(first), "second", second)
    if not first:
        raise DataError("Cohen's kappa needs at least one item that both raters labelled")
    n = len(first)
    ours, theirs = Counter(first), Counter(second)
    # Exact integers up to the last division: published kappas are compared to all digits.
    observed = sum(a == b for a, b in zip(first, second, strict=True))
    expected = sum(count * theirs[label] for label, count in ours.items())
    if expected == n * n:
        return None
    return (n * observed - expected) / (n * n - expected)


class Agreement(NamedTuple):
    """How two raters agree over the items that both labelled."""

    n: int
    """Items that both labelled."""
    share: float | None
    """0-100 of equal labels; None where there is no item in common."""
    kappa: float | None
    """Cohen's kappa; None also where both always give one and the same label."""


def agreement(first: Sequence[Hashable | None], second: Sequence[Hashable | None]) -> Agreement:
    """Return how two raters agree: the one place that counts equal labels of two lists.

    Args:
        first: one label per item; None is missing, and the item is left out.
        second: one label per item, in the same order.

    Raises:
        DataError: the lengths differ.
    """
    same_length("first", len(first), "second", second)
    both = [(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None]
    if not both:
        return Agreement(0, None, None)
    share = 100 * sum(a == b for a, b in both) / len(both)
    return Agreement(len(both), share, cohen_kappa(*zip(*both, strict=True)))


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeAccuracy:
    """How a judge ranks human-chosen over human-rejected responses; rates are 0-100.

    Tie-tolerant accuracy alone can be gamed: a judge that always ties has 100. Show all three.
    """

    strict: float
    """Share of pairs with the chosen response rated strictly higher."""
    tie_tolerant: float
    """Share of pairs with the chosen response rated at least as high."""
    tie_rate: float
    n: int
    """Pairs with both ratings; at least 1."""
    unscored: int = 0
    """Pairs left out because a rating is missing."""


def judge_accuracy(chosen_scores: Values, rejected_scores: Values) -> JudgeAccuracy:
    """Return strict and tie-tolerant accuracy on human pairs, in percent (paper, Table 7).

    Args:
        chosen_scores: per pair the rating of the response the human chose; None where missing.
        rejected_scores: per pair the rating of the other response; None where missing.

    Raises:
        DataError: no pair has both ratings, a rating is NaN, or the lengths differ.
    """
    same_length("chosen_scores", len(chosen_scores), "rejected_scores", rejected_scores)
    refuse_non_finite("chosen_scores", chosen_scores)
    refuse_non_finite("rejected_scores", rejected_scores)
    pairs = [
        (chosen, rejected)
        for chosen, rejected in zip(chosen_scores, rejected_scores, strict=True)
        if chosen is not None and rejected is not None
    ]
    if not pairs:
        raise DataError(
            f"judge accuracy: none of {len(chosen_scores)} pairs has both ratings; "
            "check that the judge's replies could be read"
        )
    above = sum(chosen > rejected for chosen, rejected in pairs)
    level = sum(chosen == rejected for chosen, rejected in pairs)
    n = len(pairs)
    return JudgeAccuracy(
        strict=100 * above / n,
        tie_tolerant=100 * (above + level) / n,
        tie_rate=100 * level / n,
        n=n,
        unscored=len(chosen_scores) - n,
    )
