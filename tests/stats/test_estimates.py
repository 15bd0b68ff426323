"""Means and their errors: against textbooks, matrices, scipy, and small simulations."""

import math

import numpy as np
import pytest
from scipy import stats

from mipo_eval.errors import DataError
from mipo_eval.stats.bootstrap import Crossed, Dependence
from mipo_eval.stats.estimates import (
    covariance,
    design_effect,
    estimates,
    jackknifed,
    mean_covariance,
    normals,
    standard_error,
)
from tests.stats.columns import mean_interval

NAN = float("nan")


def clustered(seed: int = 1, clusters: int = 12, items: int = 80):
    rng = np.random.default_rng(seed)
    groups = rng.integers(clusters, size=items)
    return rng.normal(size=clusters)[groups] + rng.normal(size=items), groups


def test_independent_items_have_the_textbook_error_and_interval() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert standard_error(values) == pytest.approx(values.std(ddof=1) / math.sqrt(50), abs=1e-15)
    assert standard_error([*values, NAN]) == standard_error(values)
    theirs = stats.ttest_1samp(values, 0)
    interval = theirs.confidence_interval()
    assert mean_interval(values) == pytest.approx((interval.low, interval.high))
    assert estimates(values).p_values()[0] == pytest.approx(theirs.pvalue)


def test_equal_clusters_have_the_t_interval_of_their_means() -> None:
    values = np.random.default_rng(2).normal(size=(7, 4))
    interval = stats.ttest_1samp(values.mean(axis=1), 0).confidence_interval()
    groups = np.repeat(np.arange(7), 4).tolist()
    assert mean_interval(values.ravel(), groups) == pytest.approx((interval.low, interval.high))


def test_unequal_clusters_have_the_error_of_bell_and_mccaffrey() -> None:
    values, groups = clustered()
    n, members = len(values), [np.flatnonzero(groups == g) for g in range(12)]
    # Bell and McCaffrey (2002) with matrices: residuals times (I - H_gg)^(-1/2), and the degrees
    # of freedom of the quadratic form G'G that they are.
    hat, residuals = np.full((n, n), 1 / n), values - values.mean()
    maker = np.eye(n) - hat
    error, columns = 0.0, []
    for own in members:
        vals, vectors = np.linalg.eigh(np.eye(len(own)) - hat[np.ix_(own, own)])
        adjust = (vectors / np.sqrt(vals)) @ vectors.T
        error += (np.ones(len(own)) @ adjust @ residuals[own] / n) ** 2
        columns.append(maker[:, own] @ adjust @ np.full(len(own), 1 / n))
    form = np.stack(columns, axis=1)
    eigen = np.linalg.eigvalsh(form.T @ form)
    found = estimates(values, groups.tolist())
    assert found.errors[0] == pytest.approx(math.sqrt(error))
    assert found.degrees[0] == pytest.approx(eigen.sum() ** 2 / (eigen**2).sum())


@pytest.mark.parametrize(
    ("values", "groups"), [([1.0], None), ([1.0, NAN], None), ([1.0, 2.0], ["a", "a"]), ([], None)]
)
def test_one_cluster_has_no_error_and_no_interval(values, groups) -> None:
    assert standard_error(values, groups) is None
    assert mean_interval(values, groups) is None


def test_an_infinite_value_is_refused() -> None:
    with pytest.raises(DataError, match="infinite"):
        estimates([1.0, math.inf])


def test_a_constant_has_no_interval() -> None:
    assert mean_interval([0.1] * 5) is None  # nothing says how much items differ
    assert estimates([0.1] * 5).errors.tolist() == [0.0]


def test_columns_do_not_know_of_each_other_or_of_the_order() -> None:
    rng = np.random.default_rng(3)
    table = rng.normal(size=(60, 3))
    table[:7, 1] = NAN
    labels = [Crossed(int(p), int(u)) for p, u in rng.integers(9, size=(60, 2))]
    together = estimates(table, labels)
    order = rng.permutation(60)
    for column in range(3):
        alone = estimates(table[order, column], [labels[i] for i in order])
        assert alone.means[0] == pytest.approx(together.means[column], rel=1e-12)
        assert alone.errors[0] == pytest.approx(together.errors[column], rel=1e-12)
        assert alone.degrees[0] == pytest.approx(together.degrees[column], rel=1e-12)


