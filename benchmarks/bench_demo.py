"""How long `mipo-eval demo` takes on worse and worse machines, and whether its table changes.

Each case is the whole command in a process of its own with nothing kept from before; worse machines
are made from this one (Linux):

    quiet         as it comes
    one thread    OMP_NUM_THREADS=1
    busy          another process computes without a break
    no AVX-512    with the libraries' kernels for AVX2, on one core
    shared core   the same, and another process computes on that core

Seconds are of the clock and of the processor. The table is compared number by number with the first
case's, intervals included.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from benchmarks.results import Result

LIMIT = 180.0
"""Seconds of the clock that no case should need."""

_AVX2 = {
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
_COMPUTE = "while True: sum(i * i for i in range(10_000))"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A machine made worse."""

    environment: Mapping[str, str] = field(default_factory=dict)
    cores: int | None = None
    """How many the command may use; None: all."""
    neighbours: int = 0
    """Processes that compute beside it, on the cores that it may use."""


CASES = {
    "quiet": Case(),
    "one thread": Case(environment={"OMP_NUM_THREADS": "1"}),
    "busy": Case(neighbours=1),
    "no AVX-512": Case(environment=_AVX2, cores=1),
    "shared core": Case(environment=_AVX2, cores=1, neighbours=1),
}


@contextmanager
def neighbours(count: int) -> Iterator[None]:
    """Let other processes compute meanwhile."""
    started = [subprocess.Popen([sys.executable, "-c", _COMPUTE]) for _ in range(count)]
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.wait()


@contextmanager
def on_cores(count: int | None) -> Iterator[None]:
    """Keep what is started meanwhile on the first `count` cores."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run(case: Case) -> tuple[float, float, Any]:
    """Return seconds of the clock, seconds of the processor, and the table of one demo."""
    with tempfile.TemporaryDirectory() as name, on_cores(case.cores), neighbours(case.neighbours):
        own = {"MIPO_EVAL_CACHE": f"{name}/cache", "MIPO_EVAL_STORE": f"{name}/store.db"}
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        began = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "mipo_eval", "demo", "--json"],
            env={**os.environ, **own, **case.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            check=True,
        )
        took = time.perf_counter() - began
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return took, _processor(after) - _processor(used), _numbers(json.loads(done.stdout))


def _processor(usage: resource.struct_rusage) -> float:
    return usage.ru_utime + usage.ru_stime


def _numbers(document: Any) -> list[Any]:
    """Return every number of the table, and the further scores of its runs."""
    return [
        [row["method"], row["satisfied"], row["gain"]]
        + [[s["metric"], s["value"], s["ci95"]] for run in row["runs"] for s in run["scores"]]
        for row in document["methods"]
    ]


def measure(quick: bool) -> Iterator[Result]:
    """Yield a row per case."""
    first = None
    for name, case in CASES.items():
        took, processor, table = run(case)
        first = first or table
        same = "the same table" if table == first else "ANOTHER TABLE"
        yield Result(
            name="mipo-eval demo", size=name, ours=took, wanted=f"<= {LIMIT:g}",
            note=f"{processor:.0f} s of the processor, {same}",
        )  # fmt: skip
        if quick:
            return
