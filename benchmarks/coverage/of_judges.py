"""Agreement of judges, their noise, and judges as a sample."""

from collections.abc import Iterator
from functools import cache, partial

import numpy as np
from scipy.special import ndtr

from benchmarks.coverage.cases import Coverage, Intervals, groups_of
from mipo_eval.judges.panel import sample_balance
from mipo_eval.metrics.agreement import agreement, reliability
from mipo_eval.stats import (
    mean_intervals,
)
from mipo_eval.stats.bootstrap import Interval
from mipo_eval.stats.noise import judge_noise
from mipo_eval.verdict import PairVerdict


def rated(rng: np.random.Generator, *, prompts: int, each: int, error: float) -> list[list[int]]:
    """Return what three judges give each item, 1 to 5; half of the items' variance is prompts'."""
    worth = np.repeat(rng.normal(size=prompts), each) + rng.normal(size=prompts * each)
    seen = 0.7 * worth[:, None] + error * rng.normal(size=(len(worth), 3))
    ratings: list[list[int]] = (1 + np.searchsorted([-1.2, -0.4, 0.4, 1.2], seen)).tolist()
    return ratings


def agreed(
    said: list[list[int]], what: str, labels: list[int] | None
) -> tuple[float | None, Interval | None]:
    """Return a kappa of the first two, or alpha of all where every fifth rating is missing."""
    if what == "alpha":
        holes = [
            [None if (item + judge) % 5 == 0 else rating for judge, rating in enumerate(row)]
            for item, row in enumerate(said)
        ]
        of_all = reliability(holes, "ordinal", labels)
        return of_all.alpha, of_all.alpha_ci95
    two = agreement([row[0] for row in said], [row[1] for row in said], labels)
    if what == "kappa":
        return two.kappa, two.kappa_ci95
    return two.weighted_kappa, two.weighted_kappa_ci95


@cache
def agreement_truth(error: float, what: str) -> float:
    """Return what a great many items show."""
    many = rated(np.random.default_rng(0), prompts=100_000, each=2, error=error)
    return agreed(many, what, None)[0] or 0.0


def agreeing(
    rng: np.random.Generator, *, prompts: int, each: int, error: float, what: str
) -> tuple[float, Intervals]:
    """How far judges agree."""
    said = rated(rng, prompts=prompts, each=each, error=error)
    ours = agreed(said, what, groups_of(prompts, each))[1]
    return agreement_truth(error, what), {"clustered": ours, "rows": agreed(said, what, None)[1]}


def noisy(
    rng: np.random.Generator, *, prompts: int, each: int, firm: float, repeats: int
) -> tuple[float, Intervals]:
    """The judge's part of a win rate's variance: a quarter of the items is asked again."""
    worth = rng.normal(size=(prompts, 1)) + rng.normal(size=(prompts, each))
    chance = ndtr(0.7 * firm * worth).ravel()
    drawn = rng.random((len(chance), repeats + 1)) < chance[:, None]
    answers = 100.0 * drawn.astype(np.float64)
    labels = np.repeat(np.arange(prompts), each)
    asked = rng.permutation(len(chance))[: len(chance) // 4]
    found = judge_noise(answers[asked], labels[asked].tolist(), answers[:, 0], labels.tolist())
    return noise_truth(firm, each), {"share": found.share_ci95 if found else None}


@cache
def noise_truth(firm: float, each: int) -> float:
    """Return the noise's part, by a great many prompts of two items."""
    rng = np.random.default_rng(0)
    chance = ndtr(0.7 * firm * (rng.normal(size=(400_000, 1)) + rng.normal(size=(400_000, 2))))
    noise, shared = float((chance * (1 - chance)).mean()), float(np.cov(chance.T)[0, 1])
    return 100 * noise / (noise + float(chance.var()) + (each - 1) * shared)


def sampled(rng: np.random.Generator, *, judges: int, judge_sd: float) -> tuple[float, Intervals]:
    """Win rate of equals, by judges who differ in leniency and in what they see: 40 prompts x 4."""
    worth = np.repeat(rng.normal(size=40), 4) + rng.normal(size=160)
    seen = worth[:, None] + judge_sd * rng.normal(size=judges) + rng.normal(size=(160, judges))
    of_judges = [
        [PairVerdict(winner="a" if won else "b") for won in (seen[:, judge] > 0).tolist()]
        for judge in range(judges)
    ]
    labels = groups_of(40, 4)
    alone = 100 * (seen > 0).mean(axis=1)
    return 50.0, {
        "judges and items": sample_balance(of_judges, groups=labels).half.ci95,
        "these judges": mean_intervals(alone, labels)[0],
    }


def coverages_of_judges() -> Iterator[Coverage]:
    """Yield every kind of data about judges with intervals."""
    for judges in (3, 5):
        for judge_sd in (0.0, 0.3, 1.0):
            yield Coverage(
                name=f"win rate over {judges} judges of leniency {judge_sd}, 40 prompts x 4",
                draw=partial(sampled, judges=judges, judge_sd=judge_sd),
                ours=("judges and items",),
            )
    for firm in (0.5, 2.0, 10.0):
        for prompts, each, repeats in ((50, 8, 1), (100, 4, 3)):
            yield Coverage(
                name=f"part of noise, firmness {firm:g}, {prompts} prompts x {each}, asked "
                f"{repeats} times again",
                draw=partial(noisy, prompts=prompts, each=each, firm=firm, repeats=repeats),
                ours=("share",),
            )
    for prompts, each in ((10, 4), (50, 4), (100, 1)):
        for error in (0.1, 0.5, 2.0):
            for what in ("kappa", "weighted kappa", "alpha"):
                yield Coverage(
                    name=f"{what}, judges of error {error}, {prompts} prompts x {each}",
                    draw=partial(agreeing, prompts=prompts, each=each, error=error, what=what),
                    ours=("clustered",),
                )
