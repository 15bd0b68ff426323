"""Paired tests and corrections: against scipy and statsmodels, exact cases, uniform p-values."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from mipo_eval.stats.bootstrap import cluster
from mipo_eval.stats.significance import (
    adjust,
    effect_sizes,
    permutation_test,
    sign_test,
    t_test,
)


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


def test_sign_test_is_exact_mcnemar_and_binomial() -> None:
    wins, losses = np.random.default_rng(0).integers(60, size=(2, 30))
    ours = sign_test(wins, losses)
    for win, loss, p in zip(wins.tolist(), losses.tolist(), ours, strict=True):
        assert p == pytest.approx(mcnemar([[7, win], [loss, 9]], exact=True).pvalue, rel=1e-9)
        if win + loss:
            assert p == pytest.approx(stats.binomtest(win, win + loss).pvalue, rel=1e-9)


def test_permutation_is_exact_for_few_clusters() -> None:
    differences = np.array([0.5, 1.0, -0.25, 2.0, 1.5])
    theirs = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert permutation_test(cluster(differences))[0] == pytest.approx(theirs)
    assert permutation_test(cluster(np.ones(5)))[0] == pytest.approx(2 / 32)


def test_permutation_of_many_clusters_agrees_with_scipy() -> None:
    differences = np.random.default_rng(3).normal(0.2, 1, size=60)
    theirs = stats.permutation_test(
        (differences,),
        np.mean,
        permutation_type="samples",
        n_resamples=20_000,
        rng=np.random.default_rng(1),
    ).pvalue
    ours = permutation_test(cluster(differences), permutations=20_000)[0]
    assert ours == pytest.approx(theirs, abs=0.01)


def test_permutation_flips_whole_clusters() -> None:
    groups = np.repeat(np.arange(8), 10)
    values = np.repeat(np.random.default_rng(1).normal(1, 1, size=8), 10)
    alone = permutation_test(cluster(values))[0]
    together = permutation_test(cluster(values, groups.tolist()))[0]
    assert together == permutation_test(cluster(values[::10]))[0]
    assert alone < together / 5


def test_permutation_is_fair_when_nothing_differs() -> None:
    differences = np.random.default_rng(4).standard_t(4, size=(40, 2000))
    p_values = permutation_test(cluster(differences), permutations=999)
    assert stats.kstest(p_values, "uniform").pvalue > 0.01
    assert (p_values <= 0.05).mean() == pytest.approx(0.05, abs=0.015)


def test_small_p_values_do_not_end_at_the_resolution_of_the_draw() -> None:
    strong = np.random.default_rng(5).normal(1, 1, size=(200, 1))
    ours = permutation_test(cluster(strong), permutations=999)[0]
    assert ours == pytest.approx(stats.ttest_1samp(strong[:, 0], 0).pvalue, rel=1e-9)


def test_t_test_is_students() -> None:
    table = np.random.default_rng(6).normal(0.3, 1, size=(25, 4))
    assert t_test(cluster(table)) == pytest.approx(stats.ttest_1samp(table, 0).pvalue)
    assert t_test(cluster([[0.0, 1.0], [0.0, 1.0]])).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(("method", "name"), [("holm", "holm"), ("bh", "fdr_bh")])
def test_adjusted_p_values(method, name) -> None:
    p_values = [0.01, 0.04, 0.03, 0.005]
    by_hand = {"holm": [0.03, 0.06, 0.06, 0.02], "bh": [0.02, 0.04, 0.04, 0.02]}[method]
    assert adjust(p_values, method).tolist() == pytest.approx(by_hand)
    assert adjust(p_values, method).tolist() == multipletests(p_values, method=name)[1].tolist()
    assert adjust([], method).size == 0


def test_effect_sizes() -> None:
    nan = float("nan")
    table = np.array([[1.0, 2.0, 0.1, 3.0], [3.0, 2.0, nan, 5.0], [nan, 2.0, nan, 10.0]])
    sizes = effect_sizes(table)
    assert sizes[0] == pytest.approx(2 / np.sqrt(2))
    assert np.isnan(sizes[1:3]).all()  # no spread, and a single item
    assert sizes[3] == pytest.approx(6 / np.std([3, 5, 10], ddof=1))
