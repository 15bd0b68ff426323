"""A judge's noise: by hand, at its ends, and whether its intervals hold."""

import numpy as np
import pytest

from mipo_eval.stats.intervals import rate_intervals
from mipo_eval.stats.noise import judge_noise

NAN = float("nan")


def test_by_hand() -> None:
    """Four of eight items asked again: once twice 100, once 0 and 100, once without an answer."""
    values = np.array([100.0, 0, 100, 100, 0, 0, 100, 0])
    answers = np.array([[100, 100, 100], [0, 100, 100], [100, NAN, 100], [100, NAN, NAN]])
    found = judge_noise(answers, None, values, None)
    assert found is not None
    assert found.items == 3
    noise = (0 + 10_000 / 3 + 0) / 3
    assert found.sd == pytest.approx(noise**0.5)
    assert found.error == pytest.approx((noise / 8) ** 0.5)
    variance = values.var(ddof=1)
    assert found.share == pytest.approx(100 * noise / variance)
    low, high = found.share_ci95 or (0, 0)
    assert 0 < low < found.share < high <= 100


def test_a_judge_that_never_changes_its_mind_is_not_known_to_be_without_noise() -> None:
    values = np.tile([100.0, 0.0], 50)
    found = judge_noise(np.repeat(values[:20, None], 3, axis=1), None, values, None)
    assert found is not None
    assert (found.sd, found.share) == (0, 0)
    assert found.share_ci95 is not None
    assert found.share_ci95[0] == 0
    # The exact upper end of 20 items alike is 16.8 %, of at most a third of 100 squared.
    assert found.sd_ci95 == (0, pytest.approx((0.16843 * 1e4 / 3) ** 0.5, rel=1e-3))


def test_where_nothing_can_be_told() -> None:
    once = np.array([[100.0, NAN], [NAN, 0.0]])
    assert judge_noise(once, None, np.array([100.0, 0.0]), None) is None
    alike = judge_noise(np.full((2, 2), 100.0), None, np.full(4, 100.0), None)
    assert alike is not None
    assert (alike.sd, alike.share, alike.share_ci95) == (0, None, None)
    of_one = judge_noise(np.array([[0.0, 100.0]]), ["p"], np.array([0.0, 100]), ["p"] * 2)
    assert of_one is not None
    assert (of_one.sd_ci95, of_one.share) == (None, None)


@pytest.mark.parametrize(("firm", "repeats"), [(0.5, 1), (2.0, 3)])
def test_the_intervals_hold_the_truth(firm: float, repeats: int) -> None:
    """200 draws of 60 prompts x 4 of which 60 items are asked again; truths by 400,000 items."""
    from scipy.special import ndtr

    def chances(rng: np.random.Generator, prompts: int) -> np.ndarray:
        return ndtr(firm * 0.7 * (rng.normal(size=(prompts, 1)) + rng.normal(size=(prompts, 4))))

    many = chances(np.random.default_rng(0), 100_000)
    noise = 1e4 * float((many * (1 - many)).mean())
    items, prompts = many.var(), (16 * many.mean(axis=1).var() - 4 * many.var(axis=0).mean()) / 12
    truth = 100 * noise / (noise + 1e4 * (items + 3 * prompts))
    held = np.zeros(2)
    for draw in range(200):
        rng = np.random.default_rng((draw, repeats))
        own = chances(rng, 60).ravel()
        answers = 100.0 * (rng.random((240, repeats + 1)) < own[:, None])
        labels, asked = np.repeat(np.arange(60), 4), rng.permutation(240)[:60]
        found = judge_noise(answers[asked], labels[asked].tolist(), answers[:, 0], labels.tolist())
        assert found is not None
        ends = (found.share_ci95 or (0, 0), found.sd_ci95 or (0, 0))
        truths = (truth, noise**0.5)
        held += [low <= true <= high for true, (low, high) in zip(truths, ends, strict=True)]
    assert held.min() >= 180  # 95 % less three standard errors


def test_of_two_answers_it_is_how_often_they_differ() -> None:
    """Wins and losses asked twice vary by 1/2 where they differ, and by 0 elsewhere."""
    answers = np.array([[0.0, 1.0]] * 5 + [[1.0, 1.0]] * 20 + [[0.0, 0.0]] * 15)
    found = judge_noise(answers, None, answers[:, 0], None)
    assert found is not None
    differ = rate_intervals(np.repeat([100.0, 0.0], [5, 35])[:, None])[0]
    assert differ is not None
    assert found.sd == pytest.approx(np.sqrt(0.5 * 5 / 40))
    assert found.sd_ci95 == pytest.approx([np.sqrt(0.5 * end / 100) for end in differ])
