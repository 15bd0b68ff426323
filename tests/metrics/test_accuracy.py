"""Judge accuracy on human pairs."""

import math

import pytest

from mipo_eval.errors import DataError
from mipo_eval.metrics import JudgeAccuracy, judge_accuracy


@pytest.mark.parametrize(
    ("chosen", "rejected", "strict", "tolerant", "tie", "n"),
    [
        ([3, 3], [3, 3], 0, 100, 100, 2),  # the constant judge: why strict stands beside it
        ([5, 1, 3, 4], [1, 5, 3, 2], 50, 75, 25, 4),
        ([None, 5, 4], [1, None, 2], 100, 100, 0, 1),
    ],
)
def test_table(chosen, rejected, strict, tolerant, tie, n) -> None:
    assert judge_accuracy(chosen, rejected) == JudgeAccuracy(
        strict=strict, tie_tolerant=tolerant, tie_rate=tie, n=n, unscored=len(chosen) - n
    )


def test_strict_and_tolerant_are_complements_when_sides_swap() -> None:
    chosen, rejected = [1, 2, 3, 4, 5, 3], [2, 2, 1, 5, 5, 1]
    swapped = judge_accuracy(rejected, chosen)
    assert judge_accuracy(chosen, rejected).strict == pytest.approx(100 - swapped.tie_tolerant)


@pytest.mark.parametrize(
    ("chosen", "rejected", "message"),
    [
        ([None], [1], "none of 1 pairs has both ratings"),
        ([], [], "none of 0 pairs"),
        ([1], [1, 2], "chosen_scores has 1 entries but rejected_scores has 2"),
        ([1], [math.nan], r"rejected_scores\[0\] is nan"),
    ],
)
def test_errors(chosen, rejected, message) -> None:
    with pytest.raises(DataError, match=message):
        judge_accuracy(chosen, rejected)
