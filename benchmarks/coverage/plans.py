"""What is said to be detectable, and whether it is found."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial

import numpy as np
from scipy.special import ndtr, ndtri

from benchmarks.coverage.cases import Found, groups_of, seeded
from mipo_eval.stats import (
    compare,
    compare_all,
)
from mipo_eval.stats.bootstrap import Floats
from mipo_eval.stats.power import Design


def sums_of_users(rng: np.random.Generator, users: int, items: int, gap: float) -> Floats:
    """Differences of two methods; a quarter of the variance is the users', if they come back."""
    taste = rng.normal(size=users).repeat(items // users) * (users < items) / np.sqrt(3)
    return np.asarray(taste + rng.normal(size=items) + gap)


def wins_of_users(rng: np.random.Generator, users: int, items: int, gap: float) -> Floats:
    """The same of wins, in points: how hard items are differs, and who likes whom."""
    liked = 0.5
    shift = np.sqrt(2 + liked**2) * ndtri((1 + min(gap, 99.9) / 100) / 2)
    taste = rng.normal(size=users).repeat(items // users) * liked
    hard = rng.normal(size=items)
    first, second = (rng.random(items) < ndtr(hard + sign * (taste + shift)) for sign in (1, -1))
    return np.asarray(100.0 * first - 100.0 * second)


def planned(
    rng: np.random.Generator, *, draw: Callable[..., Floats], users: int, items: int
) -> Mapping[str, bool]:
    """Whether a difference is found that the items are said to show in 80 of 100 repetitions."""
    labels, nothing = groups_of(users, items // users), np.zeros(items)
    detectable = compare(draw(rng, users, items, 0.0), nothing, labels).detectable
    repeated = draw(rng, users, items, detectable or 0.0)
    return {"found (80)": compare(repeated, nothing, labels).significant()}


def planned_seeds(rng: np.random.Generator, *, seeds: int, seed_sd: float) -> Mapping[str, bool]:
    """The same of methods with several training seeds: as it was seen, and as it was planned."""
    labels, names = groups_of(50, 4), ["a", "b"]
    seen = compare_all(seeded(rng, methods=2, seeds=seeds, seed_sd=seed_sd), names, labels)
    design = Design(
        sd_first=0.7,
        sd_second=0.7,
        seed_sd=seed_sd,
        items_per_group=4,
    )
    found = {}
    for name, gap in (
        ("found (80)", seen[0].detectable or 0.0),
        ("as planned (80)", design.detectable(200, seeds)),
    ):
        table = seeded(rng, methods=2, seeds=seeds, seed_sd=seed_sd)
        table[:, 0] += gap
        found[name] = compare_all(table, names, labels)[0].significant()
    return found


def powers() -> Iterator[Found]:
    """Yield plans, each of which promises to find something in 80 of 100 repetitions."""
    for what, draw in (("differences", sums_of_users), ("wins", wins_of_users)):
        for users, items in ((20, 20), (50, 50), (100, 100), (10, 20), (10, 50), (25, 100)):
            yield Found(
                name=f"the detectable difference, {what}, {users} users, {items} items: power",
                draw=partial(planned, draw=draw, users=users, items=items),
                ours=("found (80)",),
                wanted=True,
            )
    for seeds in (2, 3, 5):
        for seed_sd in (0.1, 0.5):
            yield Found(
                name=f"the detectable difference, {seeds} seeds of sd {seed_sd}: power",
                draw=partial(planned_seeds, seeds=seeds, seed_sd=seed_sd),
                ours=(),
                wanted=True,
            )