@pytest.mark.parametrize(("copies", "effect"), [(1, 1.0), (4, 4.0)])
def test_design_effect_of_copies(copies, effect) -> None:
    values = np.repeat(np.random.default_rng(3).normal(size=400), copies)
    groups = np.repeat(np.arange(400), copies).tolist()
    assert design_effect(values, groups) == pytest.approx(effect, rel=0.01)


def test_design_effect_is_undefined_without_spread_or_groups() -> None:
    assert design_effect([1.0, 1.0, 1.0], None) is None
    assert design_effect([1.0, 2.0], ["a", "a"]) is None


def test_where_prompts_and_users_cross_both_count_and_pairs_count_once() -> None:
    rng = np.random.default_rng(4)
    prompts, users = rng.integers(40, size=(2, 800)).tolist()
    values = rng.normal(size=40)[prompts] + rng.normal(size=40)[users] + rng.normal(size=800)
    labels = [Crossed(p, u) for p, u in zip(prompts, users, strict=True)]
    both = standard_error(values, labels)
    one, two = standard_error(values, prompts), standard_error(values, users)
    pairs = standard_error(values, list(zip(prompts, users, strict=True)))
    assert both is not None
    assert both**2 == pytest.approx(one**2 + two**2 - pairs**2)  # type: ignore[operator]


def test_a_mean_is_never_surer_for_a_second_kind() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        prompts, users = rng.integers(4, size=(2, 30)).tolist()
        values = rng.normal(size=30)
        labels = [Crossed(p, u) for p, u in zip(prompts, users, strict=True)]
        both = standard_error(values, labels)
        assert both is not None
        assert both >= max(standard_error(values, prompts), standard_error(values, users)) - 1e-12  # type: ignore[type-var]


@pytest.mark.parametrize("crossing", [False, True])
def test_covariance_has_the_variances_and_is_one(crossing) -> None:
    rng = np.random.default_rng(6)
    table, prompts = rng.normal(size=(90, 5)), np.repeat(np.arange(30), 3)
    users = np.tile(np.arange(6), 15)
    labels = (
        [Crossed(int(p), int(u)) for p, u in zip(prompts, users, strict=True)]
        if crossing
        else prompts.tolist()
    )
    found = mean_covariance(table, labels)
    wanted = estimates(table, labels).errors
    assert np.sqrt(np.diag(found)) == pytest.approx(wanted, rel=1e-9 if not crossing else 0.05)
    assert np.linalg.eigvalsh(found).min() > -1e-12


def test_covariance_of_a_sum_is_that_of_the_sum() -> None:
    rng = np.random.default_rng(7)
    scores = rng.normal(size=(40, 2))
    scores -= scores.mean(axis=0)
    kinds = Dependence.of(np.repeat(np.arange(10), 4).tolist(), 40).kinds()
    both = covariance(scores, kinds)
    total = covariance(scores.sum(axis=1, keepdims=True), kinds)
    assert both.sum() == pytest.approx(total[0, 0])


def test_normals_have_their_covariance_even_where_it_is_singular() -> None:
    matrix = np.array([[4.0, 4.0, 0.0], [4.0, 4.0, 0.0], [0.0, 0.0, 1.0]])
    drawn = normals(matrix, 20_000, seed=0)
    assert np.cov(drawn.T) == pytest.approx(matrix, abs=0.1)
    assert drawn[:, 0] == pytest.approx(drawn[:, 1], abs=1e-3)
    assert (normals(np.zeros((2, 2)), 5, seed=0) == normals(np.zeros((2, 2)), 5, seed=0)).all()


