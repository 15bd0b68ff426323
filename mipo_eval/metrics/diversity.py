"""Diversity beside Self-BLEU: distinct n-grams, pairwise similarity, and all at a fixed size.

Every measure here depends on how many texts there are (more texts share more n-grams), so suites
of different size cannot be compared directly. `diversity_scores` therefore draws subsets of one
fixed size and reports the mean over the draws.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.metrics.bleu import TOKENIZERS, Tokenize, self_bleu
from mipo_eval.metrics.means import Reasons, count_reasons, same_length
from mipo_eval.records import Score
from mipo_eval.signature import join
from mipo_eval.stats.bootstrap import percentile_interval

FIXED_SIZE = 80
"""Texts per subset: what the paper's smallest suite (84 items) has."""
DRAWS = 100


def distinct_n(texts: Sequence[str], n: int = 2, *, tokenize: Tokenize = "13a") -> float:
    """Return the share of different n-grams among all n-grams of the texts, 0-1; higher is diverse.

    Args:
        texts: responses; those shorter than n words add nothing.
        n: length of the n-grams, in words.
        tokenize: as in `self_bleu`.

    Raises:
        ConfigError: n is below 1 or the tokenizer unknown.
        DataError: no text has n words.
    """
    counts = Counter(gram for words in _split(texts, tokenize) for gram in _ngrams(words, n))
    if not counts:
        raise DataError(f"distinct-{n}: none of {len(texts)} texts has {n} words")
    return len(counts) / counts.total()


def pairwise_similarity(texts: Sequence[str], n: int = 1, *, tokenize: Tokenize = "13a") -> float:
    """Return the mean cosine between the n-gram counts of two different texts, 0-1.

    Exact over all pairs in linear time: with unit vectors u_i, the sum over pairs of u_i . u_j is
    |sum u_i|^2 minus the number of texts. 1 where all texts hold the same words equally often.

    Args:
        texts: responses; those shorter than n words have no direction and are left out.
        n: length of the n-grams, in words.
        tokenize: as in `self_bleu`.

    Raises:
        ConfigError: n is below 1 or the tokenizer unknown.
        DataError: fewer than two texts have n words.
    """
    total: Counter[tuple[str, ...]] = Counter()
    used = 0
    for words in _split(texts, tokenize):
        counts = Counter(_ngrams(words, n))
        if not counts:
            continue
        used += 1
        length = float(np.sqrt(sum(count * count for count in counts.values())))
        for gram, count in counts.items():
            total[gram] += count / length  # type: ignore[assignment]
    if used < 2:
        raise DataError(
            f"similarity compares pairs, but {used} of {len(texts)} texts has {n} words"
        )
    squared = sum(value * value for value in total.values())
    return float((squared - used) / (used * (used - 1)))


def _split(texts: Sequence[str], tokenize: Tokenize) -> list[list[str]]:
    if tokenize not in TOKENIZERS:
        raise ConfigError(f"tokenize {tokenize!r} is unknown; known: {', '.join(TOKENIZERS)}")
    split = TOKENIZERS[tokenize]()
    return [split(text) for text in texts]


def _ngrams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    if n < 1:
        raise ConfigError(f"n-grams of {n} words do not exist; use 1 or more")
    return list(zip(*(words[start:] for start in range(n)), strict=False))


MEASURES: dict[str, Callable[[Sequence[str]], float]] = {
    "self_bleu_4": lambda texts: self_bleu(texts, tokenize="none").mean,
    "distinct_1": lambda texts: distinct_n(texts, 1, tokenize="none"),
    "distinct_2": lambda texts: distinct_n(texts, 2, tokenize="none"),
    "pairwise_similarity": lambda texts: pairwise_similarity(texts, tokenize="none"),
}
"""Name of a measure to how it is made from texts whose words are separated by spaces."""


def draw_subsets(n_texts: int, size: int, draws: int, seed: int) -> list[NDArray[np.intp]]:
    """Return (draws) sets of `size` different positions; a single one where nothing can vary.

    Raises:
        DataError: there are fewer texts than `size`, or a size no pair fits in.
    """
    if not 2 <= size <= n_texts:
        raise DataError(
            f"subsets of {size} texts cannot be drawn from {n_texts}; give 2 to {n_texts}"
        )
    rng = np.random.default_rng(seed)
    times = 1 if size == n_texts else draws
    return [np.sort(rng.choice(n_texts, size=size, replace=False)) for _ in range(times)]


def diversity_scores(
    texts: Sequence[str | None],
    *,
    size: int = FIXED_SIZE,
    draws: int = DRAWS,
    seed: int = 0,
    reasons: Reasons = None,
) -> list[Score]:
    """Return Self-BLEU-4, distinct-1, distinct-2 and pairwise similarity at a fixed size, 0-1.

    The value is the mean over `draws` random subsets of `size` texts, the interval their central
    95 %: how much the value depends on which texts of this suite were taken. With fewer than
    twice `size` texts the subsets overlap and it is too narrow; with exactly `size` it is absent.

    Args:
        texts: one response per item; None where there is none.
        size: texts per subset; equal sizes make suites comparable.
        draws: how many subsets.
        seed: same seed, same subsets.
        reasons: per item, why it has no response.

    Raises:
        DataError: fewer than `size` texts have words.
    """
    same_length("texts", len(texts), "reasons", reasons)
    absent = [
        "no response" if text is None else None if text.strip() else "empty response"
        for text in texts
    ]
    unscored = count_reasons(absent, reasons, "diversity")
    # Words are split once (13a), not once per subset.
    split = TOKENIZERS["13a"]()
    kept = [" ".join(split(text)) for text in texts if text is not None and text.strip()]
    subsets = draw_subsets(len(kept), size, draws, seed)
    return [
        _score(metric, [[kept[i] for i in subset] for subset in subsets], len(kept), unscored)
        for metric in MEASURES
    ]


def _score(
    metric: str, subsets: Sequence[Sequence[str]], n: int, unscored: Mapping[str, int]
) -> Score:
    values = np.array([MEASURES[metric](subset) for subset in subsets])
    smoothing = "exp" if metric == "self_bleu_4" else None
    return Score(
        metric=f"{metric}_fixed",
        value=float(values.mean()),
        n=n,
        unscored_reasons=unscored,
        ci95=percentile_interval(values) if len(values) > 1 else None,
        signature=join(tok="13a", smooth=smoothing, texts=len(subsets[0]), draws=len(subsets)),
    )
