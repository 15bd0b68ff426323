"""Data whose truth is known, and what is asked of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from mipo_eval.stats import (
    Crossed,
    mean_intervals,
)
from mipo_eval.stats.bootstrap import Floats, Index, Interval

Intervals = Mapping[str, Interval | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Data whose truth is known, and intervals for it; `ours` must hold it."""

    name: str
    draw: Callable[[np.random.Generator], tuple[float, Intervals]]
    ours: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Data and what tests find in it; `ours` must find no more than by chance."""

    name: str
    draw: Callable[[np.random.Generator], Mapping[str, float]]
    """True and False, or a share: of those the mean is shown, and the median beside it."""
    ours: tuple[str, ...]
    wanted: bool = False
    """Whether there is something to find: the numbers are then power, and more is better."""


def rows_interval(values: Floats) -> Interval | None:
    """Return the interval of rows as if they were independent."""
    return mean_intervals(values)[0]


def groups_of(n_groups: int, each: int) -> list[int]:
    """Return the labels of so many groups of so many items."""
    return np.repeat(np.arange(n_groups), each).tolist()


def crossed_labels(prompts: Index, users: Index) -> list[Crossed]:
    """Return one label per item."""
    return [Crossed(p, u) for p, u in zip(prompts.tolist(), users.tolist(), strict=True)]


def seeded(rng: np.random.Generator, *, methods: int, seeds: int, seed_sd: float) -> Floats:
    """Return (items, methods, seeds) of equal methods: 50 prompts of 4 users."""
    prompts = np.repeat(rng.normal(size=50), 4)
    shared = (0.5 * prompts + 0.5 * rng.normal(size=200))[:, None, None]
    spread = rng.normal(size=(1, methods, seeds)) * seed_sd
    return shared + spread + 0.7 * rng.normal(size=(200, methods, seeds))


def outcomes(
    rng: np.random.Generator, groups: int, each: int, rates: tuple[float, float]
) -> Floats:
    """Return wins (100), losses (-100) and ties of items whose groups have tastes."""
    tastes = 0.55 * rng.normal(size=(groups, 1)) + 0.835 * rng.normal(size=(groups, each))
    place = ndtr(tastes.ravel())
    return 100.0 * ((place > 1 - rates[0]).astype(float) - (place < rates[1]))
