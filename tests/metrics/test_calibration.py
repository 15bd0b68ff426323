"""Answer entropy and calibration: by hand, laws, a calibrated and a bragging model."""

import math
import random

import numpy as np
import pytest

from mipo_eval.errors import DataError
from mipo_eval.metrics import answer_entropy
from mipo_eval.metrics.calibration import (
    ChoiceOutcome,
    calibration_scores,
    choice_outcome,
    expected_calibration_error,
)

INF = math.inf


@pytest.mark.parametrize(
    ("logprobs", "nats"),
    [
        ([0.0], 0.0),
        ([-3.0, -3.0, -3.0, -3.0], math.log(4)),
        ([0.0, -INF, -INF, -INF], 0.0),
        ([math.log(0.5), math.log(0.5), -INF], math.log(2)),
        ([math.log(0.9), math.log(0.1)], -0.9 * math.log(0.9) - 0.1 * math.log(0.1)),
        ([-1e6, -1e6 - math.log(3)], -0.75 * math.log(0.75) - 0.25 * math.log(0.25)),
    ],
)
def test_hand_values(logprobs, nats) -> None:
    assert answer_entropy(logprobs) == pytest.approx(nats, abs=1e-9)


def test_only_the_distribution_counts() -> None:
    logprobs = np.random.default_rng(0).normal(size=5)
    assert answer_entropy(logprobs) == pytest.approx(answer_entropy(logprobs[::-1] - 700))


@pytest.mark.parametrize(
    ("logprobs", "message"),
    [
        ([], "one per choice"),
        ([[0.0, 1.0]], "one per choice"),
        ([0.0, math.nan], "holds NaN"),
        ([0.0, INF], r"\+inf"),
        ([-INF, -INF], "every choice has probability 0"),
    ],
)
def test_errors(logprobs, message) -> None:
    with pytest.raises(DataError, match=message):
        answer_entropy(logprobs)


def logs(*probabilities: float) -> list[float]:
    return [math.log(p) if p else -math.inf for p in probabilities]


@pytest.mark.parametrize(
    ("probabilities", "gold", "predicted", "confidence", "brier"),
    [
        ((1.0, 0.0, 0.0), 0, 0, 1.0, 0.0),
        ((1.0, 0.0, 0.0), 2, 0, 1.0, 2.0),
        ((0.25, 0.25, 0.25, 0.25), 3, 0, 0.25, 0.75),
        ((0.7, 0.2, 0.1), 0, 0, 0.7, 0.09 + 0.04 + 0.01),
        ((0.1, 0.1, 0.1, 0.1, 0.6), 4, 4, 0.6, 4 * 0.01 + 0.16),
    ],
)
def test_one_question(
    probabilities: tuple[float, ...], gold: int, predicted: int, confidence: float, brier: float
) -> None:
    outcome = choice_outcome([value - 12.5 for value in logs(*probabilities)], gold)
    assert outcome.predicted == predicted
    assert outcome.correct is (predicted == gold)
    assert outcome.confidence == pytest.approx(confidence)
    assert outcome.brier == pytest.approx(brier)
    assert outcome.entropy == pytest.approx(answer_entropy(logs(*probabilities)))


