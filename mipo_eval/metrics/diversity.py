"""Diversity beside Self-BLEU: distinct n-grams, similarity, at a fixed size and within prompts.

Every measure here depends on how many texts there are (more texts share more n-grams), so suites
of different size cannot be compared directly. `diversity_scores` therefore draws subsets of one
fixed size and reports the mean over the draws.

Self-BLEU within prompts asks whether different users who ask the same get different answers: a
model that ignores its user has 1 there however diverse its answers to different prompts are.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from mipo_eval.errors import DataError
from mipo_eval.metrics.aggregate import Reasons, count_reasons, same_length
from mipo_eval.metrics.self_bleu import (
    NO_OTHER,
    Ints,
    number_words,
    self_bleu_of_words,
    self_bleu_score,
)
from mipo_eval.records import Score
from mipo_eval.signature import Signature, join
from mipo_eval.stats.bootstrap import Floats, Index, Interval, cluster_ids, percentile_interval
from mipo_eval.stats.estimates import t_quantile

FIXED_SIZE = 80
"""Texts per subset: what the paper's smallest suite (84 items) has."""
DRAWS = 100


def ngrams(words: Sequence[Ints], n: int) -> list[Ints]:
    """Return, per text, its n-grams as numbers that are equal where the words are."""
    base = 1 + max((int(text.max(initial=0)) for text in words), default=0)
    grams = list(words)
    for order in range(2, n + 1):
        longer = [
            one[:-1] * base + text[order - 1 :] for one, text in zip(grams, words, strict=True)
        ]
        ends = np.cumsum([len(text) for text in longer])[:-1]
        # Numbered again, so that longer n-grams cannot overflow.
        numbers = np.unique(np.concatenate(longer), return_inverse=True)[1].astype(np.int64)
        grams = np.split(numbers, ends)
    return grams


def distinct(grams: Sequence[Ints], n: int) -> float:
    """Return the share of different n-grams among all of the texts, 0-1; higher is diverse.

    Args:
        grams: of each text, as `ngrams` gives them; a text shorter than n words adds nothing.
        n: length of the n-grams, in words.

    Raises:
        DataError: no text has n words.
    """
    every = np.concatenate(grams)
    if not len(every):
        raise DataError(f"distinct-{n}: none of {len(grams)} texts has {n} words")
    return len(np.unique(every)) / len(every)


class UnitVector(NamedTuple):
    """A text's word counts as a sparse vector of length 1."""

    words: Ints
    weights: Floats


def unit_vectors(words: Sequence[Ints]) -> list[UnitVector]:
    """Return the counts of every text's word counts."""
    found = []
    for text in words:
        distinct_words, counts = np.unique(text, return_counts=True)
        length = max(float(np.linalg.norm(counts)), 1.0)
        found.append(UnitVector(distinct_words, counts / length))
    return found


def similarity(texts: Sequence[UnitVector]) -> float:
    """Return the mean cosine between the word counts of two different texts, 0-1.

    Exact over all pairs in linear time: with unit vectors u_i, the sum over pairs of u_i . u_j is
    |sum u_i|^2 minus the number of texts. 1 where all texts hold the same words equally often;
    texts without a word have no direction and are left out.

    Raises:
        DataError: fewer than two texts have words.
    """
    used = sum(len(text.words) > 0 for text in texts)
    if used < 2:
        raise DataError(f"similarity compares pairs, but {used} of {len(texts)} texts has 1 words")
    words = np.unique(np.concatenate([text.words for text in texts]), return_inverse=True)[1]
    total = np.bincount(words, np.concatenate([text.weights for text in texts]))
    return float((total @ total - used) / (used * (used - 1)))


