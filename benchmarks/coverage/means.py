"""Means, rates and differences, of items that depend on each other and of training seeds."""

from collections.abc import Iterator
from functools import partial

import numpy as np
from scipy.special import ndtr, ndtri

from benchmarks.coverage.cases import (
    Coverage,
    Intervals,
    crossed_labels,
    groups_of,
    outcomes,
    rows_interval,
    seeded,
)
from mipo_eval.judges.correction import prediction_powered, rogan_gladen
from mipo_eval.stats import (
    compare,
    compare_all,
    mean_intervals,
    rate_intervals,
    seed_summaries,
)


def one_way(rng: np.random.Generator, *, clusters: int, each: int) -> tuple[float, Intervals]:
    """Means of items that share a cluster; half of the variance is the clusters'."""
    values = np.repeat(rng.normal(size=clusters), each) + rng.normal(size=clusters * each)
    labels = groups_of(clusters, each)
    return 0.0, {"clustered": mean_intervals(values, labels)[0], "rows": rows_interval(values)}


def rates(
    rng: np.random.Generator, *, clusters: int, each: int, rate: float
) -> tuple[float, Intervals]:
    """Wins in percent; how easy prompts are differs by one standard deviation of a probit."""
    chance = ndtr(ndtri(rate) * np.sqrt(2) + rng.normal(size=(clusters, 1)))
    wins = 100.0 * (rng.random((clusters, each)) < chance).ravel()
    labels = groups_of(clusters, each)
    return 100 * rate, {
        "rate, clustered": rate_intervals(wins[:, None], labels)[0],
        "rows": rows_interval(wins),
    }


def two_way(
    rng: np.random.Generator, *, prompts: int, users: int, items: int
) -> tuple[float, Intervals]:
    """Items that share prompts and users, in no order."""
    of, by = rng.integers(prompts, size=items), rng.integers(users, size=items)
    values = rng.normal(size=prompts)[of] * 0.5 + rng.normal(size=users)[by] * 0.5
    values += rng.normal(size=items)
    return 0.0, {
        "prompts and users": mean_intervals(values, crossed_labels(of, by))[0],
        "prompts alone": mean_intervals(values, of.tolist())[0],
        "rows": rows_interval(values),
    }


def paired(rng: np.random.Generator, *, prompts: int, each: int) -> tuple[float, Intervals]:
    """Two methods on the same items of the same prompts."""
    groups = np.repeat(np.arange(prompts), each)
    shared = rng.normal(size=prompts)[groups] + rng.normal(size=len(groups))
    tastes = rng.normal(size=(prompts, 2))[groups] * 0.5
    noise = rng.normal(size=(len(groups), 2))
    both = shared[:, None] + tastes + noise + np.array([0.3, 0.0])
    return 0.3, {
        "paired, clustered": compare(both[:, 0], both[:, 1], groups.tolist()).ci95,
        "paired, rows": rows_interval(both[:, 0] - both[:, 1]),
    }


def wins_and_losses(
    rng: np.random.Generator, *, groups: int, each: int, rates: tuple[float, float]
) -> tuple[float, Intervals]:
    """Two methods that nearly always tie, or hardly ever do."""
    values, labels = outcomes(rng, groups, each, rates), groups_of(groups, each)
    nothing = np.zeros(len(values))
    return 100 * (rates[0] - rates[1]), {
        "difference, clustered": compare(values, nothing, labels, span=(0.0, 100.0)).ci95,
        "Student's": mean_intervals(values, labels)[0],
        "rows": rows_interval(values),
    }


def seeds_mean(rng: np.random.Generator, *, seeds: int, seed_sd: float) -> tuple[float, Intervals]:
    """One method of several training seeds."""
    values = seeded(rng, methods=1, seeds=seeds, seed_sd=seed_sd)[:, 0]
    (found,) = seed_summaries([values.T], groups_of(50, 4))
    return 0.0, {"seeds and items": found.ci95, "items alone": found.items_ci95}