@pytest.mark.parametrize(
    ("logprobs", "gold", "message"),
    [
        (logs(0.5, 0.5), 2, "the right choice 2 is none of the 2 choices"),
        (logs(0.5, 0.5), -1, "the right choice -1 is none"),
        ([math.nan, 0.0], 0, "NaN"),
    ],
)
def test_refusals(logprobs: list[float], gold: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        choice_outcome(logprobs, gold)


def outcome(confidence: float, *, correct: bool) -> ChoiceOutcome:
    rest = 1 - confidence
    made = choice_outcome(logs(confidence, rest), 0 if correct else 1)
    assert made.confidence == pytest.approx(max(confidence, rest))
    return made


def test_ece_by_hand() -> None:
    """Two bins of ten: 0.85 twice, right once (gap 0.35); 0.95 once, right (gap 0.05)."""
    outcomes = [outcome(0.85, correct=True), outcome(0.85, correct=False)]
    outcomes.append(outcome(0.95, correct=True))
    assert expected_calibration_error(outcomes, bins=10) == pytest.approx(
        2 / 3 * 0.35 + 1 / 3 * 0.05
    )


def loop_ece(outcomes: list[ChoiceOutcome], bins: int) -> float:
    total = 0.0
    for index in range(bins):
        inside = [
            o
            for o in outcomes
            if index / bins < o.confidence <= (index + 1) / bins
            or (index == 0 and not o.confidence)
        ]
        if inside:
            accuracy = sum(o.correct for o in inside) / len(inside)
            confidence = sum(o.confidence for o in inside) / len(inside)
            total += len(inside) / len(outcomes) * abs(accuracy - confidence)
    return total


@pytest.mark.parametrize("choices", [3, 4, 5])
def test_ece_equals_a_plain_loop(choices: int) -> None:
    rng = np.random.default_rng(choices)
    outcomes = [
        choice_outcome(rng.normal(scale=3, size=choices), int(rng.integers(choices)))
        for _ in range(400)
    ]
    assert expected_calibration_error(outcomes) == pytest.approx(loop_ece(outcomes, 15), abs=1e-12)


def test_a_calibrated_model_and_a_bragging_one() -> None:
    rng = random.Random(0)
    honest = [outcome(p := rng.uniform(0.5, 1), correct=rng.random() < p) for _ in range(20_000)]
    assert expected_calibration_error(honest) < 0.02
    bragging = [outcome(1.0, correct=n % 2 == 0) for n in range(100)]
    assert expected_calibration_error(bragging) == pytest.approx(0.5)


def test_scores() -> None:
    right, wrong = outcome(0.9, correct=True), outcome(0.6, correct=False)
    scores = {
        s.metric: s for s in calibration_scores([right, wrong, right, None], choices="letters")
    }
    assert scores["accuracy"].value == pytest.approx(200 / 3)
    assert scores["answer_entropy_correct"].value == pytest.approx(answer_entropy(logs(0.9, 0.1)))
    assert scores["answer_entropy_wrong"].value == pytest.approx(answer_entropy(logs(0.6, 0.4)))
    assert scores["answer_entropy_wrong"].ci95 is None  # a single question
    assert scores["answer_entropy_wrong"].unscored_reasons == {
        "not answered wrong": 2,
        "no probabilities": 1,
    }
    assert scores["brier"].value == pytest.approx((2 * 0.02 + 0.72) / 3)
    assert scores["ece"].value == pytest.approx((2 * 0.1 + 0.6) / 3)
    assert scores["accuracy"].signature == "choices:letters"
    assert scores["ece"].signature == "choices:letters|bins:15"
    for score in scores.values():
        assert score.n + score.unscored == 4
        assert score.ci95 is None or score.ci95[0] <= score.value <= score.ci95[1] + 1e-12


@pytest.mark.parametrize("boast", [0.0, 0.1, 0.4])
def test_the_debiased_error_is_right_on_average_and_its_interval_holds(boast) -> None:
    """Confidence is uniform and accuracy falls short of it by a share of what is above 0.5."""
    rng = np.random.default_rng(2)
    truth, held, values, printed = boast * 0.25, [], [], []
    for _ in range(60):
        sure = rng.uniform(0.5, 1, size=300)
        right = rng.random(300) < sure - boast * (sure - 0.5)
        outcomes = [outcome(p, correct=bool(c)) for p, c in zip(sure, right, strict=True)]
        found = {s.metric: s for s in calibration_scores(outcomes, choices="letters")}
        low, high = found["ece_debiased"].ci95 or (np.nan, np.nan)
        held.append(low <= truth <= high)
        values.append(found["ece_debiased"].value)
        printed.append(found["ece"].value)
    assert np.mean(held) >= 0.89  # 95 % less two standard errors
    assert np.mean(values) == pytest.approx(truth, abs=0.03)
    assert boast > 0 or np.mean(printed) > 2 * np.mean(values)  # what is printed is mostly noise


def test_all_right_has_no_entropy_of_wrong_ones() -> None:
    scores = calibration_scores([outcome(0.9, correct=True)] * 3, choices="texts")
    assert "answer_entropy_wrong" not in {score.metric for score in scores}


def test_clusters_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    outcomes = [
        outcome(0.9, correct=bool(right)) for right in rng.random(40) < 0.6 for _ in range(5)
    ]
    alone = {s.metric: s for s in calibration_scores(outcomes, choices="texts")}
    groups = [str(n // 5) for n in range(200)]
    clustered = {s.metric: s for s in calibration_scores(outcomes, choices="texts", groups=groups)}
    for metric in ("ece_debiased", "accuracy", "brier"):
        narrow, wide = alone[metric].ci95, clustered[metric].ci95
        assert narrow is not None
        assert wide is not None
        assert wide[1] - wide[0] > 1.5 * (narrow[1] - narrow[0])


def test_nothing_is_not_scored() -> None:
    with pytest.raises(DataError, match="none of 2 items has a value"):
        calibration_scores([None, None], choices="letters")
    with pytest.raises(DataError, match="no questions"):
        expected_calibration_error([])