@pytest.mark.parametrize("clusters", [2, 3, 5, 40])
def test_coverage_from_two_clusters_up(clusters) -> None:
    rng = np.random.default_rng(8)
    # A column is an experiment: 2,000 of them, of clusters of three items.
    level = rng.normal(size=(clusters, 2000))
    table = np.repeat(level, 3, axis=0) + rng.normal(size=(3 * clusters, 2000))
    intervals = estimates(table, np.repeat(np.arange(clusters), 3).tolist()).intervals()
    inside = np.mean([low <= 0 <= high for low, high in intervals])  # type: ignore[misc]
    assert 0.935 <= inside <= 0.965


@pytest.mark.parametrize(("prompts", "users"), [(20, 20), (60, 6)])
def test_coverage_where_prompts_and_users_cross(prompts, users) -> None:
    rng = np.random.default_rng(9)
    of, by = rng.integers(prompts, size=240), rng.integers(users, size=240)
    table = rng.normal(size=(prompts, 1500))[of] * 0.5 + rng.normal(size=(users, 1500))[by] * 0.5
    table += rng.normal(size=table.shape)
    labels = [Crossed(p, u) for p, u in zip(of.tolist(), by.tolist(), strict=True)]
    intervals = estimates(table, labels).intervals()
    inside = np.mean([low <= 0 <= high for low, high in intervals])  # type: ignore[misc]
    assert 0.93 <= inside <= 0.97
    by_prompt = estimates(table, of.tolist()).intervals()
    assert np.mean([low <= 0 <= high for low, high in by_prompt]) < 0.9  # type: ignore[misc]


@pytest.mark.parametrize("kind", ["lone", "prompts", "crossed"])
def test_the_jackknife_of_a_mean_is_its_clustered_error(kind) -> None:
    rng = np.random.default_rng(5)
    values, of, by = rng.normal(size=60), rng.integers(9, size=60), rng.integers(12, size=60)
    labels = {
        "lone": None,
        "prompts": of.tolist(),
        "crossed": [Crossed(p, u) for p, u in zip(of.tolist(), by.tolist(), strict=True)],
    }[kind]
    kinds = Dependence.of(labels, 60).kinds()
    without = [
        np.array([values[ids != group].mean() for group in range(ids.max() + 1)]) for ids in kinds
    ]
    found, mean = jackknifed(float(values.mean()), kinds, without), estimates(values, labels)
    for ours, theirs in zip(
        (found.means, found.errors, found.degrees, found.items),
        (mean.means, mean.errors, mean.degrees, mean.items),
        strict=True,
    ):
        assert ours == pytest.approx(theirs)


def test_what_leaves_nothing_is_about_the_other_kind() -> None:
    prompts, users = np.arange(8) // 2, np.arange(8) % 2
    of_prompts, nothing = np.array([1.0, 1.1, 0.9, 1.2]), np.array([np.nan, np.nan])
    kinds = (prompts, users, np.arange(8))
    both = jackknifed(1.0, kinds, [of_prompts, nothing, np.linspace(0.9, 1.1, 8)])
    assert both.errors == pytest.approx(jackknifed(1.0, kinds[:1], [of_prompts]).errors)
    assert np.isnan(jackknifed(1.0, kinds[1:2], [nothing]).errors[0])


def test_what_all_groups_show_is_certain() -> None:
    values = np.stack([np.full(4, 3.0), np.zeros(4)], axis=1)
    assert estimates(values).p_values().tolist() == [0.0, 1.0]


def test_rounding_is_no_spread() -> None:
    found = estimates([0.1 + 0.2, 0.3, 0.3, 0.3])
    assert found.errors.tolist() == [0.0]


@pytest.mark.parametrize("values", [[1.0, 3.0], [1.0, 1 + 2e-6], [1.0, 1 + 2e-6, 1 + 1e-6]])
def test_a_mean_without_each_of_a_few_groups_has_the_error_of_a_mean(values: list[float]) -> None:
    one = np.array(values)
    without = (one.sum() - one) / (len(one) - 1)
    found = jackknifed(float(one.mean()), [np.arange(len(one))], [without])
    assert found.errors == pytest.approx(stats.sem(one), rel=1e-6)
