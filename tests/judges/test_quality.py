"""What makes a judge believable: every figure about it, by hand on small tables."""

import math
from pathlib import Path
from typing import Any

import pytest

from mipo_eval.errors import DataError
from mipo_eval.judges.judge import UNPARSED
from mipo_eval.judges.labelled import LabelledPair
from mipo_eval.judges.quality import (
    LengthBias,
    Quality,
    length_bias,
    order_report,
    points,
    quality,
    quality_json,
    rating_spread,
)
from mipo_eval.judges.replies import PairReading, read_set_replies
from mipo_eval.records import Score
from mipo_eval.signature import NOTHING, join
from mipo_eval.verdict import Verdict


def pair(number: int, label: Verdict, **more: Any) -> LabelledPair:
    texts = {"first": "x" * 20, "second": "y" * 10}
    return LabelledPair(pair_id=str(number), prompt=f"q{number}", label=label, **(texts | more))


def chose(label: Verdict, *said: Verdict | None, number: int = 0, **texts: Any) -> PairReading:
    """Return what a judge chose in one order or two."""
    return PairReading(
        pair=pair(number, label, **texts),
        straight=said[0],
        swapped=said[1] if len(said) > 1 else None,
        both_orders=len(said) > 1,
        replies=len(said),
        unread=(UNPARSED,) * said.count(None),
    )


def rated(
    label: Verdict, one: float | None, other: float | None, number: int = 0, **texts: Any
) -> PairReading:
    return PairReading(
        pair=pair(number, label, **texts), ratings=(one, other), both_orders=False, replies=2
    )


def value(score: Score | None) -> float | None:
    assert score is not None
    return score.value


CHOSEN: list[tuple[Verdict, Verdict | None, Verdict | None]] = [
    ("a", "a", "a"),
    ("b", "b", "b"),
    ("a", "a", "b"),  # the first place both times
    ("b", "a", "a"),
    ("tie", "b", "a"),  # the second place both times
    ("a", None, "a"),
]


def choices() -> Quality:
    readings = [chose(label, *said, number=n) for n, (label, *said) in enumerate(CHOSEN)]
    return quality(readings, signature=join(data="x"))


def test_a_judge_that_chooses() -> None:
    found = choices()
    assert (found.pairs, found.judged, found.tied_labels, found.replies) == (6, 5, 1, 12)
    assert found.unread == {UNPARSED: 1}
    assert found.unparsed_rate == pytest.approx(100 / 12)
    assert found.failed_calls == 0
    own = found.judge
    # Four pairs with a chosen response and a verdict: right, right, tie, wrong.
    assert (value(own.strict), own.strict and own.strict.n) == (50, 4)
    assert (value(own.tie_tolerant), value(own.tie_rate)) == (75, 25)
    # With the tie that people see too: 100, 100, 50, 0, 100.
    assert (own.half_ties.value, own.agreement.value) == (70, 60)
    assert (value(found.constant.strict), value(found.constant.tie_tolerant)) == (0, 100)
    assert value(found.longest.strict) == 50  # always "a"
    # Named first or second: straight a b a a b, swapped a b b a a a.
    assert value(found.first_place_rate) == pytest.approx(500 / 11)
    assert found.first_place_rate is not None
    assert found.first_place_rate.n == 11
    assert found.same_verdict_rate is not None
    assert (found.same_verdict_rate.value, found.same_verdict_rate.n) == (60, 5)
    assert found.orders is not None
    assert found.orders.accuracy_both == pytest.approx(100 * 2 / 6)


def test_a_judge_that_rates_several_wishes() -> None:
    pairs = [pair(n, "a" if n % 2 else "b") for n in range(4)]
    readings = [
        PairReading(
            pair=own,
            both_orders=False,
            ratings=(9, 4) if own.label == "a" else (4, 9),
            given=(5, 4, 2, 2),
            replies=4,
        )
        for own in pairs
    ]
    found = quality(readings, signature=NOTHING)
    assert found.orders is None
    assert found.first_place_rate is None
    assert found.ratings is not None
    assert found.ratings.counts == {2: 8, 4: 4, 5: 4}  # single ratings, not their sums
    assert found.judge.kappa == 1
    assert found.subsets == {}


