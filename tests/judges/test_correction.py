"""Corrected win rates: by hand, and by simulation where the truth is known."""

import random

import pytest

from mipo_eval.errors import DataError
from mipo_eval.judges.correction import Corrected, prediction_powered, rogan_gladen


def draw(
    seed: int, *, n: int, labelled: int, sensitivity: float, specificity: float
) -> tuple[list[float | None], list[float | None]]:
    """Outcomes whose true win rate is 40 %, seen by a judge with these error rates."""
    rng = random.Random(seed)
    judge: list[float | None] = []
    human: list[float | None] = []
    for index in range(n):
        win = rng.random() < 0.4
        right = rng.random() < (sensitivity if win else specificity)
        judge.append(float(win if right else not win))
        human.append(float(win) if index < labelled else None)
    return judge, human


def test_prediction_powered_by_hand() -> None:
    found = prediction_powered([1, 1, 0, 1], [0, 1, None, None])
    # mean of the judge 0.75, mean error of the two labelled ones -0.5
    assert found.value == pytest.approx(25)
    assert (found.n, found.labelled) == (4, 2)


def test_rogan_gladen_by_hand() -> None:
    judge = [1] * 8 + [0] * 2 + [1] * 2 + [0] * 8 + [1] * 10
    human = [1] * 10 + [0] * 10 + [None] * 10
    found = rogan_gladen(judge, human)
    # rate 2/3, sensitivity 0.8, specificity 0.8: (2/3 + 0.8 - 1) / 0.6
    assert found.value == pytest.approx(100 * (2 / 3 - 0.2) / 0.6)


@pytest.mark.parametrize("correct", [prediction_powered, rogan_gladen])
def test_a_perfect_judge_is_left_alone(correct: object) -> None:
    judge, human = draw(0, n=300, labelled=100, sensitivity=1, specificity=1)
    found: Corrected = correct(judge, human)  # type: ignore[operator]
    assert found.value == pytest.approx(100 * sum(x or 0 for x in judge) / 300)


@pytest.mark.parametrize("correct", [prediction_powered, rogan_gladen])
def test_the_interval_holds_the_truth_where_the_uncorrected_rate_does_not(correct: object) -> None:
    held = 0
    uncorrected = 0.0
    for seed in range(400):
        judge, human = draw(seed, n=600, labelled=150, sensitivity=0.9, specificity=0.6)
        found: Corrected = correct(judge, human)  # type: ignore[operator]
        held += found.ci95[0] <= 40 <= found.ci95[1]
        uncorrected += sum(x or 0 for x in judge) / 600 / 400
    assert uncorrected == pytest.approx(0.4 * 0.9 + 0.6 * 0.4, abs=0.01)  # 60 % instead of 40 %
    assert 0.92 <= held / 400 <= 0.99


def test_rates_stay_between_0_and_100() -> None:
    found = prediction_powered([1, 1, 1, 0], [1, 1, None, None])
    assert 0 <= found.ci95[0] <= found.value <= found.ci95[1] <= 100


def test_what_cannot_be_corrected_says_why() -> None:
    with pytest.raises(DataError, match="1 items have the outcome of both"):
        prediction_powered([1, 0], [1, None])
    with pytest.raises(DataError, match="a win and ones they call a loss"):
        rogan_gladen([1, 0, 1], [1, 1, None])
    with pytest.raises(DataError, match="no better than chance"):
        rogan_gladen([0, 1, 0, 1], [1, 1, 0, 0])
    with pytest.raises(DataError, match="human"):
        prediction_powered([1, 0], [1])
