"""What methods are worth in the demo world: how many of the stated wishes they satisfy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mipo_eval.demo.rules import rate
from mipo_eval.stats.bootstrap import Crossed
from mipo_eval.stats.intervals import NET, RATE
from mipo_eval.stats.seeds import SeedSummary, seed_summaries
from mipo_eval.store.responses import Answered
from mipo_eval.tasks.prompt import render_query
from mipo_eval.verdict import SATISFIED


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
