"""Agreement of two raters, of predictions with gold labels, and of ratings with human choices."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Classification:
    """How predictions match gold labels; rates are 0-1, as in the published tables."""

    accuracy: float
    macro_precision: float
    macro_recall: float
    macro_f1: float
    """Mean over the gold classes; a class that is never predicted has precision 0."""
    confusion: dict[tuple[Hashable, Hashable], int]
    """(gold, predicted) to how often."""


def classification(predicted: Sequence[Hashable], gold: Sequence[Hashable]) -> Classification:
    """Return accuracy and macro-averaged precision, recall and F1 over the classes of `gold`.

    Args:
        predicted: one label per item; a label that is no gold class (such as None for an unread
            reply) counts as wrong.
        gold: one label per item.

    Raises:
        DataError: the lengths differ, or there is no item.
    """
    same_length("predicted", len(predicted), "gold", gold)
    if not gold:
        raise DataError("a classification needs at least one item with a gold label")
    confusion = Counter(zip(gold, predicted, strict=True))
    precisions, recalls, f1s = [], [], []
    for label, count in Counter(gold).items():
        hits = confusion[label, label]
        named = sum(n for (_, said), n in confusion.items() if said == label)
        precisions.append(hits / named if named else 0.0)
        recalls.append(hits / count)
        f1s.append(2 * hits / (named + count))
    right = sum(n for (label, said), n in confusion.items() if label == said)
    classes = len(f1s)
    return Classification(
        accuracy=right / len(gold),
        macro_precision=sum(precisions) / classes,
        macro_recall=sum(recalls) / classes,
        macro_f1=sum(f1s) / classes,
        confusion=dict(confusion),
    )


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