def test_subsets_and_people_stand_beside() -> None:
    people: list[tuple[Verdict | None, ...]] = [("a", "b"), ("a", "a"), ("b", None), ("a", "a")]
    readings = [
        chose("a", "a", "a", number=n, subset="odd", annotators=said)
        if n % 2
        else chose("b", "a", "a", number=n, subset="even", annotators=said)
        for n, said in enumerate(people)
    ]
    found = quality(readings, signature=NOTHING)
    assert {name: own.half_ties.value for name, own in found.subsets.items()} == {
        "even": 0,
        "odd": 100,
    }
    assert found.people[1, 2].n == 3
    assert found.people[1, 2].share == pytest.approx(200 / 3)
    assert found.judge.kappa == 0


def test_a_judge_without_a_single_verdict_says_why() -> None:
    failed = PairReading(
        pair=pair(0, "a"),
        replies=2,
        unread=("call failed: auth",) * 2,
        trouble="the key is expired",
    )
    with pytest.raises(
        DataError, match=r"no verdict on any of 1 pairs.*2 x call failed: auth.*the "
    ):
        quality([failed], signature=NOTHING)


def test_json_keeps_what_the_board_reads() -> None:
    document = quality_json(choices())
    assert document["judge"]["strict"]["value"] == 50
    assert document["longest"]["strict"]["value"] == 50
    assert document["constant"]["tie_tolerant"]["value"] == 100
    assert document["over_longest"]["value"] == pytest.approx(20)
    assert document["first_place_rate"]["n"] == 11
    assert document["length"]["excess"] == pytest.approx(100 / 3)
    assert (document["pairs"], document["judged"]) == (6, 5)


def test_order_report_by_hand() -> None:
    report = order_report(
        [
            chose("a", "a", "a"),
            chose("a", "a", "b"),  # the first place both times
            chose("b", "a", "b"),
            chose("b", None, "b"),
            chose("a", "b", "b"),
        ]
    )
    assert (report.n, report.unread) == (5, 1)
    assert (report.accuracy_straight, report.accuracy_swapped) == (40, 60)
    assert (report.accuracy_both, report.accuracy_average, report.agreement) == (20, 50, 40)
    with pytest.raises(DataError, match="no pair was judged in both orders"):
        order_report([chose("a", "a")])


def test_a_judge_that_looks_at_places_only() -> None:
    labels: list[Verdict] = ["a", "b", "a", "b"]
    readings = [chose(label, "a", "b", number=n) for n, label in enumerate(labels)]
    report = order_report(readings)
    assert report.agreement == report.accuracy_both == 0
    assert report.accuracy_average == 50
    assert report.kappa_straight == 0
    assert value(quality(readings, signature=NOTHING).first_place_rate) == 100


def test_the_verdict_comes_from_ratings_or_from_both_orders_or_from_one() -> None:
    assert rated("a", 4, 3).verdict == "a"
    assert rated("a", 3, 3).verdict == "tie"
    assert rated("a", None, 3).verdict is None
    assert chose("a", "a", "b").verdict == "tie"
    assert chose("a", "a", None).verdict is None
    assert chose("a", "a").verdict == "a"


def test_accuracy_of_ratings_leaves_out_what_people_call_a_tie() -> None:
    readings = [
        rated("a", 5, 3),
        rated("b", 3, 3),
        rated("b", 4, 2),
        rated("tie", 1, 5),
        rated("a", None, 1),
    ]
    found = quality(readings, signature=NOTHING).judge
    assert found.strict is not None
    assert found.strict.n == 3
    assert found.strict.value == pytest.approx(100 / 3)
    assert value(found.tie_tolerant) == pytest.approx(200 / 3)


def test_rating_spread() -> None:
    even = rating_spread([rated("a", 1, 2), rated("a", 3, 4), rated("a", 5, None)])
    assert even is not None
    assert even.counts == {1: 1, 2: 1, 3: 1, 4: 1, 5: 1}
    assert even.entropy == pytest.approx(math.log(5))
    one = rating_spread([rated("a", 4, 4)])
    assert one is not None
    assert (one.entropy, one.largest_share) == (0.0, 1.0)
    assert rating_spread([chose("a", "a", "a")]) is None


@pytest.mark.parametrize(
    ("verdict", "label", "expected"),
    [("a", "a", 100), ("a", "b", 0), ("tie", "a", 50), ("a", "tie", 50), ("tie", "tie", 100)],
)
def test_points(verdict: Verdict, label: Verdict, expected: float) -> None:
    assert points(verdict, label) == expected
    assert points(None, label) is None


