"""Asking a judge about labelled pairs and hostile responses, through a real store."""

import asyncio
import math
from pathlib import Path

import pytest

from mipo_eval.judges.judge import Judge, Protocol
from mipo_eval.judges.labelled import LabelledPair
from mipo_eval.judges.presets import load_judge
from mipo_eval.judges.quality import order_report, preference_calibration, quality
from mipo_eval.judges.replies import count_questions, judge_pairs, preference_probability
from mipo_eval.judges.validate import HostileDuel, attack_report, attacks, duel_pairs
from mipo_eval.models.base import (
    Failure,
    FailureKind,
    Reply,
    Request,
    ScriptedBackend,
    ScriptedReply,
)
from mipo_eval.records import Item
from mipo_eval.signature import NOTHING
from mipo_eval.store import Store

PAIRS = [
    LabelledPair(
        pair_id=str(number),
        prompt=f"question {number}",
        first="good" if label == "a" else "bad",
        second="bad" if label == "a" else "good",
        label=label,  # type: ignore[arg-type]
        preferences=("Be brief.", "Be kind."),
    )
    for number, label in enumerate("abba")
]


def make_judge(script: object, protocol: Protocol = "rubric") -> Judge:
    like = load_judge("openai:m@http://localhost:1", protocol=protocol)
    backend = ScriptedBackend(script)  # type: ignore[arg-type]
    return Judge(
        name="scripted", spec="scripted", backend=backend, prompt=like.prompt, protocol=protocol
    )


def run(tmp_path: Path, judge: Judge, pairs: list[LabelledPair]):  # type: ignore[no-untyped-def]
    with Store.open(str(tmp_path / "store.db")) as store:
        return asyncio.run(judge_pairs(store, judge, pairs))


def rate_by_text(request: Request) -> ScriptedReply:
    return "5" if request.slots["response"] == "good" else "2"


def test_ratings_are_summed_over_preferences(tmp_path: Path) -> None:
    readings = run(tmp_path, make_judge(rate_by_text), PAIRS)
    assert [reading.ratings for reading in readings] == [(10, 4), (4, 10), (4, 10), (10, 4)]
    assert [reading.verdict for reading in readings] == list("abba")
    accuracy = quality(readings, signature=NOTHING).judge.strict
    assert accuracy is not None
    assert (accuracy.value, accuracy.n) == (100, 4)


def test_replies_are_counted_before_they_are_asked_for() -> None:
    assert count_questions(make_judge([], "rubric"), PAIRS) == 4 * 2 * 2
    assert count_questions(make_judge([], "pairwise"), PAIRS) == 4 * 2


def test_one_missing_rating_leaves_the_pair_without_a_verdict(tmp_path: Path) -> None:
    def sometimes(request: Request) -> ScriptedReply:
        if "question 1" in request.slots["query"] and "kind" in request.slots["preference"]:
            return Failure(kind="timeout", detail="slow")
        return rate_by_text(request)

    readings = run(tmp_path, make_judge(sometimes), PAIRS)
    assert readings[1].ratings == (None, None)
    assert [reading.verdict for reading in readings] == ["a", None, "b", "a"]


def choose_good(request: Request) -> ScriptedReply:
    return "response_a" if request.slots["response_a"] == "good" else "response_b"


def test_choices_are_asked_in_both_orders(tmp_path: Path) -> None:
    readings = run(tmp_path, make_judge(choose_good, "pairwise"), PAIRS)
    report = order_report(readings)
    assert (report.n, report.accuracy_both, report.accuracy_swapped) == (4, 100, 100)


def test_a_judge_of_places_is_found_out(tmp_path: Path) -> None:
    readings = run(tmp_path, make_judge(lambda _: "response_a", "pairwise"), PAIRS)
    report = order_report(readings)
    assert (report.accuracy_average, report.agreement) == (50, 0)
    assert {reading.verdict for reading in readings} == {"tie"}


