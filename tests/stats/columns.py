"""Intervals of a single column, which most tests are about."""

import numpy as np

from mipo_eval.stats.bootstrap import Interval, mean_intervals
from mipo_eval.stats.intervals import two_way_intervals


def mean_interval(values, groups=None, **options) -> Interval | None:
    """The interval of one mean."""
    return mean_intervals(np.asarray(values, dtype=np.float64).reshape(-1, 1), groups, **options)[0]


def two_way_interval(values, first, second, **options) -> Interval | None:
    """The interval of one mean over two kinds of groups."""
    column = np.asarray(values, dtype=np.float64).reshape(-1, 1)
    return two_way_intervals(column, first, second, **options)[0]
