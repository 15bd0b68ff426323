"""Power: against statsmodels, inverse laws, and the figures the paper's suites imply."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import nctdtr, stdtrit

from mipo_eval.errors import ConfigError
from mipo_eval.stats.estimates import standard_error
from mipo_eval.stats.power import (
    Design,
    detectable_from_error,
    paired_correlation,
    rate_sd,
)


def test_unpaired_equals_statsmodels() -> None:
    design = Design(sd_first=3.0, sd_second=3.0)
    # NormalIndPower().solve_power(nobs1=150, alpha=0.05, power=0.8, ratio=1) of 0.15.0
    assert design.detectable(150) == pytest.approx(3 * 0.32349879894309624, rel=1e-5)
    strict = Design(sd_first=3.0, sd_second=3.0, alpha=0.01, power=0.9)
    assert strict.detectable(150) == pytest.approx(3 * 0.4454098986763211, rel=1e-5)


def test_pairing_helps_as_its_correlation_says() -> None:
    alone = Design(sd_first=40, sd_second=40).detectable(200)
    paired = Design(sd_first=40, sd_second=40, correlation=0.5).detectable(200)
    assert paired / alone == pytest.approx(math.sqrt(0.5))
    clustered = Design(sd_first=40, sd_second=40, design_effect=4).detectable(200)
    assert clustered / alone == pytest.approx(2)


@pytest.mark.parametrize("wanted", [1.0, 3.0, 12.0])
def test_items_needed_is_the_smallest_number_that_detects(wanted) -> None:
    design = Design(sd_first=rate_sd(78), sd_second=rate_sd(80), correlation=0.6)
    n = design.items_needed(wanted)
    assert n == design.items_needed(-wanted)
    assert n is not None
    assert design.detectable(n) <= wanted < design.detectable(n - 1)


def test_what_no_number_can_detect() -> None:
    design = Design(sd_first=40, sd_second=40, seed_sd=2)
    assert design.items_needed(3, n_seeds=3) is None  # seeds alone: 2.80 * 2 * sqrt(2 / 3) = 4.6
    assert design.items_needed(3, n_seeds=100) is not None


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: rate_sd(101), "rate 101 is no percentage"),
        (lambda: Design(sd_first=1, sd_second=1).detectable(0), "0 items and 1 seeds"),
        (lambda: Design(sd_first=1, sd_second=1).items_needed(0), "difference of 0"),
        (lambda: Design(sd_first=1, sd_second=1, power=1).detectable(5), "between 0 and 1"),
    ],
)
def test_errors(call, message) -> None:
    with pytest.raises(ConfigError, match=message):
        call()


def test_detectable_of_observed_pairs() -> None:
    rng = np.random.default_rng(0)
    shared = rng.normal(size=500)
    first, second = shared + rng.normal(size=500), shared + rng.normal(size=500)
    assert paired_correlation(first, second) == pytest.approx(0.5, abs=0.1)
    planned = Design(sd_first=first.std(), sd_second=second.std(), correlation=0.5).detectable(500)
    error = standard_error(first - second)
    assert detectable_from_error(error or 0.0) == pytest.approx(planned, rel=0.1)
    assert detectable_from_error(1.0) == pytest.approx(2.8016, abs=1e-4)


@pytest.mark.parametrize("groups", [3, 6, 20, 200])
def test_few_groups_plan_with_the_noncentral_t(groups) -> None:
    design = Design(sd_first=1, sd_second=1, correlation=0.5, items_per_group=1)
    errors = design.detectable(groups) * math.sqrt(groups)
    critical = stdtrit(groups - 1, 0.975)
    assert 1 - nctdtr(groups - 1, errors, critical) == pytest.approx(0.8, abs=0.003)


@pytest.mark.parametrize("degrees", [2, 9, 50])
def test_an_error_that_was_seen_promises_what_is_found_on_average(degrees) -> None:
    rng = np.random.default_rng(degrees)
    seen, again = np.sqrt(rng.chisquare(degrees, size=(2, 200_000)) / degrees)
    repeated = detectable_from_error(1.0, degrees) * seen + rng.normal(size=200_000)
    assert (repeated / again > stdtrit(degrees, 0.975)).mean() == pytest.approx(0.8, abs=0.005)


def test_seeds_cost_what_they_leave_unknown() -> None:
    steady = Design(sd_first=40, sd_second=40, correlation=0.5, items_per_group=4)
    spread = replace(steady, seed_sd=2.0)
    one, two, three, many = (spread.detectable(400, seeds) for seeds in (1, 2, 3, 50))
    assert one == steady.detectable(400)  # one seed: these checkpoints
    assert two > 1.5 * three > 3 * many
    assert two > one > many
    # Two degrees of freedom for an error that seeds alone make.
    alone = replace(spread, sd_first=1e-6, sd_second=1e-6)
    assert alone.detectable(400, 2) == pytest.approx(5.65 * 2, rel=0.2)


def test_undefined_is_none() -> None:
    assert paired_correlation([1.0], [2.0]) is None
    assert paired_correlation([1.0, 1.0], [2.0, 3.0]) is None
    assert paired_correlation([1.0, float("nan")], [2.0, 3.0]) is None


def test_the_papers_suites_cannot_show_three_points_unpaired(shared_data: Path) -> None:
    """Table 1 colours differences above 3 points; a single run could show 8 to 22."""
    table = shared_data.parent / "paper" / "table1_personalization_win_rate.csv"
    with table.open(encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["method"] == "MIPO"]
    assert len(rows) == 15
    for row in rows:
        sd = rate_sd(float(row["win_rate_pct"]))
        assert 6 < Design(sd_first=sd, sd_second=sd).detectable(int(row["n_test"])) < 23


@pytest.mark.parametrize(("rate", "n", "points"), [(80, 200, 11.2), (80, 84, 17.3), (25, 500, 7.7)])
def test_detectable_by_hand(rate, n, points) -> None:
    sd = rate_sd(rate)
    assert Design(sd_first=sd, sd_second=sd).detectable(n) == pytest.approx(points, abs=0.05)


def test_two_common_items_that_differ_have_a_correlation() -> None:
    assert paired_correlation([0, 1, math.nan], [1, 3, 9]) == pytest.approx(1.0)
    assert paired_correlation([0, 1], [3, 1]) == pytest.approx(-1.0)


@pytest.mark.parametrize(("alpha", "power"), [(1.5, 0.8), (1.0, 0.8), (0.05, 1.0)])
def test_levels_lie_between_0_and_1(alpha: float, power: float) -> None:
    with pytest.raises(ConfigError, match="must both lie between 0 and 1"):
        detectable_from_error(1.0, 9, alpha=alpha, power=power)


def test_what_is_found_seldom_may_be_smaller_than_an_error() -> None:
    """With many degrees of freedom it is the normal distribution's: 1.96 - 1.28."""
    assert detectable_from_error(1.0, 1e6, power=0.1) == pytest.approx(1.95996 - 1.28155, abs=1e-3)