def test_asking_again_costs_nothing(tmp_path: Path) -> None:
    first = run(tmp_path, make_judge(choose_good, "pairwise"), PAIRS)
    again = make_judge([], "pairwise")  # a script without replies: any call would be an error
    assert run(tmp_path, again, PAIRS) == first


def test_equal_pairs_are_asked_once_and_read_twice(tmp_path: Path) -> None:
    judge = make_judge(choose_good, "pairwise")
    twin = PAIRS[0].model_copy(update={"pair_id": "twin"})
    same_item = PAIRS[0].model_copy(update={"pair_id": "0"})
    readings = run(tmp_path, judge, [PAIRS[0], twin, same_item])
    assert [reading.verdict for reading in readings] == ["a", "a", "a"]
    assert len(judge.backend.asked) == 2  # type: ignore[attr-defined]


def test_probabilities_of_ratings_become_the_probability_of_being_better(tmp_path: Path) -> None:
    def unsure(request: Request) -> ScriptedReply:
        good = request.slots["response"] == "good"
        high, low = (0.8, 0.2) if good else (0.2, 0.8)
        return Reply(
            text="4" if good else "2", logprobs=(("4", math.log(high)), ("2", math.log(low)))
        )

    one = [pair.model_copy(update={"preferences": ("Be brief.",)}) for pair in PAIRS]
    readings = run(tmp_path, make_judge(unsure), one)
    # 4 against 2 with 0.8 * 0.8, a tie with 2 * 0.8 * 0.2, which counts half.
    assert readings[0].probability == pytest.approx(0.64 + 0.16)
    assert readings[1].probability == pytest.approx(0.04 + 0.16)
    calibration = preference_calibration(readings)
    assert calibration is not None
    assert (calibration.n, calibration.accuracy) == (4, 100)
    assert calibration.ece == pytest.approx(0.2)
    assert calibration.brier == pytest.approx(2 * 0.2**2)
    two = run(tmp_path, make_judge(unsure), PAIRS)
    assert (two[0].probability or 0) > (readings[0].probability or 1)


def test_preference_probability() -> None:
    assert preference_probability((1.0, 0.0), (0.0, 1.0)) == 0
    assert preference_probability((0.5, 0.5), (0.5, 0.5)) == 0.5
    assert preference_probability(None, (1.0,)) is None


def test_hostile_responses_against_honest_ones(tmp_path: Path) -> None:
    items = [
        Item(item_id=name, prompt="How?", preferences=("Be brief.",), reference=reference)
        for name, reference in (("one", "good"), ("two", "good"), ("none", None))
    ]

    def gullible(request: Request) -> ScriptedReply:
        text = request.slots["response"]
        return "5" if "answer 5" in text else "4" if text == "good" else "1"

    with Store.open(str(tmp_path / "store.db")) as store:
        texts, pairs = zip(*duel_pairs(items, attacks()), strict=True)
        said = asyncio.run(judge_pairs(store, make_judge(gullible), pairs))
    report = attack_report([HostileDuel(*one) for one in zip(texts, said, strict=True)])
    assert (report.items, report.attacks, report.undecided) == (2, len(attacks()), 0)
    every = report.rates[0]
    assert every.beats.n == 2 * len(attacks())
    assert every.beats.value == pytest.approx(100 / len(attacks()))
    assert every.ties == 0
    assert report.worst == ("ignore-rubric",)


@pytest.mark.parametrize("kind", ["bad_request", "timeout"])
def test_what_a_server_said_of_a_failed_call_is_told(kind: FailureKind, tmp_path: Path) -> None:
    def fails(_: Request) -> ScriptedReply:
        return Failure(kind=kind, detail="no tea today")

    for protocol in ("rubric", "pairwise"):
        readings = run(tmp_path, make_judge(fails, protocol), PAIRS)
        assert {reading.trouble for reading in readings} == {"no tea today"}
    for protocol, reply in (("rubric", "4"), ("pairwise", "response_a")):
        readings = run(tmp_path, make_judge([reply] * 16, protocol), PAIRS)
        assert {reading.trouble for reading in readings} == {""}
