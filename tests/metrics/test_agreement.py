"""Agreement by hand; real data and published values are in tests/judges."""

import math

import pytest

from mipo_eval.errors import DataError
from mipo_eval.metrics import judge_accuracy
from mipo_eval.metrics.agreement import JudgeAccuracy, agreement, cohen_kappa


def test_kappa_by_hand() -> None:
    """Cohen (1960), the textbook table: 20 and 15 agreed, 5 and 10 not; kappa 0.4."""
    first = ["yes"] * 25 + ["no"] * 25
    second = ["yes"] * 20 + ["no"] * 5 + ["yes"] * 10 + ["no"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    assert cohen_kappa(second, first) == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("first", "second", "kappa"),
    [("ab", "ab", 1.0), ("ab", "ba", -1.0), ("aabb", "abab", 0.0), ("aa", "aa", None)],
)
def test_kappa_at_its_ends(first: str, second: str, kappa: float | None) -> None:
    assert cohen_kappa(first, second) == kappa


def test_kappa_needs_items_of_equal_number() -> None:
    with pytest.raises(DataError, match="at least one item"):
        cohen_kappa([], [])
    with pytest.raises(DataError, match="second"):
        cohen_kappa(["a"], ["a", "b"])


def test_agreement_is_over_the_items_that_both_labelled() -> None:
    """scikit-learn 1.9: cohen_kappa_score(list("abca"), list("abbc")) is 3/11."""
    first = ["a", "b", None, "c", "a", "b"]
    second = ["a", "b", "a", "b", "c", None]
    found = agreement(first, second)
    assert found == (4, 50.0, pytest.approx(3 / 11))
    assert agreement(second, first) == found


def test_agreement_of_ratings_and_of_one_label() -> None:
    assert agreement([1, 5, 3], [1, 5, 3]) == (3, 100.0, 1.0)
    assert agreement(["a", "a"], ["a", "a"]) == (2, 100.0, None)
    assert agreement([0, False], [0, 0]) == (2, 100.0, None)  # 0 is a label, None is none


def test_agreement_without_an_item_in_common_is_absent_not_zero() -> None:
    assert agreement([None, "a"], ["b", None]) == (0, None, None)
    assert agreement([], []) == (0, None, None)
    with pytest.raises(DataError, match="second"):
        agreement(["a"], [])


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
