"""Intervals of a single column, which most tests are about."""

import numpy as np

from mipo_eval.stats.bootstrap import Interval
from mipo_eval.stats.intervals import mean_intervals


def mean_interval(values, groups=None, **options) -> Interval | None:
    """The interval of one mean."""
    return mean_intervals(np.asarray(values, dtype=np.float64).reshape(-1, 1), groups, **options)[0]
