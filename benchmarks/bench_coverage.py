"""How often nominal 95 % intervals hold the truth, by simulation.

    python benchmarks/bench_coverage.py [--simulations 2000]

Every case draws items whose dependence is known, computes the interval, and counts how often the
true value is inside: 95 % minus or plus 1 % (two standard errors of 2,000 simulations) is right.
Beside ours stand the bootstrap over rows as arena-hard does it (every game of every order a row of
its own, strong wins repeated three times), and the plain three-level resampling of seeds.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from scipy.special import ndtr

from mipo_eval.stats import compare, mean_intervals, seed_summaries, two_way_intervals
from mipo_eval.stats.bootstrap import Floats, Interval, cluster, replicates

RESAMPLES = 1_000
"""Per interval; the noise this leaves in an edge is far below that of the simulation."""
LOW, HIGH = 93.0, 97.0

Draw = tuple[float, dict[str, Interval | None]]
"""The true value, and each method's interval for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kind of data; `ours` are the methods that must reach the nominal coverage."""

    name: str
    draw: Callable[[np.random.Generator], Draw]
    ours: tuple[str, ...]


def rows_bootstrap(values: Floats, rng: np.random.Generator, level: float = 0.95) -> Interval:
    """Resample single rows and take plain percentiles, as arena-hard's `show_result` does."""
    drawn = rng.choice(values, size=(RESAMPLES, len(values))).mean(axis=1)
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def clustered_rates(rng: np.random.Generator, *, prompts: int, per_prompt: int) -> Draw:
    """Wins in percent of several users per prompt; prompts differ in how hard they are."""
    ease = rng.normal(size=prompts) * 0.9
    chance = ndtr(ease)[:, None] * np.ones(per_prompt)
    wins = 100.0 * (rng.random(chance.shape) < chance).ravel()
    groups = np.repeat(np.arange(prompts), per_prompt).tolist()
    seed = int(rng.integers(1 << 31))
    return 50.0, {
        "clustered percentile": mean_intervals(wins, groups, seed=seed, resamples=RESAMPLES)[0],
        "rows": rows_bootstrap(wins, rng),
    }


def arena_games(rng: np.random.Generator, *, prompts: int) -> Draw:
    """Games in both orders, judged 0, 1/2 or 1; a strong win counts three times, as arena-hard."""
    quality = rng.normal(size=prompts)
    rows: list[tuple[int, float]] = []
    for _ in range(2):
        margin = quality + rng.normal(size=prompts) * 0.5
        for prompt, value in enumerate(margin):
            outcome = 0.5 if abs(value) < 0.3 else float(value > 0)
            rows += [(prompt, 100 * outcome)] * (3 if abs(value) > 1.2 else 1)
    groups, values = [g for g, _ in rows], np.array([v for _, v in rows])
    seed = int(rng.integers(1 << 31))
    return 50.0, {
        "clustered percentile": mean_intervals(values, groups, seed=seed, resamples=RESAMPLES)[0],
        "rows": rows_bootstrap(values, rng),
        "rows, arena-hard's nominal 90 %": rows_bootstrap(values, rng, 0.9),
    }


def paired(rng: np.random.Generator, *, prompts: int, per_prompt: int) -> Draw:
    """Two methods on the same items of the same prompts."""
    items = prompts * per_prompt
    groups = np.repeat(np.arange(prompts), per_prompt)
    shared = rng.normal(size=prompts)[groups] + rng.normal(size=items)
    tastes = rng.normal(size=(prompts, 2))[groups] * 0.5
    both = shared[:, None] + tastes + rng.normal(size=(items, 2)) + np.array([0.3, 0.0])
    seed = int(rng.integers(1 << 31))
    return 0.3, {
        "paired, clustered": compare(both[:, 0], both[:, 1], groups.tolist(), seed=seed).ci95,
        "paired, rows": rows_bootstrap(both[:, 0] - both[:, 1], rng),
    }


def three_levels(values: Floats, groups: list[int], rng: np.random.Generator) -> Interval:
    """Resample seeds, then groups, and take percentiles: the textbook hierarchical bootstrap."""
    seed = int(rng.integers(1 << 31))
    drawn = replicates(cluster(values.T, groups), seed=seed, resamples=RESAMPLES)
    seeds = rng.integers(len(values), size=(RESAMPLES, len(values)))
    means = np.take_along_axis(drawn, seeds, axis=1).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


PROMPTS, USERS = 50, 4


