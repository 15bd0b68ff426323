"""Kappa and classification by hand; real data and published values are in tests/judges."""

import pytest

from mipo_eval.errors import DataError
from mipo_eval.metrics.agreement import classification, cohen_kappa


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


def test_classification_by_hand() -> None:
    found = classification(["a", "a", "b", None], ["a", "b", "b", "b"])
    assert found.accuracy == 0.5
    assert found.macro_precision == pytest.approx((1 / 2 + 1) / 2)
    assert found.macro_recall == pytest.approx((1 + 1 / 3) / 2)
    assert found.macro_f1 == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert found.confusion == {("a", "a"): 1, ("b", "a"): 1, ("b", "b"): 1, ("b", None): 1}


def test_a_class_that_is_never_predicted_has_precision_zero() -> None:
    found = classification(["a", "a"], ["a", "b"])
    assert found.macro_precision == 0.25
    with pytest.raises(DataError, match="at least one item"):
        classification([], [])
