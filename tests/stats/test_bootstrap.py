"""The clustered bootstrap and standard errors: against plain loops, scipy, theory, simulation."""

import math

import numpy as np
import pytest
from scipy import stats

from mipo_eval.stats import bootstrap
from mipo_eval.stats.bootstrap import (
    Crossed,
    cluster,
    cluster_ids,
    design_effect,
    mean_intervals,
    percentile_interval,
    replicates,
    resample_weights,
    seeded_weights,
    standard_error,
    two_way_variance,
)
from tests.stats.columns import mean_interval

NAN = float("nan")


@pytest.mark.parametrize(
    ("groups", "ids", "n"),
    [
        (None, [0, 1, 2], 3),
        (["b", "a", "b"], [0, 1, 0], 2),
        ([None, "a", None], [0, 1, 2], 3),  # an item without a group is its own
        ([0, None, 0], [0, 1, 0], 2),
        ([Crossed("p", 1), Crossed("q", 1), Crossed("p", 2)], [0, 1, 0], 2),  # by prompt
    ],
)
def test_cluster_ids(groups, ids, n) -> None:
    numbers, count = cluster_ids(groups, 3)
    assert (numbers.tolist(), count) == (ids, n)


def test_cluster_sums_leave_out_what_is_absent() -> None:
    clusters = cluster([[1, 5], [2, NAN], [NAN, NAN]], ["x", "x", "y"])
    assert clusters.sums.tolist() == [[3, 5]]  # y holds no value, so it is no cluster
    assert clusters.counts.tolist() == [[2, 1]]
    assert clusters.means().tolist() == [1.5, 5]
    assert len(cluster([[1], [NAN]], ["x", "y"], keep_empty=True)) == 2


def test_wrong_number_of_groups_is_refused() -> None:
    with pytest.raises(ValueError, match="3 values but 2 groups"):
        cluster([1, 2, 3], ["a", "b"])


@pytest.mark.parametrize("n_clusters", [1, 7, 500])
def test_every_resample_draws_as_many_clusters_as_there_are(n_clusters, monkeypatch) -> None:
    monkeypatch.setattr(bootstrap, "CHUNK_CELLS", 1000)
    chunks = list(resample_weights(n_clusters, 301, np.random.default_rng(0)))
    weights = np.concatenate(chunks)
    assert weights.shape == (301, n_clusters)
    assert (weights.sum(axis=1) == n_clusters).all()
    assert max(chunk.size for chunk in chunks) <= 1000


def test_weights_are_multinomial() -> None:
    weights = np.concatenate(list(resample_weights(10, 20_000, np.random.default_rng(1))))
    assert weights.mean(axis=0) == pytest.approx(np.ones(10), abs=0.05)
    assert weights.var(axis=0) == pytest.approx(np.full(10, 0.9), abs=0.05)


def test_replicates_equal_a_plain_loop_over_items() -> None:
    rng = np.random.default_rng(5)
    values, groups = rng.normal(size=40), rng.integers(8, size=40)
    drawn = replicates(cluster(values, groups.tolist()), seed=7, resamples=50)
    weights = np.concatenate(list(resample_weights(8, 50, np.random.default_rng(7))))
    ids, _ = cluster_ids(groups.tolist(), 40)
    loop = [np.average(values, weights=row[ids]) for row in weights]
    assert drawn[:, 0] == pytest.approx(loop)


@pytest.mark.parametrize("kept_cells", [0, 1_000_000])
def test_weights_of_a_seed_are_the_same_kept_or_drawn_again(kept_cells, monkeypatch) -> None:
    monkeypatch.setattr(bootstrap, "_KEPT_CELLS", kept_cells)
    plain = np.concatenate(list(resample_weights(9, 70, np.random.default_rng(3))))
    for _ in range(2):
        assert (np.concatenate(list(seeded_weights(9, 70, 3))) == plain).all()


def test_columns_with_and_without_gaps_are_weighed_by_their_own_counts() -> None:
    table = np.random.default_rng(6).normal(size=(30, 3))
    table[:4, 1] = NAN
    both = replicates(cluster(table), seed=1, resamples=40)
    for column in range(3):
        alone = replicates(cluster(table[:, [column]], keep_empty=True), seed=1, resamples=40)
        assert both[:, column] == pytest.approx(alone[:, 0])


