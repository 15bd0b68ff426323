"""Judge validation on human pairs (Table 7): does the judge rate the chosen response higher?"""

from dataclasses import dataclass

from mipo_eval.errors import DataError
from mipo_eval.metrics.means import refuse_non_finite, same_length
from mipo_eval.records import Values


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
