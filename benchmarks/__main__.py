"""Every speed that is promised, measured beside the others in one run; writes docs/benchmarks.md.

    python -m benchmarks                     all of them: an hour and more; `make bench` does it
    python -m benchmarks judging self_bleu   these; of the page only their parts are written
    python -m benchmarks judging --quick     tiny sizes: whether it runs; writes nothing

Each benchmark runs in a process of its own. Other projects' code is in .venv-bench, which
`make bench` makes of benchmarks/peers.txt; what is not there is said in its row.
"""

import argparse
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from benchmarks.page import BENCHMARKS, measured


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure; 1 where a benchmark failed, a goal counts as measured whether it is met or not."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--quick", action="store_true", help="tiny sizes; writes nothing")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.names) - set(BENCHMARKS)):
        parser.error(f"{unknown[0]}: known are {', '.join(BENCHMARKS)}")
    failed = 0
    for name in options.names or BENCHMARKS:
        print(f"-- {name}", flush=True)
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            failed += not pool.submit(measured, name, options.quick).result()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
