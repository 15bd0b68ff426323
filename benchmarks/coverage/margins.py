"""Differences that lie at a margin, and judging until something is decided."""

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np
from scipy.special import stdtr

from benchmarks.coverage.cases import Found, groups_of, outcomes, rows_interval, seeded
from mipo_eval.stats import (
    compare,
    compare_all,
)
from mipo_eval.stats.bootstrap import Floats
from mipo_eval.stats.intervals import NET
from mipo_eval.stats.margin import within
from mipo_eval.stats.sequence import sequence_evidence

MARGINS = (
    (200, 1, (0.0, 0.02), 2.0),
    (300, 1, (0.08, 0.11), 3.0),
    (100, 3, (0.08, 0.11), 3.0),
    (40, 5, (0.01, 0.06), 5.0),
    (24, 8, (0.25, 0.35), 10.0),
)
"""Groups, items of each, rates of wins and losses, and the margin that they lie at."""


def at_margin(
    rng: np.random.Generator, *, groups: int, each: int, rates: tuple[float, float], margin: float
) -> Mapping[str, bool]:
    """What is shown of a difference and a margin."""
    values = outcomes(rng, groups, each, rates)
    pair = compare(values, np.zeros(len(values)), groups_of(groups, each), span=(0.0, 100.0))
    (found,) = within([pair.evidence], margin)
    by_rows = rows_interval(values)
    return {
        "not worse": found is not None and found.p_above < 0.05,
        "equivalent": found is not None and found.finding() == "equivalent",
        "95 % interval above (2.5)": pair.ci95 is not None and pair.ci95[0] > -margin,
        "the same by rows (2.5)": by_rows is not None and by_rows[0] > -margin,
    }


def seeds_at_margin(
    rng: np.random.Generator, *, seeds: int, seed_sd: float, gap: float
) -> Mapping[str, bool]:
    """Two methods of several training seeds, the margin being 0.4."""
    table = seeded(rng, methods=2, seeds=seeds, seed_sd=seed_sd)
    table[:, 0] += gap
    labels = groups_of(50, 4)
    means = table.mean(axis=2)
    pairs = compare_all(table, ["a", "b"], labels), compare_all(means, ["a", "b"], labels)
    shown = [within([pair.evidence], 0.4)[0] for (pair,) in pairs]
    return {
        name: found is not None and found.p_above < 0.05
        for name, found in zip(("not worse", "items alone"), shown, strict=True)
    }


def looks(groups: int, each: int) -> Iterator[int]:
    """Yield how many items are judged at each look, as `judge --until-decided` has them."""
    asked = 0
    while asked < groups * each:
        asked = min(groups * each, asked + -(-max(32, asked // 8) // each) * each)
        yield asked


def t_test(values: Floats, each: int) -> bool:
    """Return whether groups' means are told from 0 by the t-test of a size settled before."""
    means = values.reshape(-1, each).mean(axis=1)
    error = means.std(ddof=1) / np.sqrt(len(means))
    return bool(error > 0 and 2 * stdtr(len(means) - 1, -abs(means.mean()) / error) < 0.05)


def until_decided(
    rng: np.random.Generator, *, groups: int, each: int, rates: tuple[float, float]
) -> Mapping[str, float]:
    """How often an answer is found when one looks again and again, and what share is asked."""
    values, labels = outcomes(rng, groups, each, rates), groups_of(groups, each)
    size, stopped, peeked = groups * each, None, None
    for asked in looks(groups, each):
        seen = np.where(np.arange(size) < asked, values, np.nan)
        evidence = sequence_evidence(seen, labels, NET)
        if stopped is None and evidence is not None:
            found = min(evidence.p_above(0.0), evidence.p_below(0.0)) < 0.05
            stopped = asked if found else None
        if peeked is None and t_test(values[:asked], each):
            peeked = asked
    return {
        "until decided": stopped is not None,
        "fixed n, all items": t_test(values, each),
        "fixed n, peeking": peeked is not None,
        "items asked, of all": (stopped or size) / size,
    }


def at_margins() -> Iterator[Found]:
    """Yield every kind of difference at a margin, and of looking again and again."""
    for groups, each, rates, margin in MARGINS:
        yield Found(
            name=f"at the margin of {margin:g} points, {groups} groups x {each}",
            draw=partial(at_margin, groups=groups, each=each, rates=rates, margin=margin),
            ours=("not worse", "equivalent"),
        )
    for groups, each in ((500, 1), (1000, 1), (60, 8)):
        yield Found(
            name=f"no difference, margin of 5 points, {groups} groups x {each}: power",
            draw=partial(at_margin, groups=groups, each=each, rates=(0.06, 0.06), margin=5.0),
            ours=(),
            wanted=True,
        )
    for seeds, seed_sd in ((2, 0.0), (2, 0.3), (3, 0.1), (3, 0.3)):
        yield Found(
            name=f"at the margin, {seeds} seeds of sd {seed_sd}",
            draw=partial(seeds_at_margin, seeds=seeds, seed_sd=seed_sd, gap=-0.4),
            ours=("not worse",),
        )
    for groups, each in ((1000, 1), (200, 5), (24, 8)):
        yield Found(
            name=f"looking again and again, equal methods, {groups} groups x {each}",
            draw=partial(until_decided, groups=groups, each=each, rates=(0.3, 0.3)),
            ours=("until decided",),
        )
    for groups, each in ((1000, 1), (200, 5)):
        for net in (10, 20, 40):
            rates = (0.3 + net / 200, 0.3 - net / 200)
            yield Found(
                name=f"looking again, net win rate of {net}, {groups} groups x {each}: power",
                draw=partial(until_decided, groups=groups, each=each, rates=rates),
                ours=(),
                wanted=True,
            )
