"""Tests of paired differences and corrections: by hand, against scipy and statsmodels."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats

from mipo_eval.stats.bootstrap import cluster
from mipo_eval.stats.significance import adjust, permutation_test, sign_test, step_down


@pytest.mark.parametrize(
    ("wins", "losses", "p"),
    [
        (0, 0, 1.0),
        (1, 0, 1.0),
        (5, 0, 2 / 32),
        (0, 5, 2 / 32),
        (4, 4, 1.0),
        (8, 2, 2 * (1 + 10 + 45) / 1024),
    ],
)
def test_sign_test_by_hand(wins, losses, p) -> None:
    assert sign_test([wins], [losses])[0] == pytest.approx(p, abs=1e-15)


def test_sign_test_is_the_exact_binomial() -> None:
    wins, losses = np.random.default_rng(0).integers(60, size=(2, 30))
    ours = sign_test(wins, losses)
    for win, loss, p in zip(wins.tolist(), losses.tolist(), ours, strict=True):
        if win + loss:
            assert p == pytest.approx(stats.binomtest(win, win + loss).pvalue, rel=1e-9)


def test_permutation_is_exact_for_few_clusters() -> None:
    differences = np.array([0.5, 1.0, -0.25, 2.0, 1.5])
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert permutation_test(differences[:, None])[0] == pytest.approx(theirs)
    assert permutation_test(np.ones((5, 1)))[0] == pytest.approx(2 / 32)


def test_permutation_of_many_clusters_agrees_with_scipy() -> None:
    differences = np.random.default_rng(3).normal(0.2, 1, size=60)
    theirs = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).pvalue
    ours = permutation_test(differences[:, None], permutations=20_000)[0]
    assert ours == pytest.approx(theirs, abs=0.01)


def test_permutation_flips_whole_clusters() -> None:
    groups = np.repeat(np.arange(8), 10)
    values = np.repeat(np.random.default_rng(1).normal(1, 1, size=8), 10)
    alone = permutation_test(values[:, None])[0]
    together = permutation_test(cluster(values, groups.tolist()).sums)[0]
    assert together == permutation_test(values[::10, None])[0]
    assert alone < together / 5


def test_permutation_is_fair_when_nothing_differs() -> None:
    differences = np.random.default_rng(4).standard_t(4, size=(40, 2000))
    p_values = permutation_test(differences, permutations=999)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert (p_values <= 0.05).mean() == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize(("clusters", "p"), [(1, 1), (2, 1 / 2), (5, 2 / 32), (6, 2 / 64)])
def test_the_smallest_p_of_few_clusters_is_that_of_unanimity(clusters, p) -> None:
    assert permutation_test(np.ones((clusters, 1)))[0] == pytest.approx(p)


@pytest.mark.parametrize(("wins", "losses"), [(8, 2), (7, 0), (10, 3), (6, 6)])
def test_what_is_just_as_extreme_counts_half(wins, losses) -> None:
    """The mid-p sign test; statsmodels' `binom_test_midp` is another implementation."""
    n = wins + losses
    found = permutation_test(np.array([[1.0]] * wins + [[-1.0]] * losses))[0]
    at, above = (
        stats.binom.pmf(max(wins, losses), n, 0.5),
        stats.binom.sf(max(wins, losses), n, 0.5),
    )
    expected = 2 * above + at if wins != losses else 1 - at / 2
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("n", [8, 20, 100])
def test_wins_and_losses_of_equals_are_told_apart_in_5_of_100(n) -> None:
    differences = np.random.default_rng(n).choice([-1.0, 0.0, 1.0], size=(n, 4000))
    found = permutation_test(differences, permutations=999) < 0.05
    assert 0.01 < found.mean() < 0.058


@pytest.mark.parametrize("clusters", [14, 30, 5000])
def test_no_p_is_ever_0(clusters) -> None:
    assert permutation_test(np.ones((clusters, 1)))[0] >= 1 / 10_001
    assert permutation_test(np.ones((clusters, 1)))[0] < 0.001
    assert sign_test([clusters], [0])[0] > 0


def test_a_column_knows_neither_the_others_nor_the_order() -> None:
    rng = np.random.default_rng(2)
    sums = rng.normal(0.15, 1, size=(80, 3))
    sums[:30, 1] = 0.0
    together = permutation_test(sums)
    for column in range(3):
        alone = sums[rng.permutation(80), column]
        assert permutation_test(alone[alone != 0, None])[0] == together[column]


def test_many_small_sums_are_normal() -> None:
    sums = np.random.default_rng(3).normal(0.02, 1, size=(9000, 1))
    by_t = stats.ttest_1samp(sums[:, 0], 0).pvalue
    assert permutation_test(sums)[0] == pytest.approx(by_t, abs=0.015)