LONG = {"first": "x" * 200, "second": "y" * 100}
SHORT = {"first": "x" * 100, "second": "y" * 200}
LONGEST = "no better than choosing the longer response"


def table(judge: str, n: int = 60) -> list[PairReading]:
    """Pairs whose label is the longer response two times out of three; ratings by a rule."""
    readings = []
    for number in range(n):
        label: Verdict = "a" if number % 2 else "b"
        longer = label if number % 3 else ("b" if label == "a" else "a")
        choice = {"right": label, "longest": longer, "constant": "tie"}[judge]
        ratings = {"a": (5, 2), "b": (2, 5), "tie": (4, 4)}[choice]
        texts = LONG if longer == "a" else SHORT
        readings.append(rated(label, *ratings, number, **texts))
    return readings


def test_scores_stand_beside_the_two_baselines() -> None:
    found = quality(table("right"), signature=join(d="x"))
    assert found.judge.half_ties.value == 100
    assert found.longest.half_ties.value == pytest.approx(200 / 3)
    assert found.constant.half_ties.value == 50
    margin = found.over_longest
    assert margin.value == pytest.approx(100 / 3)
    assert margin.ci95 is not None
    assert margin.ci95[0] > 0
    assert margin.signature == "d:x|ties:half"


@pytest.mark.parametrize(
    ("judge", "expected"),
    [
        ("right", ()),
        (
            "longest",
            (f"{LONGEST} (66.7 % and 66.7 % right, a tie being half, over 60 pairs)",),
        ),
        (
            "constant",
            (
                "constant: 100 % of its ratings are 4",
                f"{LONGEST} (50.0 % and 66.7 % right, a tie being half, over 60 pairs)",
            ),
        ),
    ],
)
def test_a_judge_that_fails_is_marked(judge: str, expected: tuple[str, ...]) -> None:
    assert quality(table(judge), signature=NOTHING).failings == expected


def test_a_judge_that_is_worse_than_a_tie_is_marked() -> None:
    """On adversarial pairs the longer response is mostly wrong: beating that rule is not enough."""
    readings = [
        rated("a" if n % 5 < 2 else "b", 5, 2, n, **(LONG if n % 5 == 1 else SHORT))
        for n in range(60)
    ]
    found = quality(readings, signature=NOTHING)
    assert found.judge.half_ties.value == 40
    told = "no better than always calling it a tie (40.0 % and 50.0 % right"
    assert found.failings[0].startswith(told)


def test_a_judge_that_always_ties_by_places_is_constant() -> None:
    readings = [chose("a", "a", "b", number=n, **SHORT) for n in range(30)]
    found = quality(readings, signature=NOTHING).failings
    assert found[0] == "constant: 100 % of its verdicts are ties"


def test_pairs_without_a_verdict_are_counted() -> None:
    found = quality([*table("right"), rated("a", None, 3, 60, **LONG)], signature=NOTHING)
    rules = (found.judge, found.longest, found.constant)
    for score in (*(rule.half_ties for rule in rules), found.over_longest):
        assert (score.n, score.unscored) == (60, 1)


def test_length_bias_by_hand() -> None:
    readings = [
        rated("a", 5, 1, **LONG),
        rated("b", 5, 1, **LONG),
        rated("b", 1, 5, **LONG),
        rated("a", 3, 3, **LONG),
        rated("a", 5, 1, first="x", second="y"),
        rated("tie", 5, 1, **LONG),
    ]
    bias = length_bias(readings)
    third = pytest.approx(100 / 3)
    assert bias == LengthBias(n=3, judge=pytest.approx(200 / 3), label=third, excess=third)
    assert length_bias([]) is None


@pytest.mark.parametrize(("judge", "passes"), [("GPT-4", True), ("ChatGPT", False)])
def test_llmbars_adversarial_pairs_tell_real_judges_apart(
    shared_data: Path, judge: str, passes: bool
) -> None:
    folder = shared_data / "llmbar/LLMBar/Adversarial/Neighbor/evaluators" / judge / "Vanilla"
    found = quality(read_set_replies("llmbar", folder / "result.json"), signature=NOTHING)
    accuracy = found.judge.half_ties.value
    assert accuracy is not None
    assert (accuracy > 50) == passes
