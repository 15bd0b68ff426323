"""What a verdict on a pair is, from either kind of judge and in any state of asking."""

from dataclasses import replace
from fractions import Fraction
from itertools import product

import pytest

from mipo_eval.verdict import (
    NO_PREFERENCES,
    NOT_JUDGED,
    Choice,
    Orders,
    Pair,
    PairVerdict,
    Shown,
    Total,
    Verdict,
    ahead,
    exchanged,
    from_choices,
    from_totals,
    merge_orders,
    orders_of,
)

PAIR = Pair("item", "one", "two")
VERDICTS: list[Verdict | None] = ["a", "b", "tie", None]


def choice(shown: Shown, winner: Verdict | None, reason: str | None = None) -> Choice:
    return Choice(
        judge_key="j",
        item_key="item",
        text_key_a="one",
        text_key_b="two",
        shown_first=shown,
        winner=winner,
        reason=reason if winner is None else None,
    )


def both(first: Verdict | None, second: Verdict | None) -> list[Choice]:
    return [choice("a", first, "unparsable reply"), choice("b", second, "call failed: timeout")]


@pytest.mark.parametrize(
    ("first", "second", "winner", "flipped"),
    [
        ("a", "a", "a", False),
        ("b", "b", "b", False),
        ("a", "b", "tie", True),
        ("b", "a", "tie", True),
        ("tie", "tie", "tie", False),
        ("a", "tie", "tie", False),
        ("tie", "b", "tie", False),
    ],
)
@pytest.mark.parametrize("orders", ["both", "as made"])
def test_two_orders(
    first: Verdict, second: Verdict, winner: Verdict, flipped: bool, orders: Orders
) -> None:
    found = from_choices(PAIR, both(first, second), orders)
    assert (found.winner, found.flipped, found.reason) == (winner, flipped, None)
    assert [one.shown_first for one in found.choices] == ["a", "b"]


@pytest.mark.parametrize("winner", ["a", "b", "tie"])
def test_one_order_decides_only_where_one_was_to_be_asked(winner: Verdict) -> None:
    for shown in ("a", "b", "?"):
        asked = [choice(shown, winner)]
        assert from_choices(PAIR, asked, "both").winner is None
        assert from_choices(PAIR, asked, "both").reason == NOT_JUDGED
        for orders in ("one", "as made"):
            found = from_choices(PAIR, asked, orders)
            assert (found.winner, found.reason, found.flipped) == (winner, None, None)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ([], NOT_JUDGED),
        ([choice("a", "a")], NOT_JUDGED),
        ([choice("a", None, "unparsable reply")], "unparsable reply"),
        (both(None, "b"), "unparsable reply"),
        (both("a", None), "call failed: timeout"),
        (both(None, None), "unparsable reply"),
    ],
)
def test_why_a_model_has_no_verdict(made: list[Choice], reason: str) -> None:
    found = from_choices(PAIR, made, "both")
    assert (found.winner, found.reason, found.credit) == (None, reason, None)
    assert not found.flipped


def test_a_person_who_skips_has_said_nothing_and_who_contradicts_themselves_calls_a_tie() -> None:
    skipped = choice("a", None, "skipped")
    assert from_choices(PAIR, [skipped], "one").reason == NOT_JUDGED
    assert from_choices(PAIR, [skipped, choice("b", "b")], "one").winner == "b"
    again = choice("a", "b").turned()  # the same two texts, the other way round in the store
    assert from_choices(PAIR, [choice("a", "a"), choice("b", "b")], "one").winner == "tie"
    assert from_choices(PAIR, [choice("b", "a"), again], "one").winner == "tie"
    assert from_choices(PAIR, [choice("a", "a"), again], "one").winner == "tie"


def test_of_another_tool_that_judged_an_order_twice_the_first_verdict_counts() -> None:
    assert from_choices(PAIR, [choice("a", "a"), choice("a", "b")], "as made").winner == "a"


def test_another_tools_unread_order_leaves_the_pair_undecided() -> None:
    assert from_choices(PAIR, both("a", None), "as made").reason == "call failed: timeout"


def test_a_pair_asked_the_other_way_round_is_the_same_pair() -> None:
    for first, second in product(VERDICTS, VERDICTS):
        made = both(first, second)
        one = from_choices(PAIR, made, "both")
        for asked in (made, [c.turned() for c in made], [made[0], made[1].turned()]):
            assert from_choices(PAIR, asked, "both") == one
            other = from_choices(PAIR.turned(), asked, "both")
            assert other.winner == exchanged(one.winner)
            assert other.flipped == one.flipped
        assert merge_orders(exchanged(first), exchanged(second)) == exchanged(one.winner)
    assert choice("a", "b").turned().turned() == choice("a", "b")


def test_a_probability_stands_as_it_is_and_turns_with_the_pair() -> None:
    told = replace(choice("?", "a"), preference=0.75)
    assert from_choices(PAIR, [told], "as made").credit == 0.75
    assert from_choices(PAIR.turned(), [told], "as made").credit == 0.25
    assert from_choices(PAIR, [choice("?", "tie")], "as made").credit == 0.5


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (Total(2, 7, None), Total(2, 4, None), PairVerdict(winner="a", margin=Fraction(3, 2))),
        (Total(2, 4, None), Total(2, 4, None), PairVerdict(winner="tie", margin=Fraction(0))),
        (Total(1, 5, "unparsable reply"), Total(2, 2, None), "unparsable reply"),
        (Total(2, 2, None), Total(1, 5, None), NOT_JUDGED),
        (None, Total(2, 2, None), NOT_JUDGED),
    ],
)
def test_ratings(first: Total | None, second: Total | None, expected: PairVerdict | str) -> None:
    found = from_totals(first, second, 2)
    if isinstance(expected, str):
        assert (found.winner, found.reason, found.margin) == (None, expected, None)
    else:
        assert found == expected
    assert from_totals(first, second, 0).reason == NO_PREFERENCES


def test_sums_are_compared_exactly() -> None:
    assert ahead(Fraction(1, 3) + Fraction(1, 3) + Fraction(1, 3) - 1) == "tie"
    assert [ahead(x) for x in (0.5, 0, -0.5)] == ["a", "tie", "b"]


@pytest.mark.parametrize(
    ("spec", "orders"),
    [
        ({"protocol": "pairwise"}, "both"),
        ({"protocol": "pairwise-tie"}, "both"),
        ({"kind": "human", "name": "ann"}, "one"),
        ({"imported": "alpaca_eval", "name": "weighted"}, "as made"),
        ({"imported": "arena_hard", "name": "gpt-4"}, "both"),
        ({"imported": "mt_bench", "name": "gpt-4"}, "both"),
        ({}, "as made"),
    ],
)
def test_who_has_to_be_asked_twice(spec: dict[str, str], orders: Orders) -> None:
    assert orders_of(spec) == orders


@pytest.mark.parametrize("first", VERDICTS)
@pytest.mark.parametrize("second", VERDICTS)
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
