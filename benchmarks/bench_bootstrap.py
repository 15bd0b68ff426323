"""The speed of the statistics: intervals, all pairs of runs, ranks, a million items.

    python benchmarks/bench_bootstrap.py

Prints each time beside its limit, and beside a plain numpy bootstrap of the same items (one
resample at a time, as harnesses write it), measured on a part of the resamples in this run.
"""

import sys
import time
from collections.abc import Callable
from functools import partial

import numpy as np

from mipo_eval.stats import (
    Crossed,
    compare,
    compare_all,
    mean_intervals,
    rank_runs,
    rate_intervals,
    seed_summaries,
)
from mipo_eval.stats.bootstrap import RESAMPLES

METHODS, SEEDS, ITEMS, GROUPS, RUNS = 12, 3, 500, 125, 40
MANY = 1_000_000
LOOPED = 50
"""Resamples that the plain loop is timed on."""


def best_of_three(call: Callable[[], object]) -> float:
    """Return the shortest wall time of three calls, in seconds."""
    times = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def win_values(rng: np.random.Generator, columns: int) -> np.ndarray:
    """Return (items, columns) wins and losses in percent, correlated within an item."""
    latent = rng.normal(size=(ITEMS, 1)) + rng.normal(size=(ITEMS, columns))
    return 100.0 * (latent + np.linspace(-0.3, 0.3, columns) > 0)


def plain_loop(values: np.ndarray, groups: np.ndarray, resamples: int) -> None:
    """Bootstrap the means the usual way: draw groups, gather their items, average."""
    rng = np.random.default_rng(0)
    members = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    for _ in range(resamples):
        drawn = rng.integers(len(members), size=len(members))
        values[np.concatenate([members[i] for i in drawn])].mean(axis=0)


def million(rng: np.random.Generator) -> list[tuple[str, float, float]]:
    """Time a million items of 250,000 prompts and 5,000 users: all tie rules, and a comparison."""
    labels = [Crossed(i // 4, i % 5000) for i in range(MANY)]
    values = 100.0 * (rng.random((MANY, 4)) < 0.5)
    timed: list[tuple[str, Callable[[], object]]] = [
        ("4 rates", partial(rate_intervals, values, labels)),
        ("a comparison", partial(compare, values[:, 0], values[:, 1], labels)),
    ]
    return [(f"{MANY:,} items: {what}", best_of_three(call), 10.0) for what, call in timed]


def main() -> int:
    """Measure, print, and fail when a limit does not hold."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(GROUPS), ITEMS // GROUPS)
    table, runs = win_values(rng, METHODS * SEEDS), win_values(rng, RUNS)
    tables = [table[:, SEEDS * m : SEEDS * (m + 1)].T for m in range(METHODS)]
    seeds = table.reshape(ITEMS, METHODS, SEEDS)
    names = [f"run-{i}" for i in range(RUNS)]
    compare_all(runs[:, :3], names[:3])  # imports of scipy

    rows: list[tuple[str, float, float]] = []
    for what, labels in ((f"{GROUPS} groups", groups.tolist()), (f"{ITEMS} groups", None)):
        timed: list[tuple[str, Callable[[], object], float]] = [
            ("intervals of means", partial(mean_intervals, table, labels), 2.0),
            ("means over seeds", partial(seed_summaries, tables, labels), 2.0),
            (
                "ranks of methods over seeds",
                partial(rank_runs, seeds, names[:METHODS], labels),
                2.0,
            ),
            ("all pairs of runs", partial(compare_all, runs, names, labels), 5.0),
            ("ranks and tie letters", partial(rank_runs, runs, names, labels), 5.0),
        ]
        rows += [(f"{what}: {name}", best_of_three(call), limit) for name, call, limit in timed]
    rows += million(rng)
    print(
        f"{ITEMS} items x {METHODS} methods x {SEEDS} seeds, {RESAMPLES:,} draws where any; "
        f"{RUNS} runs, {RUNS * (RUNS - 1) // 2} pairs"
    )
    for what, seconds, limit in rows:
        print(f"{what}: {seconds:.2f} s (limit {limit:.0f} s)")
    loop = best_of_three(lambda: plain_loop(table, groups, LOOPED)) * RESAMPLES / LOOPED
    print(f"plain loop over resamples, {GROUPS} groups: {loop:.2f} s, {loop / rows[0][1]:.0f} x")
    return 0 if all(seconds <= limit for _, seconds, limit in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
