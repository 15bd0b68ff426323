"""Every figure about a judge, by hand on small tables."""

from typing import Any

import pytest

from mipo_eval.errors import DataError
from mipo_eval.judges.labelled import LabelledPair
from mipo_eval.judges.quality import Quality, quality, quality_json
from mipo_eval.judges.replies import PairReading
from mipo_eval.judges.rubric import UNPARSED
from mipo_eval.judges.verdict import Verdict


def pair(number: int, label: Verdict, **more: Any) -> LabelledPair:
    texts = {"first": "x" * 20, "second": "y" * 10}
    return LabelledPair(pair_id=str(number), prompt=f"q{number}", label=label, **(texts | more))


CHOSEN: list[tuple[Verdict, Verdict | None, Verdict | None]] = [
    ("a", "a", "a"),
    ("b", "b", "b"),
    ("a", "a", "b"),  # the first place both times
    ("b", "a", "a"),
    ("tie", "b", "a"),  # the second place both times
    ("a", None, "a"),
]


def choices() -> Quality:
    pairs = [pair(n, label) for n, (label, _, _) in enumerate(CHOSEN)]
    readings = [
        PairReading.of(own, straight, swapped)
        for own, (_, straight, swapped) in zip(pairs, CHOSEN, strict=True)
    ]
    return quality(pairs, readings, signature="data:x")


def test_a_judge_that_chooses() -> None:
    found = choices()
    assert (found.pairs, found.judged, found.tied_labels, found.replies) == (6, 5, 1, 12)
    assert found.unread == {UNPARSED: 1}
    assert found.unparsed_rate == pytest.approx(100 / 12)
    assert found.failed_calls == 0
    own = found.judge
    assert own.strict is not None
    # Four pairs with a chosen response and a verdict: right, right, tie, wrong.
    assert (own.strict.value, own.strict.n) == (50, 4)
    assert own.tie_tolerant is not None
    assert own.tie_tolerant.value == 75
    assert own.tie_rate is not None
    assert own.tie_rate.value == 25
    # With the tie that people see too: 100, 100, 50, 0, 100.
    assert own.half_ties.value == 70
    assert own.agreement.value == 60
    assert found.constant.strict is not None
    assert found.constant.strict.value == 0
    assert found.constant.tie_tolerant is not None
    assert found.constant.tie_tolerant.value == 100
    assert found.longest.strict is not None
    assert found.longest.strict.value == 50  # always "a"
    assert found.first_place is not None
    # Named first or second: straight a b a a b, swapped a b b a a a.
    assert (found.first_place.value, found.first_place.n) == (pytest.approx(500 / 11), 11)
    assert found.same_verdict is not None
    assert (found.same_verdict.value, found.same_verdict.n) == (60, 5)
    assert found.orders is not None
    assert found.orders.right_both == 2


def test_a_judge_that_rates_several_wishes() -> None:
    pairs = [pair(n, "a" if n % 2 else "b") for n in range(4)]
    readings = [
        PairReading(
            label=own.label,
            both_orders=False,
            ratings=(9, 4) if own.label == "a" else (4, 9),
            given=(5, 4, 2, 2),
            replies=4,
            group=own.pair_id,
        )
        for own in pairs
    ]
    found = quality(pairs, readings, signature="")
    assert found.orders is None
    assert found.first_place is None
    assert found.ratings is not None
    assert found.ratings.counts == {2: 8, 4: 4, 5: 4}  # single ratings, not their sums
    assert found.judge.kappa == 1
    assert found.subsets == {}


def test_subsets_and_people_stand_beside() -> None:
    pairs = [
        pair(n, "a" if n % 2 else "b", subset="odd" if n % 2 else "even", annotators=people)
        for n, people in enumerate([("a", "b"), ("a", "a"), ("b", None), ("a", "a")])
    ]
    readings = [PairReading.of(own, "a", "a") for own in pairs]
    found = quality(pairs, readings, signature="")
    assert {name: own.half_ties.value for name, own in found.subsets.items()} == {
        "even": 0,
        "odd": 100,
    }
    assert found.people[1, 2].n == 3
    assert found.people[1, 2].share == pytest.approx(200 / 3)
    assert found.judge.kappa == 0


def test_a_judge_without_a_single_verdict_says_why() -> None:
    pairs = [pair(0, "a")]
    failed = PairReading(
        label="a", replies=2, unread=("call failed: auth",) * 2, trouble="the key is expired"
    )
    with pytest.raises(
        DataError, match=r"no verdict on any of 1 pairs.*2 x call failed: auth.*the "
    ):
        quality(pairs, [failed], signature="")


def test_json_keeps_what_the_board_reads() -> None:
    document = quality_json(choices())
    assert document["judge"]["strict"]["value"] == 50
    assert document["longest"]["strict"]["value"] == 50
    assert document["constant"]["tie_tolerant"]["value"] == 100
    assert document["over_longest"]["value"] == pytest.approx(20)
    assert document["first_place_rate"]["n"] == 11
    assert document["length"]["excess"] == pytest.approx(100 / 3)
    assert (document["pairs"], document["judged"]) == (6, 5)
