"""The speed of the statistics: intervals, all pairs of runs, ranks, a million items.

Beside a plain numpy bootstrap of the same items (one resample at a time, as harnesses write it),
measured on a part of the resamples.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from benchmarks.results import Result, compared, median_seconds
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


def million(rng: np.random.Generator, count: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what is done to so many items of a quarter as many prompts and of 5,000 users."""
    labels = [Crossed(i // 4, i % 5000) for i in range(count)]
    values = 100.0 * (rng.random((count, 4)) < 0.5)
    yield "4 rates with intervals", partial(rate_intervals, values, labels)
    yield "two runs compared", partial(compare, values[:, 0], values[:, 1], labels)


def measure(quick: bool) -> Iterator[Result]:
    """Time everything with its items in groups, and each alone."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(GROUPS), ITEMS // GROUPS)
    table, runs = win_values(rng, METHODS * SEEDS), win_values(rng, 5 if quick else RUNS)
    tables = [table[:, SEEDS * m : SEEDS * (m + 1)].T for m in range(METHODS)]
    seeds = table.reshape(ITEMS, METHODS, SEEDS)
    names = [f"run-{i}" for i in range(max(runs.shape[1], METHODS))]
    few, many = names[:METHODS], names[: runs.shape[1]]
    compare_all(runs[:, :3], names[:3])  # imports of scipy
    for what, labels in ((f"{GROUPS} groups", groups.tolist()), (f"{ITEMS} groups", None)):
        size = f"{METHODS} methods x {SEEDS} seeds x {ITEMS} items in {what}"
        intervals = median_seconds(partial(mean_intervals, table, labels))
        yield compared(
            lambda: median_seconds(partial(plain_loop, table, groups, LOOPED)) * RESAMPLES / LOOPED,
            name=f"Intervals of the means, beside {RESAMPLES:,} resamples in a plain loop",
            size=size, ours=intervals,
        )  # fmt: skip
        yield Result(name="Intervals of the means", size=size, ours=intervals, wanted="<= 2")
        of_seeds: list[tuple[str, Callable[[], object]]] = [
            ("Means over seeds", partial(seed_summaries, tables, labels)),
            (
                f"Ranks of methods, {RESAMPLES:,} clustered resamples",
                partial(rank_runs, seeds, few, labels),
            ),
        ]
        for name, call in of_seeds:
            yield Result(name=name, size=size, ours=median_seconds(call), wanted="<= 2")
        size = f"{len(many)} runs x {ITEMS} items in {what}"
        of_runs: list[tuple[str, Callable[[], object]]] = [
            ("All pairs of runs", partial(compare_all, runs, many, labels)),
            ("Ranks and tie letters", partial(rank_runs, runs, many, labels)),
        ]
        for name, call in of_runs:
            yield Result(name=name, size=size, ours=median_seconds(call), wanted="<= 5")
    count = 10_000 if quick else MANY
    for name, call in million(rng, count):
        took = median_seconds(call, 1 if quick else 3)
        yield Result(name=name.capitalize(), size=f"{count:,} items", ours=took, wanted="<= 10")
