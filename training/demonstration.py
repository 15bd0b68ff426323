"""The demo world's leaderboard: every method trained on the same base model, with its own recipe.

The recipes are the shipped ones. What differs (`demo.toml`) is what a model of a million parameters
and a few hundred items need: larger steps, float32, responses drawn in larger batches.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import numpy as np

from mipo_eval.demo.rules import SATISFIED, rate
from mipo_eval.stats.bootstrap import Crossed
from mipo_eval.stats.intervals import NET, RATE
from mipo_eval.stats.seeds import SeedSummary, seed_summaries
from mipo_eval.store.responses import Answered
from mipo_eval.tasks.prompt import render_query
from mipo_eval.training.recipes import Recipe, load_recipe

_DEMO = tomllib.loads((resources.files(__package__) / "demo.toml").read_text(encoding="utf-8"))


@dataclass(frozen=True, slots=True)
class DemoMethod:
    """One row of the demo's table."""

    label: str
    """As the table shows it."""
    method: str
    """Name of a recipe."""
    overrides: Sequence[str] = ()

    def recipe(self, items: int) -> Recipe:
        """Return the recipe with what the demo world needs, on the first so many items."""
        algorithm = load_recipe(self.method).algorithm
        own = _DEMO["algorithms"][algorithm]
        overrides = (f"items.limit={items}", *_DEMO["common"], *own, *self.overrides)
        return load_recipe(self.method, overrides=overrides)


ALL = tuple(DemoMethod(**method) for method in _DEMO["methods"])
DEFAULT = ALL[:2]
"""What `mipo-eval demo` trains."""


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
    tables: Mapping[str, Sequence[Sequence[Answered]]], *, baseline: str
) -> dict[str, Satisfaction]:
    """Return how many wishes each method satisfies, and how many more than the baseline.

    A method has per training seed the answered items, the same everywhere; the baseline was not
    trained, so it has one run. Intervals are clustered by prompt and user.
    """
    first = next(iter(tables.values()))[0]
    groups = [
        Crossed(answer.item.group, answer.item.user_id)
        for answer in first
        for _ in answer.item.preferences
    ]
    # (seeds, wishes) per method
    values = {name: np.array([satisfied(run) for run in runs]) for name, runs in tables.items()}
    summaries = seed_summaries(list(values.values()), groups, RATE)
    gained = [table - values[baseline][:1] for table in values.values()]
    gains = seed_summaries(gained, groups, NET)
    return {
        name: Satisfaction(satisfied=summary, gain=None if name == baseline else gain)
        for name, summary, gain in zip(tables, summaries, gains, strict=True)
    }
