"""The verdict of two orders."""

import pytest

from mipo_eval.judges import Verdict, merge_orders

ALL: list[Verdict | None] = ["a", "b", "tie", None]


@pytest.mark.parametrize("first", ALL)
@pytest.mark.parametrize("second", ALL)
def test_merging_does_not_depend_on_the_order(
    first: Verdict | None, second: Verdict | None
) -> None:
    assert merge_orders(first, second) == merge_orders(second, first)


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [("a", "a", "a"), ("b", "b", "b"), ("a", "b", "tie"), ("a", None, None), ("a", "tie", "tie")],
)
def test_merge_orders(first: Verdict, second: Verdict | None, merged: Verdict | None) -> None:
    assert merge_orders(first, second) == merged
