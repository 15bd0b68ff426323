"""What a benchmark finds: rows of docs/benchmarks.md."""

import math
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One thing, measured once, beside another in the same run where there is one."""

    name: str
    size: str = ""
    ours: float | None
    """None: it could not be measured, `note` says why."""
    other: float | None = None
    ratio: float | None = None
    """How many times as good as the other, unless the name says otherwise."""
    wanted: str = ""
    """As ">= 5" or "<= 1.05": of the ratio, where there is one, else of ours."""
    unit: str = "s"
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether it is as good as wanted; None where nothing is wanted or measured."""
        figure = self.ours if self.ratio is None else self.ratio
        if not self.wanted or figure is None:
            return None
        relation, limit = self.wanted.split()
        return figure >= float(limit) if relation == ">=" else figure <= float(limit)


def median_seconds(
    call: Callable[[], object], times: int = 3, clock: Callable[[], float] = time.process_time
) -> float:
    """Return the median time of some calls.

    By default of the processor: where nothing is waited for, other work changes it least.
    """
    found = []
    for _ in range(times):
        start = clock()
        call()
        found.append(clock() - start)
    return statistics.median(found)


def of_children() -> float:
    """Return the seconds of the processor that processes took which this one started."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Return the power of the size that a cost grows with: the slope of a line through logs."""
    return statistics.linear_regression(
        [math.log(size) for size in sizes], [math.log(cost) for cost in costs]
    ).slope


def compared(
    other: Callable[[], float], *, name: str, size: str, ours: float, wanted: str = ""
) -> Result:
    """Return how many times as long the other takes; why not, where it raises RuntimeError."""
    try:
        found = other()
    except RuntimeError as error:
        return Result(name=name, size=size, ours=ours, note=f"not compared: {error}")
    return Result(name=name, size=size, ours=ours, other=found, ratio=found / ours, wanted=wanted)
