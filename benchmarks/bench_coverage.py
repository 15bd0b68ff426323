"""How often the statistics are right, by simulation.

    python -m benchmarks.bench_coverage [--simulations 2000] [--only WORD] [--jobs N]

Every case draws items whose dependence is known. An interval should hold the truth in 95 of 100
draws: 93 to 97 is right, more is named conservative, less fails. A test of what is not there should
find something in 5 of 100: up to 6.5 % passes (three standard errors of 2,000 draws). Beside ours
stands what others do: rows as if they were independent, prompts alone, items of one seed's mean.
"""

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from itertools import chain
from multiprocessing import get_context

import numpy as np

from benchmarks.coverage.cases import Coverage, Found
from benchmarks.coverage.equals import findings
from benchmarks.coverage.margins import at_margins
from benchmarks.coverage.means import coverages, coverages_of_wins
from benchmarks.coverage.of_judges import coverages_of_judges
from benchmarks.coverage.plans import powers
from benchmarks.coverage.texts import of_texts

LOW, HIGH, MOST, PROMISED = 93.0, 97.0, 6.5, 2.0

Told = tuple[bool, str]
"""Whether ours hold what they promise, and what to print."""


def cover(case: Coverage, simulations: int, seed: int) -> Told:
    """Return the coverage and width of each method."""
    rng = np.random.default_rng(seed)
    inside: dict[str, list[bool]] = defaultdict(list)
    widths: dict[str, list[float]] = defaultdict(list)
    for _ in range(simulations):
        truth, intervals = case.draw(rng)
        for method, interval in intervals.items():
            if interval is not None:
                inside[method].append(interval[0] <= truth <= interval[1])
                widths[method].append(interval[1] - interval[0])
    lines, good = [f"\n{case.name}"], True
    for method, held in inside.items():
        coverage, mark = 100 * float(np.mean(held)), ""
        if method in case.ours:
            good &= coverage >= LOW
            mark = "TOO LOW" if coverage < LOW else "ok" if coverage <= HIGH else "conservative"
        refused = simulations - len(held)
        told = f"   refused {refused}" if refused else ""
        width = float(np.median(widths[method]))
        lines.append(f"  {method:30} {coverage:5.1f} %   width {width:8.3f}  {mark}{told}")
    return good, "\n".join(lines)


def find(case: Found, simulations: int, seed: int) -> Told:
    """Return how often each method finds something."""
    rng = np.random.default_rng(seed)
    told: dict[str, list[float]] = defaultdict(list)
    for _ in range(simulations):
        for method, found in case.draw(rng).items():
            told[method].append(found)
    lines, good = [f"\n{case.name}"], True
    for method, all_found in told.items():
        share, mark = 100 * float(np.mean(all_found)), ""
        if not isinstance(all_found[0], bool):
            mark = f"median {100 * float(np.median(all_found)):.1f} %"
        if method in case.ours and not case.wanted:
            good &= share <= MOST
            mark = "ok" if share <= MOST else "TOO OFTEN"
        if method in case.ours and "(80)" in method:
            good &= abs(share - 80) <= PROMISED
            mark = "ok" if abs(share - 80) <= PROMISED else "NOT AS PROMISED"
        lines.append(f"  {method:24} {share:5.1f} %   {mark}")
    return good, "\n".join(lines)


def simulated(case: Coverage | Found, simulations: int, seed: int) -> Told:
    """Return what became of one case."""
    run = cover if isinstance(case, Coverage) else find
    return run(case, simulations, seed)  # type: ignore[arg-type]


def main() -> int:
    """Simulate every case; fail where one of ours does not hold what it promises."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--simulations", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="cases whose names hold this word")
    parser.add_argument("--jobs", type=int, default=1, help="processes; each case is one's own")
    options = parser.parse_args()
    print(f"nominal 95 % intervals and 5 % tests, {options.simulations} simulations each")
    covered = chain(coverages(), coverages_of_wins(), coverages_of_judges(), of_texts())
    tested = chain(findings(), at_margins(), powers())
    every: Iterable[Coverage | Found] = chain(covered, tested)
    cases = [case for case in every if options.only in case.name]
    simulate = partial(simulated, simulations=options.simulations, seed=options.seed)
    good = True
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        for held, lines in pool.map(simulate, cases):
            print(lines, flush=True)
            good &= held
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
