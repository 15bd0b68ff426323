"""Corrected win rates: by hand, and by simulation where the truth is known."""

import random
from collections.abc import Callable

import numpy as np
import pytest
from scipy.special import ndtr, ndtri, stdtrit

from mipo_eval.errors import DataError
from mipo_eval.judges.correction import Corrected, prediction_powered, rogan_gladen
from mipo_eval.stats import mean_intervals

Correct = Callable[..., Corrected]


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
    found = prediction_powered([1, 0, 1, 0, 1, 1], [1, 0, 0, 0, None, None])
    # The slope of people on the judge is 1/2 on the four labelled items; their mean is 1/4, the
    # judge's 1/2 there and 2/3 over all.
    assert found.value == pytest.approx(100 * (1 / 4 + 1 / 2 * (2 / 3 - 1 / 2)))
    assert (found.n, found.labelled) == (6, 4)


def test_a_judge_that_says_one_thing_leaves_what_people_say() -> None:
    assert prediction_powered([1, 1, 1, 1], [0, 1, None, None]).value == 50


def test_power_tuning_is_that_of_ppi_plus_plus() -> None:
    judge, human = draw(3, n=600, labelled=200, sensitivity=0.8, specificity=0.7)
    said, true = np.array(judge, dtype=float), np.array(human[:200], dtype=float)
    here, there = said[:200], said[200:]
    # Angelopoulos, Duchi and Zrnic (2023), example 6.1, whose second sample holds the other items.
    tuned = np.cov(true, here)[0, 1] / (1 + 200 / 400) / here.var(ddof=1)
    value = tuned * there.mean() + (true - tuned * here).mean()
    error = np.sqrt(tuned**2 * there.var() / 400 + (true - tuned * here).var() / 200)
    found = prediction_powered(judge, human)
    assert found.value == pytest.approx(100 * value, abs=0.05)
    width = found.ci95[1] - found.ci95[0]
    assert width == pytest.approx(100 * 2 * 1.96 * error, rel=0.02)
    alone = np.sqrt(true.var(ddof=1) / 200)
    assert width < 100 * 2 * 1.96 * alone


@pytest.mark.parametrize(
    ("people", "judge", "others", "value", "ends"),
    [
        (
            [1, 0, 1, 1, 0, 1, 0, 1, 1, 0],
            [1, 0, 1, 0, 0, 1, 1, 1, 1, 0],
            [int(said) for said in "110101101011001110101101101011"],
            61.456,
            (35.28805811922472, 87.62394188077528),
        ),
        (
            [1, 0.5, 0, 1, 1, 0, 0.5, 1],
            [1, 0.5, 0.5, 1, 0, 0, 0.5, 1],
            [1, 0, 0.5, 1, 1, 0.5, 0, 1, 0, 0, 1, 0.5, 1, 1, 0.5, 0],
            62.5,
            (36.394620193788013, 88.605379806211990),
        ),
        (  # a judge that people contradict is worth nothing
            [1, 0, 1, 0, 1, 0, 0, 1, 1, 0, 1, 0],
            [0, 1, 0, 0, 1, 1, 1, 0, 0, 1, 0, 1],
            [1, 0, 1, 1, 0, 0, 1, 0, 1, 1, 1, 0, 0, 1],
            50.0,
            (21.710356648095702, 78.289643351904300),
        ),
    ],
)
def test_equals_ppi_py(people, judge, others, value, ends) -> None:
    """Against ppi-python 0.2.3, in percent.

    `ppi_mean_pointestimate(Y, Yhat, Yhat_unlabeled)` and `ppi_mean_ci(Y, Yhat, Yhat_unlabeled,
    alpha=0.05)`, of float arrays. It divides by the judge's variance over all items where ours is
    that of the labelled ones, which is why a judge that is always right leaves no error here; and
    it takes a normal's quantile and n where ours takes Student's and n - 1.
    """
    found = prediction_powered(judge + others, people + [None] * len(others))
    assert found.value == pytest.approx(value, abs=0.005)
    n = len(people)
    wider = stdtrit(n - 1, 0.975) / ndtri(0.975) * np.sqrt(n / (n - 1))
    width = found.ci95[1] - found.ci95[0]
    assert width == pytest.approx((ends[1] - ends[0]) * wider, rel=1e-3)


def test_labels_for_all_items_leave_what_people_say() -> None:
    judge, human = draw(4, n=150, labelled=150, sensitivity=0.8, specificity=0.7)
    found = prediction_powered(judge, human)
    values = 100 * np.array(human, dtype=float)
    assert found.value == pytest.approx(values.mean())
    assert found.ci95 == pytest.approx(mean_intervals(values)[0])


@pytest.mark.parametrize("correct", [prediction_powered, rogan_gladen])
def test_intervals_keep_the_items_of_a_prompt_together(correct: Correct) -> None:
    held = forgotten = 0
    groups = [index // 10 for index in range(400)]
    for seed in range(300):
        rng = np.random.default_rng(seed)
        easy = rng.normal(size=40).repeat(10)
        win = rng.random(400) < ndtr(easy)
        said = np.where(rng.random(400) < 0.8, win, ~win).astype(float).tolist()
        human = [float(w) if index < 200 else None for index, w in enumerate(win)]
        low, high = correct(said, human, groups).ci95
        held += low <= 50 <= high
        low, high = correct(said, human).ci95
        forgotten += low <= 50 <= high
    assert held / 300 >= 0.92
    assert forgotten / 300 < 0.9


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
    with pytest.raises(DataError, match="1 items have both"):
        prediction_powered([1, 0], [1, None])
    with pytest.raises(DataError, match="a win and items that they call a loss"):
        rogan_gladen([1, 0, 1], [1, 1, None])
    with pytest.raises(DataError, match="not better than chance"):
        rogan_gladen([0, 1, 0, 1], [1, 1, 0, 0])
    with pytest.raises(DataError, match="of one prompt group"):
        prediction_powered([1, 0, 1], [1, 0, None], ["g", "g", "h"])
    with pytest.raises(DataError, match="human"):
        prediction_powered([1, 0], [1])