def test_a_scale_takes_from_what_was_seen() -> None:
    sums = np.random.default_rng(4).normal(0.3, 1, size=(60, 1))
    full, half = permutation_test(sums)[0], permutation_test(sums, scale=np.array([0.5]))[0]
    assert half > 2 * full
    assert permutation_test(sums, scale=np.array([1.0]))[0] == full


P_VALUES = [0.4199, 0.4261, 0.0705, 0.0, 0.0, 0.0216, 0.0278, 0.0, 0.9967, 0.1811, 0.003]
BY_STATSMODELS = {
    "holm": [1.0, 1.0, 0.3525, 0.0, 0.0, 0.1512, 0.1668, 0.0, 1.0, 0.7244, 0.024],
    "bh": [
        0.46871,
        0.46871,
        0.11078571428571428,
        0.0,
        0.0,
        0.04752000000000001,
        0.05096666666666667,
        0.0,
        0.9967,
        0.2490125,
        0.00825,
    ],
}
"""What multipletests of statsmodels 0.15.0 makes of them."""


@pytest.mark.parametrize("method", ["holm", "bh"])
def test_adjusted_p_values(method) -> None:
    p_values = [0.01, 0.04, 0.03, 0.005]
    by_hand = {"holm": [0.03, 0.06, 0.06, 0.02], "bh": [0.02, 0.04, 0.04, 0.02]}[method]
    assert adjust(p_values, method).tolist() == pytest.approx(by_hand)
    assert adjust(P_VALUES, method).tolist() == BY_STATSMODELS[method]
    assert adjust([], method).size == 0


def test_benjamini_hochberg_is_scipys() -> None:
    p_values = np.random.default_rng(8).random(200) ** 3
    theirs = stats.false_discovery_control(p_values)
    assert adjust(p_values, "bh") == pytest.approx(theirs, rel=1e-12)


def pairs_of(runs: int):
    return np.array(list(combinations(range(runs), 2)))


def test_step_down_of_strangers_is_sidaks() -> None:
    """Independent differences: the chance of none is a power of each one's chance."""
    together = np.eye(6)
    pairs = np.array([[0, 1], [2, 3], [4, 5]])
    found = step_down([0.01, 0.03, 0.5], together, pairs)
    wanted = [1 - 0.99**3, 1 - 0.97**2, 0.5]
    assert found == pytest.approx(wanted, abs=0.015)


def test_step_down_of_one_and_the_same_difference_corrects_nothing() -> None:
    together = np.array([[1.0, 0.0, 0.0], [0.0, 1e-12, 0.0], [0.0, 0.0, 1e-12]])
    found = step_down([0.02, 0.02], together, np.array([[0, 1], [0, 2]]))
    assert found == pytest.approx([0.02, 0.02], abs=0.005)


def test_step_down_is_between_the_p_values_and_holms() -> None:
    together, pairs = np.eye(8) + 0.5, pairs_of(8)
    alone = np.random.default_rng(5).random(len(pairs)) ** 4
    found = step_down(alone, together, pairs)
    assert (found >= alone - 0.01).all()
    assert (found <= adjust(alone, "holm") + 0.01).all()
    assert found.sum() < 0.95 * adjust(alone, "holm").sum()
    order = np.argsort(alone)
    assert (np.diff(found[order]) >= 0).all()
    assert step_down(np.zeros(len(pairs)), together, pairs).min() == 1 / 10_001


def test_step_down_keeps_the_error_of_the_whole_family() -> None:
    rng, wrong = np.random.default_rng(6), {"holm": 0, "max-t": 0}
    pairs, n = pairs_of(6), 40
    for _ in range(300):
        table = rng.normal(size=(n, 1)) + rng.normal(size=(n, 6))
        differences = table[:, pairs[:, 0]] - table[:, pairs[:, 1]]
        alone = stats.ttest_1samp(differences, 0).pvalue
        wrong["holm"] += adjust(alone, "holm").min() < 0.05
        wrong["max-t"] += step_down(alone, np.cov(table.T) / n, pairs).min() < 0.05
    assert wrong["holm"] <= wrong["max-t"] <= 0.08 * 300  # 5 % and two standard errors


def test_sums_that_differ_only_by_rounding_are_equal() -> None:
    """0.1 + 0.2 + 0.3 and 0.3 + 0.2 + 0.1 are two numbers to a machine."""
    assert permutation_test(np.array([[0.1], [0.2], [0.3]])).tolist() == [2 / 8]


def test_what_no_draw_reaches_is_one_of_one_more() -> None:
    """The signs that were seen are one pattern, too."""
    assert permutation_test(np.ones((60, 1)), permutations=999).tolist() == [1 / 1000]


def test_thousands_of_groups_are_all_counted() -> None:
    """The smaller ones are taken for normal; the sum of 6,000 signs has an error of 77.5."""
    signs = np.repeat([1.0, -1.0], [3078, 2922])[:, None]
    (p,) = permutation_test(signs)
    assert p == pytest.approx(2 * stats.norm.sf(156 / np.sqrt(6000)), abs=0.01)
