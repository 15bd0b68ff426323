"""Agreement of two raters, and of a rater with gold labels, beyond what chance gives."""

from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from mipo_eval.errors import DataError
from mipo_eval.metrics.means import same_length


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