def seeds_difference(
    rng: np.random.Generator, *, seeds: int, seed_sd: float
) -> tuple[float, Intervals]:
    """Two methods of several training seeds."""
    table = seeded(rng, methods=2, seeds=seeds, seed_sd=seed_sd)
    means, labels = table.mean(axis=2), groups_of(50, 4)
    return 0.0, {
        "seeds and items": compare_all(table, ["a", "b"], labels)[0].ci95,
        "items alone": compare(means[:, 0], means[:, 1], labels).ci95,
    }


def corrected(rng: np.random.Generator, *, prompts: int, each: int) -> tuple[float, Intervals]:
    """A judge that is right in 80 of 100, and people's labels of half of the prompts."""
    win = rng.random(prompts * each) < ndtr(rng.normal(size=prompts).repeat(each))
    right = rng.random(len(win)) < 0.8
    said = np.where(right, win, ~win).astype(float).tolist()
    asked = (rng.random(prompts) < 0.5).repeat(each)
    human = [float(won) if told else None for won, told in zip(win, asked, strict=True)]
    labels = groups_of(prompts, each)
    return 50.0, {
        "PPI++": prediction_powered(said, human, labels).ci95,
        "Rogan-Gladen": rogan_gladen(said, human, labels).ci95,
        "PPI++, rows": prediction_powered(said, human).ci95,
        "people alone": rate_intervals(
            [[np.nan if told is None else 100 * told] for told in human], labels
        )[0],
    }


def coverages() -> Iterator[Coverage]:
    """Yield every kind of data with intervals."""
    for clusters in (2, 3, 5, 10, 50):
        yield Coverage(
            name=f"mean, {clusters} clusters x 4",
            draw=partial(one_way, clusters=clusters, each=4),
            ours=("clustered",),
        )
    for clusters, each in ((3, 20), (10, 20), (40, 5), (200, 1)):
        for rate in (0.5, 0.9, 0.98):
            yield Coverage(
                name=f"rate of {100 * rate:g} %, {clusters} prompts x {each}",
                draw=partial(rates, clusters=clusters, each=each, rate=rate),
                ours=("rate, clustered",),
            )
    for prompts, users, items in ((40, 40, 300), (10, 10, 100), (100, 5, 400), (4, 4, 64)):
        yield Coverage(
            name=f"{prompts} prompts and {users} users crossed, {items} items",
            draw=partial(two_way, prompts=prompts, users=users, items=items),
            ours=("prompts and users",),
        )
    for prompts in (5, 50):
        yield Coverage(
            name=f"paired difference, {prompts} prompts x 4",
            draw=partial(paired, prompts=prompts, each=4),
            ours=("paired, clustered",),
        )
    for prompts, each in ((40, 10), (100, 1)):
        yield Coverage(
            name=f"win rate corrected by people, {prompts} prompts x {each}",
            draw=partial(corrected, prompts=prompts, each=each),
            ours=("PPI++", "Rogan-Gladen"),
        )
    for seeds in (2, 3, 5):
        for seed_sd in (0.0, 0.1, 0.5):
            for what, draw in (("mean", seeds_mean), ("difference", seeds_difference)):
                yield Coverage(
                    name=f"{what}, {seeds} seeds of sd {seed_sd}, 50 prompts x 4",
                    draw=partial(draw, seeds=seeds, seed_sd=seed_sd),
                    ours=("seeds and items",),
                )


def coverages_of_wins() -> Iterator[Coverage]:
    """Yield differences of wins and losses, rare and frequent ones."""
    for groups, each, won in (
        (200, 1, (0.0, 0.02)),
        (200, 1, (0.0, 0.05)),
        (300, 1, (0.08, 0.11)),
        (100, 1, (0.4, 0.2)),
        (100, 1, (0.9, 0.1)),
        (40, 5, (0.0, 0.05)),
        (40, 5, (0.3, 0.2)),
        (8, 5, (0.3, 0.3)),
    ):
        yield Coverage(
            name=f"difference, wins {won[0]:.0%}, losses {won[1]:.0%}, {groups} prompts x {each}",
            draw=partial(wins_and_losses, groups=groups, each=each, rates=won),
            ours=("difference, clustered",),
        )
