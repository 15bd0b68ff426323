"""What one waits for before anything happens: `--help`, and the import of the package.

Beside them stands Python itself, which does nothing. Seconds are of the processor: nothing is
waited for, and other work on the machine changes them less.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from benchmarks.judge_server import REPOSITORY
from benchmarks.results import Result, median_seconds, of_children

_COMMANDS = {
    "mipo-eval --help": (["-m", "mipo_eval", "--help"], "<= 0.4"),
    "mipo-eval judge --help": (["-m", "mipo_eval", "judge", "--help"], "<= 0.4"),
    "import mipo_eval": (["-c", "import mipo_eval"], "<= 0.1"),
}


def measure(quick: bool) -> Iterator[Result]:
    """Time each in processes of their own, in turns with an empty one."""
    for name, (arguments, wanted) in _COMMANDS.items():
        times = 1 if quick else 9
        nothing = median_seconds(lambda: _run(["-c", ""]), times, of_children)
        took = median_seconds(partial(_run, arguments), times, of_children)
        if "import" in name:
            took -= nothing
        yield Result(
            name=name, ours=took, wanted=wanted, note=f"Python alone takes {nothing:.3f} s"
        )


def _run(arguments: list[str]) -> None:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    subprocess.run(
        [sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL, env=environment
    )
