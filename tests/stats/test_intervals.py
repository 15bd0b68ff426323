"""Intervals for special cases: against scipy, tables and a two-way simulation."""

import json
from pathlib import Path

import numpy as np
import pytest

from mipo_eval.stats.bootstrap import Crossed, percentile_interval
from mipo_eval.stats.intervals import (
    constant_rate_interval,
    proportion_interval,
    rate_intervals,
    table_intervals,
    two_way_intervals,
)
from tests.stats.columns import mean_interval, two_way_interval


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
    assert constant_rate_interval(100.0, n) == pytest.approx((100 * low, 100 * high))
    assert constant_rate_interval(0.0, n) == pytest.approx((100 - 100 * high, 100 - 100 * low))


def test_rate_intervals_fall_back_only_where_all_clusters_agree() -> None:
    table = [[100.0, 100.0], [100.0, 0.0], [100.0, 100.0]]
    alike, mixed = rate_intervals(table)
    assert alike == pytest.approx(constant_rate_interval(100.0, 3))
    assert mixed == mean_interval([100.0, 0.0, 100.0]) == (0.0, 100.0)
    assert rate_intervals([[100.0]]) == [None]


def two_way_table(seed: int, *, rows: float, columns: float, noise: float):
    rng = np.random.default_rng(seed)
    row, column = rng.integers(40, size=400), rng.integers(40, size=400)
    values = rng.normal(size=40)[row] * rows + rng.normal(size=40)[column] * columns
    return values + rng.normal(size=400) * noise, row.tolist(), column.tolist()


def width(interval) -> float:
    assert interval is not None
    return interval[1] - interval[0]


def test_two_way_is_wider_than_either_way_when_both_matter() -> None:
    values, row, column = two_way_table(0, rows=1, columns=1, noise=1)
    both = width(two_way_interval(values, row, column, resamples=2000))
    one, two = width(mean_interval(values, row)), width(mean_interval(values, column))
    assert both == pytest.approx(np.hypot(one, two), rel=0.1)


def test_two_way_does_not_count_item_noise_three_times() -> None:
    values, row, column = two_way_table(1, rows=0, columns=0, noise=1)
    both = width(two_way_interval(values, row, column, resamples=2000))
    assert both / width(mean_interval(values)) < 1.25  # the raw pigeonhole bootstrap: 1.7


def test_two_way_with_users_of_one_item_is_one_way() -> None:
    values, row, _ = two_way_table(2, rows=1, columns=0, noise=1)
    both = width(two_way_interval(values, row, None, resamples=4000))
    assert both == pytest.approx(width(mean_interval(values, row)), rel=0.05)


def test_two_way_edges() -> None:
    assert two_way_interval([1.0, 2.0], ["a", "a"], ["u", "v"]) is None
    assert two_way_interval([2.0] * 4, list("aabb"), list("uvuv")) == (2.0, 2.0)
    with_gap = two_way_interval([1.0, 2.0, 4.0, float("nan")], list("aabb"), list("uvuv"))
    assert with_gap == two_way_interval([1.0, 2.0, 4.0], list("aab"), list("uvu"))


def test_crossed_labels_make_a_table_two_way() -> None:
    values, row, column = two_way_table(3, rows=1, columns=1, noise=1)
    crossed = [Crossed(prompt, user) for prompt, user in zip(row, column, strict=True)]
    table = values[:, None]
    assert table_intervals(table, crossed) == [two_way_interval(values, row, column)]
    # Users who come once, or are one and the same, or unknown: the prompts alone.
    for users in (range(len(row)), [None] * len(row), ["u"] * len(row)):
        labels = [Crossed(prompt, user) for prompt, user in zip(row, users, strict=True)]
        assert table_intervals(table, labels) == [mean_interval(values, row)]
    labels = [Crossed("p", user) for user in column]
    assert table_intervals(table, labels) == [mean_interval(values, column)]
    assert table_intervals(table, row) == [mean_interval(values, row)]


def test_two_way_columns_share_resamples_and_keep_their_gaps() -> None:
    values, row, column = two_way_table(4, rows=1, columns=1, noise=1)
    gappy = np.where(np.arange(len(values)) % 7 == 0, np.nan, values)
    whole, part = two_way_intervals(np.stack([values, gappy], axis=1), row, column)
    assert whole == pytest.approx(two_way_interval(values, row, column))
    assert part == pytest.approx(two_way_interval(gappy, row, column), abs=0.03)
    assert two_way_intervals([[1.0, np.nan], [2.0, np.nan]], list("ab"), list("uv"))[1] is None


def test_a_constant_rate_counts_the_prompts() -> None:
    crossed = [Crossed(i // 2, i % 4) for i in range(20)]
    (found,) = rate_intervals([[100.0]] * 20, crossed)
    assert found == pytest.approx(constant_rate_interval(100.0, 10))


def test_published_intervals_of_arena_hard(shared_data: Path) -> None:
    lines = (shared_data / "arena_hard" / "bootstrap_stats_arena_hard.jsonl").read_text()
    rows = [json.loads(line) for line in lines.splitlines()]
    assert len(rows) >= 14
    for row in rows:
        drawn = np.array(row["results"])
        published = (row["lower"], row["upper"])
        assert percentile_interval(drawn) == pytest.approx(published, abs=1e-6)
