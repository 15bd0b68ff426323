"""What a metric takes over a million items of 250,000 prompts, with intervals by prompt.

Values are numbers, labels or texts of 20 words drawn at random; one item in 20 has none.
Seconds are of the processor.
"""

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from benchmarks.results import Result, exponent, median_seconds
from mipo_eval.metrics.aggregate import mean_score, rate_score
from mipo_eval.metrics.agreement import agreement, reliability
from mipo_eval.metrics.calibration import calibration_scores, choice_outcome
from mipo_eval.metrics.context_lift import context_scores
from mipo_eval.metrics.diversity import diversity_scores, same_prompt_scores
from mipo_eval.metrics.self_bleu import self_bleu_score
from mipo_eval.metrics.win_rate import win_rates
from mipo_eval.records import ContextLikelihoods


def measure(quick: bool) -> Iterator[Result]:
    """Time every kind of metric at a tenth of the items and at all of them."""
    sizes = (200, 2000) if quick else (100_000, 1_000_000)
    for _, call in _metrics(100):
        call()  # imports are not what is measured
    for few, many in zip(*map(_metrics, sizes), strict=True):
        costs = [median_seconds(call, 1) for _, call in (few, many)]
        yield Result(
            name=many[0], size=f"{sizes[-1]:,} items", ours=costs[-1], wanted="<= 10",
            note=f"its cost grew with the power {exponent(sizes, costs):.2f} of the size",
        )  # fmt: skip


def _metrics(n: int) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what is measured of `n` items, and how."""
    rng = random.Random(0)

    def drawn(one: Callable[[], Any]) -> list[Any]:
        return [None if rng.random() < 0.05 else one() for _ in range(n)]

    def text() -> str:
        return " ".join(f"w{int(1000 * rng.random() ** 3)}" for _ in range(20))

    def rating() -> int:
        return rng.randint(1, 5)

    groups = [i // 4 for i in range(n)]
    yield "A mean", partial(mean_score, "m", drawn(lambda: rng.gauss(0, 1)), groups=groups)
    rights = drawn(lambda: 100.0 * (rng.random() < 0.6))
    yield "A rate", partial(rate_score, "m", rights, groups=groups)
    yield (
        "Win rates by all tie rules",
        partial(win_rates, drawn(rating), drawn(rating), groups=groups),
    )
    yield "Agreement of two raters", partial(agreement, drawn(rating), drawn(rating), groups)
    raters = [drawn(rating) for _ in range(3)]
    yield (
        "Reliability of three raters",
        partial(reliability, list(zip(*raters, strict=True)), "ordinal", groups),
    )
    outcomes = drawn(lambda: choice_outcome([rng.gauss(0, 2) for _ in range(4)], 0))
    yield (
        "Accuracy and calibration",
        partial(calibration_scores, outcomes, choices="letters", groups=groups),
    )
    lifts = drawn(
        lambda: ContextLikelihoods(
            without_context=-50.0, with_contexts=(rng.gauss(-45, 3), -50.0), tokens=20
        )
    )
    yield (
        "Context lift, retrieval, bound",
        partial(context_scores, lifts, scorer="bench", groups=groups),
    )
    texts = drawn(text)
    yield "Self-BLEU-4", partial(self_bleu_score, texts, groups=groups)
    yield "Diversity at a fixed size", partial(diversity_scores, texts, groups, size=80)
    yield (
        "Self-BLEU within prompts, all texts and pairs",
        partial(same_prompt_scores, texts, groups),
    )
