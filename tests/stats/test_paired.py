"""Paired comparisons: counts, what is missing, families, tests and corrections."""

import numpy as np
import pytest
from scipy import stats

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.stats import paired as module
from mipo_eval.stats.bootstrap import cluster, standard_error
from mipo_eval.stats.paired import (
    adjust,
    compare,
    compare_all,
    effect_sizes,
    permutation_test,
    sign_test,
    t_test,
    told_apart,
)
from mipo_eval.stats.power import detectable_from_error
from tests.stats.columns import mean_interval

NAN = float("nan")


def runs(seed: int = 0, items: int = 120, count: int = 4):
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(items, 1))
    return shared + rng.normal(size=(items, count)) + np.arange(count) * 0.3


def test_what_is_missing_is_reported() -> None:
    found = compare([1, 2, 3, NAN, NAN, 5], [1, 1, NAN, 4, NAN, 7], names=("new", "old"))
    assert (found.first, found.second) == ("new", "old")
    assert (found.n, found.only_first, found.only_second) == (3, 1, 1)
    assert (found.wins, found.losses, found.ties) == (1, 1, 1)
    assert found.difference == pytest.approx(-1 / 3)
    assert found.p_adjusted is None


def test_parts_agree_with_their_own_functions() -> None:
    table, groups = runs(), np.repeat(np.arange(40), 3).tolist()
    found = compare(table[:, 1], table[:, 0], groups)
    differences = table[:, 1] - table[:, 0]
    assert found.ci95 == pytest.approx(mean_interval(differences, groups))
    clusters = cluster(differences, groups)
    assert found.p_permutation == pytest.approx(permutation_test(clusters)[0])
    error = standard_error(differences, groups)
    assert found.detectable == pytest.approx(detectable_from_error(error or 0.0))
    assert found.effect_size == pytest.approx(differences.mean() / differences.std(ddof=1))
    assert found.below_resolution == (abs(found.difference) < found.detectable)  # type: ignore[operator]


def test_swapping_the_sides_mirrors_everything() -> None:
    table = runs(1)
    forward, backward = compare(table[:, 0], table[:, 3]), compare(table[:, 3], table[:, 0])
    assert forward.difference == pytest.approx(-backward.difference)
    assert forward.ci95 == pytest.approx(tuple(-edge for edge in backward.ci95[::-1]))  # type: ignore[index]
    assert (forward.wins, forward.losses) == (backward.losses, backward.wins)
    assert forward.p_sign == backward.p_sign
    assert forward.p_permutation == backward.p_permutation


def test_all_pairs_are_corrected_together() -> None:
    found = compare_all(runs(2), list("abcd"))
    assert [(c.first, c.second) for c in found] == [
        ("a", "b"), ("a", "c"), ("a", "d"), ("b", "c"), ("b", "d"), ("c", "d"),
    ]  # fmt: skip
    p_values = [c.p_permutation for c in found]
    assert [c.p_adjusted for c in found] == adjust(p_values).tolist()  # type: ignore[arg-type]
    strongest = found[2]
    assert strongest.significant()
    assert not strongest.below_resolution


def test_baseline_compares_every_other_run_with_it() -> None:
    found = compare_all(runs(3), list("abcd"), baseline="b")
    assert [(c.first, c.second) for c in found] == [("a", "b"), ("c", "b"), ("d", "b")]


def test_chunks_change_nothing(monkeypatch) -> None:
    table = runs(4)
    table[np.random.default_rng(0).random(table.shape) < 0.1] = NAN
    whole = compare_all(table, list("abcd"))
    monkeypatch.setattr(module, "_CHUNK_PAIRS", 2)
    for one, other in zip(whole, compare_all(table, list("abcd")), strict=True):
        assert one.ci95 == pytest.approx(other.ci95)
        assert (one.n, one.p_adjusted) == (other.n, pytest.approx(other.p_adjusted))


def test_one_group_in_common_has_a_difference_but_no_interval() -> None:
    found = compare([1, 2, NAN], [2, 4, 1], ["g", "g", "h"])
    assert found.difference == -1.5
    assert (found.ci95, found.p_permutation, found.detectable) == (None, None, None)
    assert not found.significant()
    assert not found.below_resolution


def test_identical_runs_do_not_differ() -> None:
    found = compare([1, 2, 3], [1, 2, 3])
    assert (found.difference, found.ci95, found.p_sign, found.p_permutation) == (0, (0, 0), 1, 1)
    assert found.effect_size is None


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: compare([1, NAN], [NAN, 1], names=("a", "b")), DataError, "a and b have no item"),
        (lambda: compare_all([[1, 2]], ["a"]), DataError, "1 runs are named"),
        (lambda: compare_all([[1, 2]], ["a", "a"]), ConfigError, "runs named twice: a"),
        (lambda: compare_all([[1, 2]], ["a", "b"], baseline="c"), ConfigError, "'c' is not among"),
        (lambda: compare_all([[1, np.inf]], ["a", "b"]), DataError, "infinite"),
    ],
)
def test_errors(call, error, message) -> None:
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize("method", ["holm", "bh"])
def test_runs_told_apart_are_those_of_the_comparisons(method) -> None:
    table, names = runs(count=5), list("abcde")
    table[:9, 2] = NAN
    found = compare_all(table, names, method=method, seed=2)
    apart = {frozenset((pair.first, pair.second)) for pair in found if pair.significant()}
    assert 0 < len(apart) < len(found)
    assert told_apart(table, names, method=method, seed=2) == apart
    with pytest.raises(DataError, match="a and c have no item in common"):
        told_apart([[1.0, 1.0, NAN], [NAN, 1.0, 1.0]], list("abc"))


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


def test_effect_sizes() -> None:
    nan = float("nan")
    table = np.array([[1.0, 2.0, 0.1, 3.0], [3.0, 2.0, nan, 5.0], [nan, 2.0, nan, 10.0]])
    sizes = effect_sizes(table)
    assert sizes[0] == pytest.approx(2 / np.sqrt(2))
    assert np.isnan(sizes[1:3]).all()  # no spread, and a single item
    assert sizes[3] == pytest.approx(6 / np.std([3, 5, 10], ddof=1))
