"""Standard errors against textbook formulas, statsmodels and direct simulation."""

import math

import numpy as np
import pytest
import statsmodels.api as sm

from mipo_eval.stats.bootstrap import cluster
from mipo_eval.stats.variance import (
    covariance,
    design_effect,
    standard_error,
    two_way_variance,
)

NAN = float("nan")


def test_independent_items_have_the_textbook_error() -> None:
    values = np.random.default_rng(0).normal(size=50)
    assert standard_error(values) == pytest.approx(values.std(ddof=1) / math.sqrt(50), abs=1e-15)
    assert standard_error([*values, NAN]) == standard_error(values)


def test_clustered_error_equals_statsmodels() -> None:
    rng = np.random.default_rng(1)
    groups = rng.integers(12, size=80)
    values = rng.normal(size=12)[groups] + rng.normal(size=80)
    fit = sm.OLS(values, np.ones((80, 1))).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    theirs = fit.bse[0] * math.sqrt(12 / 11)
    assert standard_error(values, groups.tolist()) == pytest.approx(theirs, rel=1e-12)


@pytest.mark.parametrize(
    ("values", "groups"), [([1.0], None), ([1.0, NAN], None), ([1.0, 2.0], ["a", "a"]), ([], None)]
)
def test_one_cluster_has_no_error(values, groups) -> None:
    assert standard_error(values, groups) is None


def test_covariance_gives_the_error_of_a_difference() -> None:
    rng = np.random.default_rng(2)
    shared = rng.normal(size=(100, 1))
    table = shared + rng.normal(size=(100, 2))
    joint = covariance(cluster(table))
    difference = joint[0, 0] + joint[1, 1] - 2 * joint[0, 1]
    assert math.sqrt(difference) == pytest.approx(standard_error(table[:, 0] - table[:, 1]))
    assert np.isnan(covariance(cluster([[1.0, 2.0]]))).all()


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