def test_agrees_with_scipy_on_independent_items() -> None:
    values = np.random.default_rng(2).exponential(size=150)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=20_000, random_state=1
    ).confidence_interval
    assert mean_interval(values, resamples=20_000) == pytest.approx(
        (theirs.low, theirs.high), abs=0.01
    )


def test_same_seed_same_interval_and_columns_share_resamples() -> None:
    values = np.random.default_rng(3).normal(size=60)
    table = np.stack([values, 2 * values], axis=1)
    one, two = mean_intervals(table, seed=4)
    assert one is not None
    assert mean_interval(values, seed=4) == pytest.approx(one)
    assert mean_interval(values, seed=4) == mean_interval(values, seed=4)
    assert two == pytest.approx([2 * edge for edge in one])
    assert mean_interval(values, seed=5) != one


def test_fewer_than_two_clusters_have_no_interval() -> None:
    assert mean_interval([1.0]) is None
    assert mean_interval([]) is None
    assert mean_interval([1.0, 2.0], ["a", "a"]) is None
    assert mean_interval([1.0, NAN]) is None
    table = [[1.0, NAN], [2.0, 3.0]]
    assert mean_intervals(table) == [(1.0, 2.0), None]


def test_a_constant_has_a_point_interval() -> None:
    assert mean_interval([2.0] * 5) == (2.0, 2.0)


def test_percentile_interval_ignores_replicates_without_a_value() -> None:
    drawn = np.append(np.arange(101.0), [NAN] * 7)
    assert percentile_interval(drawn, level=0.9) == pytest.approx((5, 95))


def test_width_follows_the_number_of_clusters() -> None:
    """Items that repeat their group's value add no information: the interval stays as wide."""
    rng = np.random.default_rng(8)
    groups = rng.normal(size=100)
    single = mean_interval(groups)
    repeated = mean_interval(np.repeat(groups, 5), np.repeat(np.arange(100), 5).tolist())
    assert single == pytest.approx(repeated)


def test_independent_items_have_the_textbook_error() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert standard_error(values) == pytest.approx(values.std(ddof=1) / math.sqrt(50), abs=1e-15)
    assert standard_error([*values, NAN]) == standard_error(values)


def test_clustered_error_equals_statsmodels() -> None:
    rng = np.random.default_rng(1)
    groups = rng.integers(12, size=80)
    values = rng.normal(size=12)[groups] + rng.normal(size=80)
    # OLS(values, ones).fit(cov_type="cluster", use_correction=False).bse * sqrt(12 / 11), 0.15.0
    theirs = 0.17616187303794595
    assert standard_error(values, groups.tolist()) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize(
    ("values", "groups"), [([1.0], None), ([1.0, NAN], None), ([1.0, 2.0], ["a", "a"]), ([], None)]
)
def test_one_cluster_has_no_error(values, groups) -> None:
    assert standard_error(values, groups) is None


@pytest.mark.parametrize(("copies", "effect"), [(1, 1.0), (4, 4.0)])
def test_design_effect_of_copies(copies, effect) -> None:
    values = np.repeat(np.random.default_rng(3).normal(size=400), copies)
    groups = np.repeat(np.arange(400), copies).tolist()
    assert design_effect(values, groups) == pytest.approx(effect, rel=0.01)


def test_design_effect_is_undefined_without_spread_or_groups() -> None:
    assert design_effect([1.0, 1.0, 1.0], None) is None
    assert design_effect([1.0, 2.0], ["a", "a"]) is None


def test_two_way_variance_covers_both_kinds_of_groups() -> None:
    rng = np.random.default_rng(4)
    rows, columns = rng.integers(40, size=800), rng.integers(40, size=800)
    values = rng.normal(size=40)[rows] + rng.normal(size=40)[columns] + rng.normal(size=800)
    both = two_way_variance(values, rows.tolist(), columns.tolist())
    one = standard_error(values, rows.tolist())
    two = standard_error(values, columns.tolist())
    assert one is not None
    assert two is not None
    assert both == pytest.approx(one**2 + two**2, rel=0.1)


def test_two_way_variance_of_one_kind_is_the_one_way_variance() -> None:
    rng = np.random.default_rng(5)
    groups = rng.integers(10, size=60).tolist()
    values = rng.normal(size=60)
    error = standard_error(values, groups)
    assert error is not None
    assert two_way_variance(values, groups, None) == pytest.approx(error**2)
    assert two_way_variance(values, groups, ["u"] * 60) is None