def draw_subsets(n_texts: int, size: int, draws: int, seed: int) -> list[Index]:
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

    The value is the mean over `draws` random subsets of `size` texts. The interval is about other
    texts like these (subsampling, see `_subsampled`); with exactly `size` texts it is absent.

    A text is a response, None where there is none; `reasons` tell why. Equal sizes make suites
    comparable.

    Raises:
        DataError: fewer than `size` texts have words.
    """
    same_length("texts", len(texts), "reasons", reasons)
    absent = [
        "no response" if text is None else None if text.strip() else "empty response"
        for text in texts
    ]
    unscored = count_reasons(absent, reasons, "diversity")
    present = [text for text in texts if text is not None and text.strip()]
    subsets = draw_subsets(len(present), size, draws, seed)
    # Only what was drawn is split into words (13a), and only once.
    drawn = np.unique(np.concatenate(subsets))
    places = [np.searchsorted(drawn, subset) for subset in subsets]
    words = number_words([present[i] for i in drawn], "13a")
    pairs, vectors = ngrams(words, 2), unit_vectors(words)
    measures: dict[str, Callable[[Sequence[int]], float]] = {
        "self_bleu_4": lambda of: float(self_bleu_of_words([words[i] for i in of]).mean()),
        "distinct_1": lambda of: distinct([words[i] for i in of], 1),
        "distinct_2": lambda of: distinct([pairs[i] for i in of], 2),
        "pairwise_similarity": lambda of: similarity([vectors[i] for i in of]),
    }
    found = []
    for metric, measure in measures.items():
        values = np.array([measure(subset.tolist()) for subset in places])
        smoothing = "exp" if metric == "self_bleu_4" else None
        signature = join(tok="13a", smooth=smoothing, texts=size, draws=len(values))
        score = _fixed(metric, values, (len(present), unscored), signature)
        found.append(replace(score, ci95=_subsampled(values, size, len(present))))
    return found


def _fixed(
    metric: str, drawn: Floats, counted: tuple[int, Mapping[str, int]], signature: Signature
) -> Score:
    """Return the mean over subsets, with their central 95 %; `counted`: items with, and without."""
    return Score(
        metric=f"{metric}_fixed",
        value=float(drawn.mean()),
        n=counted[0],
        unscored_reasons=counted[1],
        ci95=percentile_interval(drawn) if len(drawn) > 1 else None,
        signature=signature,
    )


def _subsampled(drawn: Floats, size: int, n_texts: int) -> Interval | None:
    """Return the 95 % interval of the mean over all subsets, from values of some of them.

    Subsets of m of n texts vary among each other by what the texts they do not share do, which is
    (n - m) / n of what m texts drawn anew would vary by. The mean over all subsets uses all n
    texts, and varies by m / n of that (Politis, Romano and Wolf 1999). None with a single subset.
    """
    if len(drawn) < 2:
        return None
    among = float(drawn.var(ddof=1))
    error = np.sqrt(among * (size / (n_texts - size) + 1 / len(drawn)))
    mean, reach = float(drawn.mean()), float(t_quantile(n_texts - 1) * error)
    return max(mean - reach, 0.0), min(mean + reach, 1.0)


_PROMPTS = FIXED_SIZE // 2
"""Prompts per subset: two texts of each are as many texts as the other fixed sizes have."""


def same_prompt_scores(
    texts: Sequence[str | None],
    groups: Sequence[Hashable | None],
    *,
    draws: int = DRAWS,
    seed: int = 0,
    reasons: Reasons = None,
) -> list[Score]:
    """Return Self-BLEU-4 within prompts, of all texts and at a fixed size, 0-1.

    More texts of a prompt share more n-grams, so beside the value of all stands the mean over
    `draws` subsets of two texts of each of at most 40 prompts, with their central 95 %: how much
    it depends on which texts were taken. It is the same for suites with two users a prompt and
    with ten.

    Groups are the items' prompts; `Crossed(prompt, user)` labels count by their prompt. All else
    is as in `diversity_scores`.

    Returns:
        `self_bleu_4_same_prompt` and `self_bleu_4_same_prompt_fixed`; nothing where no prompt has
        two responses.
    """
    missing = ["no response" if not (text or "").strip() else None for text in texts]
    present = [i for i, why in enumerate(missing) if why is None]
    prompts = [own for own in _prompts(groups, present) if len(own) > 1]
    if not prompts:
        return []
    compared = {i for own in prompts for i in own.tolist()}
    why = [reason or (None if i in compared else NO_OTHER) for i, reason in enumerate(missing)]
    values = _drawn([text or "" for text in texts], prompts, draws, np.random.default_rng(seed))
    # What the caller knows is about absent responses: one without another keeps our reason.
    told = reasons and [own if gone else None for own, gone in zip(reasons, missing, strict=True)]
    unscored = count_reasons(why, told, "Self-BLEU within prompts")
    signature = join(
        tok="13a",
        smooth="exp",
        refs="same-prompt",
        texts=2,
        prompts=min(len(prompts), _PROMPTS),
        draws=len(values),
    )
    fixed = _fixed("self_bleu_4_same_prompt", values, (len(compared), unscored), signature)
    whole = self_bleu_score(texts, groups=groups, within_groups=True, reasons=reasons)
    return [whole, fixed]


def _prompts(groups: Sequence[Hashable | None], present: Sequence[int]) -> list[Index]:
    """Return the positions of the texts of each prompt."""
    ids, n_prompts = cluster_ids([groups[i] for i in present], len(present))
    order = np.array(present, dtype=np.intp)[np.argsort(ids, kind="stable")]
    return np.split(order, np.cumsum(np.bincount(ids, minlength=n_prompts))[:-1])


def _drawn(
    texts: Sequence[str], prompts: Sequence[Index], draws: int, rng: np.random.Generator
) -> Floats:
    """Return (draws,) means over two texts of some prompts; a single one where nothing varies."""
    size = min(len(prompts), _PROMPTS)
    varies = size < len(prompts) or any(len(own) > 2 for own in prompts)
    pairs = []
    for _ in range(draws if varies else 1):
        chosen = rng.choice(len(prompts), size=size, replace=False)
        drawn = [rng.choice(prompts[k], size=2, replace=False) for k in chosen]
        pairs.append(np.concatenate(drawn))
    used = np.unique(np.concatenate(pairs))
    words = dict(zip(used.tolist(), number_words([texts[i] for i in used], "13a"), strict=True))
    numbers = np.repeat(np.arange(size), 2)
    return np.array(
        [
            self_bleu_of_words([words[i] for i in pair.tolist()], group_ids=numbers).mean()
            for pair in pairs
        ]
    )
