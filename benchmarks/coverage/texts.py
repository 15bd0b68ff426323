"""Texts of prompts and users whose diversity is known on average, of any number."""

from collections import defaultdict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from functools import cache, partial

import numpy as np

from benchmarks.coverage.cases import Coverage
from mipo_eval.metrics.diversity import diversity_scores, same_prompt_scores
from mipo_eval.metrics.self_bleu import self_bleu, self_bleu_score
from mipo_eval.records import Score
from mipo_eval.stats import Crossed, mean_intervals
from mipo_eval.stats.bootstrap import Floats, Interval

DIVERSITY = (
    "self_bleu_4",
    "self_bleu_4_fixed",
    "distinct_1_fixed",
    "distinct_2_fixed",
    "pairwise_similarity_fixed",
    "self_bleu_4_same_prompt",
    "self_bleu_4_same_prompt_fixed",
)


@cache
def tastes() -> Floats:
    """Return (topics, words) summed frequencies: a few of 300 words each, common or rare ones."""
    found = np.random.default_rng(0).gamma(0.1, size=(2000, 300)) / np.arange(1, 301)
    return np.cumsum(found / found.sum(axis=1, keepdims=True), axis=1)


def written(rng: np.random.Generator, labels: Sequence[Crossed]) -> list[str]:
    """Return texts of 8 to 24 words, of which a third each is the prompt's, the user's, its own."""
    known = tastes()
    topics: dict[tuple[str, Hashable], int] = defaultdict(lambda: int(rng.integers(len(known))))
    found = []
    for i, label in enumerate(labels):
        user = ("lone", i) if label.user is None else ("user", label.user)
        own = [topics["prompt", label.prompt], topics[user], topics["text", i]]
        at = rng.integers(3, size=rng.integers(8, 25))
        words = [np.searchsorted(known[own[k]], rng.random()) for k in at.tolist()]
        found.append(" ".join(f"w{word}" for word in words))
    return found


def diversities(texts: Sequence[str], labels: Sequence[Crossed]) -> dict[str, Score]:
    """Return Self-BLEU and what else tells of diversity, by metric; 20 texts at a time."""
    found = [
        self_bleu_score(texts, groups=labels, tokenize="none"),
        *diversity_scores(texts, labels, size=20, draws=40, tokenize="none"),
        *same_prompt_scores(texts, labels, tokenize="none"),
    ]
    return {score.metric: score for score in found}


@cache
def expected(labels: tuple[Crossed, ...]) -> Mapping[str, float]:
    """Return what each measure is on average over very many sets of so many such texts."""
    rng = np.random.default_rng(1)
    drawn = [diversities(written(rng, labels), labels) for _ in range(1_000)]
    return {name: float(np.mean([one[name].value or 0.0 for one in drawn])) for name in drawn[0]}


def diverse(
    rng: np.random.Generator, *, labels: tuple[Crossed, ...]
) -> tuple[float, Mapping[str, Interval | None]]:
    """Texts of prompts and users; all measures at once, so each interval is about its truth."""
    texts, truths = written(rng, labels), expected(labels)
    found = {name: score.ci95 for name, score in diversities(texts, labels).items()}
    values = [value or 0.0 for value in self_bleu(texts, tokenize="none").per_text]
    found["self_bleu_4, others fixed"] = mean_intervals(values, labels)[0]
    return 0.0, {
        name: interval and (interval[0] - truth, interval[1] - truth)
        for name, interval in found.items()
        for truth in [truths[name.removesuffix(", others fixed")]]
    }


def of_texts() -> Iterator[Coverage]:
    """Yield every kind of texts."""
    for name, labels in (
        ("60 texts", [Crossed(i, None) for i in range(60)]),
        ("24 texts", [Crossed(i, None) for i in range(24)]),
        ("40 prompts x 3", [Crossed(i // 3, None) for i in range(120)]),
        ("20 prompts x 5", [Crossed(i // 5, None) for i in range(100)]),
        ("24 users x 4 prompts of their own", [Crossed(i, i // 4) for i in range(96)]),
        ("15 prompts and 8 users crossed", [Crossed(i // 8, i % 8) for i in range(120)]),
    ):
        yield Coverage(
            name=f"diversity of {name}",
            draw=partial(diverse, labels=tuple(labels)),
            # A mean over 20 prompts of which few are alike is too skewed for Student's t: 92 %.
            ours=DIVERSITY if name != "20 prompts x 5" else DIVERSITY[:-2],
        )
