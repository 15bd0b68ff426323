"""How many of torch's threads are worth having just now: found by trying.

torch takes one thread per core and lets those that wait spin. Beside another busy process, or where
a container was given less than the cores it sees, two threads can take three times as long as one;
on an idle machine a large model wants them all. Only a trial tells, so a model that is loaded onto
the processor is tried for a fraction of a second.
"""

import os
import time
from functools import cache
from typing import Any

_ROUNDS = 5
_ROUND_SECONDS = 0.02
_MOST_NUMBERS = 1 << 18
"""In the matrix of the trial: more rows of a wide one would take seconds and change nothing."""
_USUAL_WIDTH = 1024
"""Of the hidden states, where a configuration does not say."""
_GAIN = 0.9
"""More threads are taken if they need at most this share of the time of fewer."""


def fit_threads(model: Any, *, rows: int) -> None:
    """Choose the threads for a loaded model; nothing happens where it is not on the processor.

    `rows` are those of the matrices it will multiply: texts at a time where it generates, tokens at
    a time where it learns.
    """
    if model.device.type == "cpu":
        width = getattr(model.config.get_text_config(), "hidden_size", None)
        choose_threads(rows, int(width or _USUAL_WIDTH))


def choose_threads(rows: int, width: int) -> int:
    """Set and return the number of torch's threads that multiplies fastest just now.

    From one to one per core; where OMP_NUM_THREADS says how many, that holds. Matrices are tried
    of so many rows, and of the width of a model's hidden states.
    """
    import torch

    if os.environ.get("OMP_NUM_THREADS"):
        return torch.get_num_threads()
    most, chosen = _most_threads(), 1
    while chosen < most:
        more = min(2 * chosen, most)
        if not _better(more, chosen, rows=rows, width=width):
            break
        chosen = more
    torch.set_num_threads(chosen)
    return chosen


@cache
def _most_threads() -> int:
    """Return how many threads torch came with: one per core it may use."""
    import torch

    return torch.get_num_threads()


def _better(more: int, fewer: int, *, rows: int, width: int) -> bool:
    """Try both in turn, so that a neighbour's bursts of work meet both alike."""
    import torch

    rows = max(1, min(rows, _MOST_NUMBERS // width))
    states, weights = torch.ones(rows, width), torch.ones(width, width)

    def seconds(threads: int, times: int) -> float:
        torch.set_num_threads(threads)
        torch.relu(states @ weights)  # starts the threads
        began = time.perf_counter()
        for _ in range(times):
            torch.relu(states @ weights)
        return time.perf_counter() - began

    with torch.no_grad():
        times = max(1, round(_ROUND_SECONDS / seconds(fewer, 1)))
        rounds = [(seconds(more, times), seconds(fewer, times)) for _ in range(_ROUNDS)]
    return sum(one for one, _ in rounds) < _GAIN * sum(other for _, other in rounds)
