"""Intervals for special cases: against scipy, tables and small simulations."""

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr, ndtri

from mipo_eval.stats.bootstrap import Crossed, percentile_interval
from mipo_eval.stats.estimates import Estimates, estimates
from mipo_eval.stats.intervals import (
    NET,
    RATE,
    SHARE,
    constant_interval,
    intervals_in,
    mean_intervals,
    proportion_interval,
    rare_variances,
    rate_intervals,
    share_interval,
    span_intervals,
)


@pytest.mark.parametrize(
    ("successes", "n", "wilson", "exact"),
    [
        # Newcombe (1998), table I, to four decimals.
        (81, 263, (0.2553, 0.3662), (0.2527, 0.3676)),
        (15, 148, (0.0624, 0.1605), (0.0578, 0.1617)),
        (0, 20, (0.0, 0.1611), (0.0, 0.1684)),
        (1, 29, (0.0061, 0.1718), (0.0009, 0.1776)),
    ],
)
def test_proportions_of_newcombe(successes, n, wilson, exact) -> None:
    assert proportion_interval(successes, n) == pytest.approx(wilson, abs=6e-5)
    assert proportion_interval(successes, n, method="exact") == pytest.approx(exact, abs=6e-5)


@pytest.mark.parametrize("n", [1, 2, 10, 200])
def test_all_alike_is_clopper_pearson(n) -> None:
    low, high = proportion_interval(n, n, method="exact")
    assert constant_interval(100.0, n, RATE) == pytest.approx((100 * low, 100 * high))
    assert constant_interval(0.0, n, RATE) == pytest.approx((100 - 100 * high, 100 - 100 * low))


def rate_interval(values, groups=None):
    (found,) = rate_intervals(np.asarray(values, dtype=float).reshape(-1, 1), groups)
    return found


def test_a_rate_of_independent_items_is_wilsons() -> None:
    values = [100.0] * 81 + [0.0] * 182
    low, high = proportion_interval(81, 263)
    assert rate_interval(values) == pytest.approx((100 * low, 100 * high), abs=0.15)


def test_rates_near_the_edge_shrink_steadily() -> None:
    edges = [rate_interval([100.0] * won + [0.0] * (200 - won)) for won in range(170, 201)]
    lows, highs = zip(*edges, strict=True)
    assert list(lows) == sorted(lows)
    assert list(highs) == sorted(highs)
    assert edges[-1] == pytest.approx((98.17, 100), abs=0.01)
    assert edges[-2] == pytest.approx((97.19, 99.91), abs=0.01)


def test_wins_of_forty_users_are_forty_wins() -> None:
    users = [i // 5 for i in range(200)]
    assert rate_interval([100.0] * 200, users) == pytest.approx(constant_interval(100, 40, RATE))
    low, _ = rate_interval([0.0] + [100.0] * 199, users)
    assert 90 < low < 94  # one loss does not show that losses do not cluster
    crossed = [Crossed(i // 2, i % 4) for i in range(20)]
    assert rate_interval([100.0] * 20, crossed) == pytest.approx(constant_interval(100, 4, RATE))


@pytest.mark.parametrize("clusters", [3, 5, 10, 40])
@pytest.mark.parametrize("rate", [0.5, 0.9, 0.98])
def test_coverage_of_rates(clusters, rate) -> None:
    rng = np.random.default_rng(0)
    # Clusters differ by one standard deviation on the probit scale; their mean is the rate.
    chance = ndtr(ndtri(rate) * np.sqrt(2) + rng.normal(size=(clusters, 800)))
    table = 100.0 * (rng.random((clusters, 8, 800)) < chance[:, None, :])
    groups = np.repeat(np.arange(clusters), 8).tolist()
    found = rate_intervals(table.reshape(-1, 800), groups)
    inside = np.mean([low <= 100 * rate <= high for low, high in found])  # type: ignore[misc]
    assert inside >= 0.93


def test_few_or_no_clusters() -> None:
    assert rate_intervals([[100.0]]) == [None]
    assert span_intervals([[1.0]], None, NET) == [None]
    assert rate_interval([100.0, 0.0]) == pytest.approx((0.3, 99.7), abs=0.5)
    assert mean_intervals([[1.0, np.nan], [2.0, 3.0]])[1] is None


@pytest.mark.parametrize("end", [0.0, 1.0])
def test_a_share_at_an_end_is_a_constant_whatever_rounding_left(end: float) -> None:
    found = Estimates(*(np.array([number]) for number in (end, 1e-17, 9.0, 10)))
    assert share_interval(found, found.errors**2) == constant_interval(end, 10, SHARE)


def test_a_span_bounds_what_is_alike_and_what_is_nearly() -> None:
    (ties,) = span_intervals([[0.0]] * 5, None, NET)
    assert ties == pytest.approx((-52.18, 52.18), abs=0.01)  # 100 (1 - 0.025^(1/5))
    (one,) = span_intervals([[0.0]] * 199 + [[100.0]], None, NET)
    # Without an end in sight it would be 0.5 -+ 0.986. Were the mean 2.92, wins would be 5.92 times
    # as frequent (50 = 100^2 / 200 becomes 296, the loss that nobody saw 8.5): a variance of 295.9
    # instead of 49.75, and 2.42 is 1.972 times sqrt(295.9 / 49.75) times 0.5.
    assert one == pytest.approx((-1.267, 2.923), abs=0.001)


@pytest.mark.parametrize(("losses", "wins", "n"), [(0.02, 0.0, 200), (0.11, 0.08, 300)])
def test_what_is_rare_is_within_the_interval(losses: float, wins: float, n: int) -> None:
    rng = np.random.default_rng(0)
    drawn = rng.choice([-100.0, 0.0, 100.0], p=[losses, 1 - losses - wins, wins], size=(n, 1_000))
    truth = 100 * (wins - losses)
    found = [ends for ends in span_intervals(drawn, None, NET) if ends is not None]
    assert len(found) == 1_000
    # Without the variance there would be at the ends, 91 % of the first.
    assert 0.93 <= np.mean([low <= truth <= high for low, high in found]) <= 0.99
    (wide,) = span_intervals([[100.0], [-100.0], [100.0]], None, NET)
    assert wide == (-100.0, 100.0)


def test_what_is_known_of_the_ends_decides() -> None:
    table = np.array([[100.0], [0.0], [100.0], [100.0]])
    assert intervals_in(table, None, RATE) == rate_intervals(table)
    assert intervals_in(table, None, None) == mean_intervals(table)
    assert intervals_in(table, None, NET) == span_intervals(table, None, NET)


def test_published_intervals_of_arena_hard(shared_data: Path) -> None:
    lines = (shared_data / "arena_hard" / "bootstrap_stats_arena_hard.jsonl").read_text()
    rows = [json.loads(line) for line in lines.splitlines()]
    assert len(rows) >= 14
    for row in rows:
        drawn = np.array(row["results"])
        published = (row["lower"], row["upper"])
        assert percentile_interval(drawn) == pytest.approx(published, abs=1e-6)


def test_what_is_rare_has_no_unit() -> None:
    values = np.repeat([[1.0], [0.0]], [37, 3], axis=0)
    small = rare_variances(values, estimates(values), (0.0, 1.0))
    large = rare_variances(100 * values, estimates(100 * values), (0.0, 100.0))
    assert large == pytest.approx(1e4 * small)