def seeded(rng: np.random.Generator, shared: Floats, seed_sd: float) -> Floats:
    """Return (seeds, items) values of three training seeds on items with `shared` difficulty."""
    seeds = rng.normal(size=(3, 1)) * seed_sd
    return shared + seeds + rng.normal(size=(3, len(shared)))


def difficulty(rng: np.random.Generator) -> Floats:
    """Return (items,) difficulties, in part those of the prompts."""
    prompts = np.repeat(rng.normal(size=PROMPTS), USERS)
    return 0.5 * prompts + 0.5 * rng.normal(size=PROMPTS * USERS)


def hierarchical(rng: np.random.Generator, *, seed_sd: float) -> Draw:
    """One method, three training seeds, 50 prompts of 4 users."""
    groups = np.repeat(np.arange(PROMPTS), USERS).tolist()
    values = seeded(rng, difficulty(rng), seed_sd)
    seed = int(rng.integers(1 << 31))
    summary = seed_summaries([values], groups, seed=seed, resamples=RESAMPLES)[0]
    return 0.0, {
        "seeds and items": summary.ci95,
        "items alone": summary.items_ci95,
        "three-level resampling": three_levels(values, groups, rng),
    }


def crossed(rng: np.random.Generator, *, prompts: int, users: int, items: int) -> Draw:
    """Items that share prompts and users, in no order."""
    prompt, user = rng.integers(prompts, size=items), rng.integers(users, size=items)
    values = rng.normal(size=prompts)[prompt] * 0.5 + rng.normal(size=users)[user] * 0.5
    values += rng.normal(size=items)
    seed = int(rng.integers(1 << 31))
    return 0.0, {
        "two-way": two_way_intervals(
            values[:, None], prompt.tolist(), user.tolist(), seed=seed, resamples=RESAMPLES
        )[0],
        "prompts alone": mean_intervals(values, prompt.tolist(), seed=seed, resamples=RESAMPLES)[0],
        "rows": rows_bootstrap(values, rng),
    }


def cases() -> Iterator[Case]:
    """Yield every kind of data, at the sizes of the paper's suites where they have one."""
    for prompts, per_prompt, suite in ((200, 1, "CA"), (50, 4, "-"), (21, 4, "MB")):
        yield Case(
            name=f"clustered win rate, {prompts} prompts x {per_prompt} (size of {suite})",
            draw=partial(clustered_rates, prompts=prompts, per_prompt=per_prompt),
            ours=("clustered percentile",),
        )
    yield Case(
        name="games in both orders, strong wins x 3, 150 prompts",
        draw=partial(arena_games, prompts=150),
        ours=("clustered percentile",),
    )
    yield Case(
        name="paired difference, 50 prompts x 4",
        draw=partial(paired, prompts=50, per_prompt=4),
        ours=("paired, clustered",),
    )
    for seed_sd in (0.0, 0.1, 0.5):
        yield Case(
            name=f"hierarchical mean, 3 seeds of sd {seed_sd}, 50 prompts x 4",
            draw=partial(hierarchical, seed_sd=seed_sd),
            ours=("seeds and items",),
        )
    yield Case(
        name="prompts and users crossed, 40 x 40, 300 items",
        draw=partial(crossed, prompts=40, users=40, items=300),
        ours=("two-way",),
    )


def simulate(case: Case, simulations: int, seed: int) -> bool:
    """Print the coverage and width of each method; return whether ours are as promised."""
    rng = np.random.default_rng(seed)
    inside: dict[str, int] = defaultdict(int)
    widths: dict[str, float] = defaultdict(float)
    for _ in range(simulations):
        truth, intervals = case.draw(rng)
        for method, interval in intervals.items():
            if interval is not None:
                inside[method] += interval[0] <= truth <= interval[1]
                widths[method] += interval[1] - interval[0]
    print(f"\n{case.name}")
    good = True
    for method, count in inside.items():
        coverage = 100 * count / simulations
        promised = method in case.ours
        good &= not promised or LOW <= coverage <= HIGH
        mark = "" if not promised else "  ok" if LOW <= coverage <= HIGH else "  OUTSIDE 93-97"
        print(f"  {method:34} {coverage:5.1f} %   width {widths[method] / simulations:7.3f}{mark}")
    return good


def main() -> int:
    """Simulate every case; fail when one of ours is outside 93-97 %."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(f"coverage of nominal 95 % intervals, {options.simulations} simulations each")
    return 0 if all([simulate(c, options.simulations, options.seed) for c in cases()]) else 1


if __name__ == "__main__":
    sys.exit(main())
