"""What makes a judge believable, by hand on small tables, and on real replies."""

import math
from pathlib import Path

import pytest

from mipo_eval.errors import DataError
from mipo_eval.judges.benchmarks import load_benchmark
from mipo_eval.judges.quality import (
    LengthBias,
    failings,
    length_bias,
    order_report,
    points,
    rating_accuracy,
    rating_spread,
    validation_scores,
)
from mipo_eval.judges.replies import PairReading
from mipo_eval.judges.verdict import Verdict


def chose(label: Verdict, straight: Verdict | None, swapped: Verdict | None, **more: object):  # type: ignore[no-untyped-def]
    return PairReading(label=label, straight=straight, swapped=swapped, **more)  # type: ignore[arg-type]


def rated(label: Verdict, first: float | None, second: float | None, **more: object):  # type: ignore[no-untyped-def]
    return PairReading(label=label, ratings=(first, second), **more)  # type: ignore[arg-type]


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
    assert (report.right_straight, report.right_swapped, report.right_both) == (2, 3, 1)
    assert (report.same, report.named_first) == (2, 7)
    assert report.accuracy_average == 50
    assert report.first_place_rate == 70
    with pytest.raises(DataError, match="no pair was judged in both orders"):
        order_report([chose("a", "a", None, both_orders=False)])


def test_a_judge_that_looks_at_places_only() -> None:
    report = order_report([chose(label, "a", "b") for label in ("a", "b", "a", "b")])
    assert report.first_place_rate == 100
    assert report.agreement == report.accuracy_both == 0
    assert report.accuracy_average == 50
    assert report.kappa_straight == 0


def test_the_verdict_comes_from_ratings_or_from_both_orders_or_from_one() -> None:
    assert rated("a", 4, 3).verdict == "a"
    assert rated("a", 3, 3).verdict == "tie"
    assert rated("a", None, 3).verdict is None
    assert chose("a", "a", "b").verdict == "tie"
    assert chose("a", "a", None).verdict is None
    assert chose("a", "a", None, both_orders=False).verdict == "a"


def test_rating_accuracy_leaves_out_what_people_call_a_tie() -> None:
    found = rating_accuracy(
        [
            rated("a", 5, 3),
            rated("b", 3, 3),
            rated("b", 4, 2),
            rated("tie", 1, 5),
            rated("a", None, 1),
        ]
    )
    assert (found.n, found.unscored) == (3, 1)
    assert found.strict == pytest.approx(100 / 3)
    assert found.tie_tolerant == pytest.approx(200 / 3)


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


LONG, SHORT = (200, 100), (100, 200)
LONGEST = "no better than choosing the longer response"


def table(judge: str, n: int = 60) -> list[PairReading]:
    """Pairs whose label is the longer response two times out of three; ratings by a rule."""
    readings = []
    for number in range(n):
        label: Verdict = "a" if number % 2 else "b"
        longer = label if number % 3 else ("b" if label == "a" else "a")
        choice = {"right": label, "longest": longer, "constant": "tie"}[judge]
        ratings = {"a": (5, 2), "b": (2, 5), "tie": (4, 4)}[choice]
        readings.append(rated(label, *ratings, lengths=LONG if longer == "a" else SHORT))
    return readings


def test_scores_stand_beside_the_two_baselines() -> None:
    scores = {score.metric: score for score in validation_scores(table("right"), signature="d:x")}
    assert scores["judge_accuracy_half_ties"].value == 100
    assert scores["longest_accuracy_half_ties"].value == pytest.approx(200 / 3)
    assert scores["constant_accuracy_half_ties"].value == 50
    assert scores["judge_over_longest"].value == pytest.approx(100 / 3)
    interval = scores["judge_over_longest"].ci95
    assert interval is not None
    assert interval[0] > 0
    assert scores["judge_over_longest"].signature == "d:x|ties:half"


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
    readings = table(judge)
    assert failings(readings, validation_scores(readings, signature="")) == expected


def test_a_judge_that_is_worse_than_a_tie_is_marked() -> None:
    """On adversarial pairs the longer response is mostly wrong: beating that rule is not enough."""
    readings = [
        rated("a" if number % 5 < 2 else "b", 5, 2, lengths=LONG if number % 5 == 1 else SHORT)
        for number in range(60)
    ]
    scores = validation_scores(readings, signature="")
    assert {s.metric: s.value for s in scores}["judge_accuracy_half_ties"] == 40
    told = "no better than always calling it a tie (40.0 % and 50.0 % right"
    assert failings(readings, scores)[0].startswith(told)


def test_a_judge_that_always_ties_by_places_is_constant() -> None:
    readings = [chose("a", "a", "b", lengths=SHORT) for _ in range(30)]
    found = failings(readings, validation_scores(readings, signature=""))
    assert found[0] == "constant: 100 % of its verdicts are ties"


def test_pairs_without_a_verdict_are_counted() -> None:
    readings = [*table("right"), rated("a", None, 3, lengths=LONG)]
    for score in validation_scores(readings, signature=""):
        assert (score.n, score.unscored) == (60, 1)


def test_length_bias_by_hand() -> None:
    readings = [
        rated("a", 5, 1, lengths=LONG),
        rated("b", 5, 1, lengths=LONG),
        rated("b", 1, 5, lengths=LONG),
        rated("a", 3, 3, lengths=LONG),
        rated("a", 5, 1, lengths=(9, 9)),
        rated("tie", 5, 1, lengths=LONG),
    ]
    bias = length_bias(readings)
    assert bias == LengthBias(n=3, judge=pytest.approx(200 / 3), label=pytest.approx(100 / 3))
    assert bias is not None
    assert bias.excess == pytest.approx(100 / 3)
    assert length_bias([]) is None


@pytest.mark.parametrize(("judge", "passes"), [("GPT-4", True), ("ChatGPT", False)])
def test_llmbars_adversarial_pairs_tell_real_judges_apart(
    shared_data: Path, judge: str, passes: bool
) -> None:
    folder = shared_data / "llmbar/LLMBar/Adversarial/Neighbor/evaluators" / judge / "Vanilla"
    readings = load_benchmark("llmbar", folder / "result.json").readings
    scores = validation_scores(readings, signature="")
    value = scores[0].value
    assert value is not None
    assert (value > 50) == passes
