"""The demo world's leaderboard: every method trained on the same base model, with its own recipe.

The recipes are the shipped ones. What differs is what a model of a million parameters and a few
hundred items need: larger steps, float32, responses drawn in larger batches.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mipo_eval.demo.rules import SATISFIED, rate
from mipo_eval.stats.seeds import SeedSummary, seed_summaries
from mipo_eval.store.responses import Answered
from mipo_eval.tasks.prompt import render_query
from mipo_eval.training.recipes import Recipe, load_recipe

_COMMON = (
    "sampling.batch_size=64",
    "optimization.batch_size=8",
    "optimization.micro_batch_size=8",
    "optimization.precision=float32",
)

_OWN: Mapping[str, tuple[str, ...]] = {
    # Learning rates: chosen by training items 1,024 to 1,223, which no training uses; SFT has
    # MIPO's (docs/demo.md, benchmarks/demo_learning_rates.py).
    "dpo": ("lr=3e-4",),
    "sft": ("lr=3e-4",),
    # A batch counts groups of four contexts here; with four groups a step there are too few steps.
    "contrastive": ("lr=4e-4", "optimization.batch_size=1", "optimization.micro_batch_size=1"),
    "ppo": (
        "lr=8e-4",
        "settings.critic_learning_rate=1e-3",
        "settings.rollout_batch_size=32",
        "settings.rollout_micro_batch_size=32",
        "settings.max_new_tokens=128",
    ),
}
"""By algorithm."""


@dataclass(frozen=True, slots=True)
class DemoMethod:
    """One row of the demo's table."""

    label: str
    """As the table shows it."""
    method: str
    """Name of a recipe."""
    overrides: tuple[str, ...] = ()

    def recipe(self, items: int) -> Recipe:
        """Return the recipe with what the demo world needs, on the first so many items."""
        algorithm = load_recipe(self.method).algorithm
        overrides = (f"items.limit={items}", *_COMMON, *_OWN[algorithm], *self.overrides)
        return load_recipe(self.method, overrides=overrides)


_JUDGE = ("settings.judge=checker",)
"""Rates in place of the base model, which is too small for it. So RLAIF learns from the very rule
that measures it, and shows what a perfect judge is worth."""


def _mipo(negatives: str, n: int = 1) -> DemoMethod:
    several = f" x {n}" if n > 1 else ""
    return DemoMethod(
        f"MIPO ({negatives}{several})", f"mipo-{negatives}", (f"pairs.n_negatives={n}",)
    )


DEFAULT = (DemoMethod("SFT", "sft"), _mipo("missing"))
"""What `mipo-eval demo` trains."""

ALL = (
    *DEFAULT,
    *(_mipo("missing", n) for n in (3, 5, 10)),
    *(_mipo("random", n) for n in (1, 3, 5, 10)),
    *(_mipo("reshuffle", n) for n in (1, 3, 5, 10)),
    _mipo("random-strings"),
    DemoMethod("SFT (revision)", "sft-revision"),
    DemoMethod("InfoNCE", "info-nce"),
    DemoMethod("SAMI", "sami"),
    DemoMethod("PPO (MI)", "ppo-mi"),
    DemoMethod("RLAIF", "rlaif", _JUDGE),
    DemoMethod("RLAIF (MI)", "rlaif-mi", _JUDGE),
)
"""Every method of Table 1, every negative strategy, and N = 1, 3, 5, 10."""


def satisfied(answers: Sequence[Answered]) -> list[float]:
    """Return 100 or 0 per wish of each item, in order: satisfied or not; none where unanswered."""
    found = []
    for answer in answers:
        query = render_query(answer.item, "personalized")
        text = answer.response.text if answer.response else None
        for wish in answer.item.preferences:
            followed = text is not None and rate(query, text, wish) >= SATISFIED
            found.append(float("nan") if text is None else 100.0 * followed)
    return found


@dataclass(frozen=True, slots=True)
class Satisfaction:
    """What a method's test responses are worth, over its training seeds."""

    satisfied: SeedSummary
    """Percent of all wishes."""
    gain: SeedSummary | None
    """Points more than the baseline, paired by wish; None for the baseline itself."""


def outcomes(
    tables: Mapping[str, Sequence[Sequence[Answered]]], *, baseline: str, seed: int
) -> dict[str, Satisfaction]:
    """Return how many wishes each method satisfies, and how many more than the baseline.

    Args:
        tables: by method, per training seed the answered items; the same items everywhere.
        baseline: the method that was not trained, so it has one run.
        seed: of the bootstrap, clustered by prompt.
    """
    first = next(iter(tables.values()))[0]
    groups = [answer.item.group for answer in first for _ in answer.item.preferences]
    # (seeds, wishes) per method
    values = {name: np.array([satisfied(run) for run in runs]) for name, runs in tables.items()}
    summaries = seed_summaries(list(values.values()), groups, seed=seed)
    gains = seed_summaries(
        [table - values[baseline][:1] for table in values.values()], groups, seed=seed
    )
    return {
        name: Satisfaction(satisfied=summary, gain=None if name == baseline else gain)
        for name, summary, gain in zip(tables, summaries, gains, strict=True)
    }
