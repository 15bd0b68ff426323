"""What a metric takes over a million items of 250,000 prompts, with intervals by prompt.

Scores are numbers, labels or short texts drawn at random; a part of 20 items has none. Beside the
mean stands what numpy takes for it without an interval, from the same list.
"""

import random
from collections.abc import Callable, Iterator

import numpy as np

from benchmarks.results import Result, exponent, median_seconds
from mipo_eval.metrics.aggregate import mean_score, rate_score
from mipo_eval.metrics.agreement import agreement, reliability
from mipo_eval.metrics.calibration import calibration_scores, choice_outcome
from mipo_eval.metrics.context_lift import context_scores
from mipo_eval.metrics.diversity import diversity_scores
from mipo_eval.metrics.self_bleu import self_bleu_score
from mipo_eval.metrics.win_rate import win_rates
from mipo_eval.models.drawing import ContextLikelihoods


def measure(quick: bool) -> Iterator[Result]:
    """Time every kind of metric at a tenth of the items and at all of them."""
    sizes = (200, 2000) if quick else (100_000, 1_000_000)
    names = [name for name, _ in _metrics(10)]
    for index, name in enumerate(names):
        costs = []
        for n in sizes:
            call = list(_metrics(n))[index][1]
            costs.append(median_seconds(call, 1))
        yield Result(
            name=name, size=f"{sizes[-1]:,} items", ours=costs[-1], wanted="<= 10",
            note=f"exponent {exponent(sizes, costs):.2f} from {sizes[0]:,} items",
        )  # fmt: skip


def _metrics(n: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what is measured, and how, over `n` items."""
    rng = random.Random(0)

    def drawn(one: Callable[[], object]) -> list[object]:
        return [None if rng.random() < 0.05 else one() for _ in range(n)]

    groups = [i // 4 for i in range(n)]
    values: list = drawn(lambda: rng.gauss(0, 1))
    rights: list = drawn(lambda: 100.0 * (rng.random() < 0.6))
    ratings: list = drawn(lambda: rng.randint(1, 5))
    others: list = drawn(lambda: rng.randint(1, 5))
    labels: list = drawn(lambda: rng.choice("ABCD"))
    texts: list = drawn(lambda: " ".join(f"w{int(1000 * rng.random() ** 3)}" for _ in range(20)))
