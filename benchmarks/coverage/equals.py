"""Methods that are alike, and how often something is found between them."""

from collections.abc import Iterator, Mapping
from functools import partial
from itertools import combinations

import numpy as np

from benchmarks.coverage.cases import Found, crossed_labels, groups_of, seeded
from mipo_eval.stats import (
    adjust,
    best_of,
    compare,
    estimates,
    rank_runs,
)
from mipo_eval.stats.significance import step_down


def users_again(rng: np.random.Generator, *, users: int, each: int) -> Mapping[str, bool]:
    """Two equal methods on prompts that come once and users who come back, each with a taste."""
    by = np.repeat(np.arange(users), each)
    differences = rng.normal(size=users)[by] + rng.normal(size=len(by))
    nothing = np.zeros(len(by))
    labels = crossed_labels(np.arange(len(by)), by)
    return {
        "by user": compare(differences, nothing, labels).significant(),
        "by prompt": compare(differences, nothing).significant(),
    }


def letters(
    rng: np.random.Generator, *, methods: int, seeds: int, seed_sd: float
) -> dict[str, bool]:
    """Whether any two of several equal methods are given different letters."""
    table = seeded(rng, methods=methods, seeds=seeds, seed_sd=seed_sd)
    names, labels = [str(i) for i in range(methods)], groups_of(50, 4)
    found = {"letters": len({r.letters for r in rank_runs(table, names, labels)}) > 1}
    if seeds > 1:
        alone = rank_runs(table.mean(axis=2), names, labels)
        found["letters, items alone"] = len({rank.letters for rank in alone}) > 1
    return found


def corrections(rng: np.random.Generator, *, runs: int, gap: float) -> dict[str, bool]:
    """Whether a family of all pairs of runs tells any (or, with a gap, the first two) apart."""
    table = rng.normal(size=(100, 1)) + rng.normal(size=(100, runs))
    table[:, 0] += gap
    pairs = np.array(list(combinations(range(runs), 2)))
    alone = estimates(table[:, pairs[:, 0]] - table[:, pairs[:, 1]]).p_values()
    together = np.cov(table.T) / 100
    own = slice(0, 1) if gap else slice(None)
    return {
        "max-t": bool((step_down(alone, together, pairs)[own] < 0.05).any()),
        "Holm": bool((adjust(alone, "holm")[own] < 0.05).any()),
    }


def chosen(rng: np.random.Generator, *, k: int) -> Mapping[str, bool]:
    """Whether the best of k is told apart from, and above, another method that is as good."""
    shared = rng.normal(size=(150, 1))
    table = shared + rng.normal(size=(150, k + 1))
    best = best_of(table[:, :k], [str(i) for i in range(k)])
    own = table[:, int(best.name)]
    luck = best.shown - (best.corrected or 0.0)
    found = [compare(values, table[:, k]) for values in (own - luck, own)]
    return {
        name: one.significant() and one.difference > 0
        for name, one in zip(("corrected (2.5)", "as shown (2.5)"), found, strict=True)
    }


def findings() -> Iterator[Found]:
    """Yield every kind of data with tests."""
    for users, each in ((48, 4), (24, 8)):
        yield Found(
            name=f"equal methods, {users} users x {each} prompts of their own",
            draw=partial(users_again, users=users, each=each),
            ours=("by user",),
        )
    for seeds, seed_sd in ((1, 0.0), (3, 0.0), (3, 0.2)):
        yield Found(
            name=f"letters of 6 equal methods, {seeds} seeds of sd {seed_sd}",
            draw=partial(letters, methods=6, seeds=seeds, seed_sd=seed_sd),
            ours=("letters",),
        )
    yield Found(
        name="family of 45 pairs of 10 equal runs",
        draw=partial(corrections, runs=10, gap=0.0),
        ours=("max-t", "Holm"),
    )
    yield Found(
        name="family of 45 pairs, one run better by half a standard deviation: power",
        draw=partial(corrections, runs=10, gap=0.5),
        ours=("max-t", "Holm"),
        wanted=True,
    )
    yield Found(
        name="best of 5 against an equal", draw=partial(chosen, k=5), ours=("corrected (2.5)",)
    )
