"""Self-BLEU within prompts: do different users who ask the same get different answers?

A model that ignores its user has 1 here however diverse its answers to different prompts are.
"""

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

from mipo_eval.metrics.bleu import (
    NO_OTHER,
    join_words,
    number_words,
    self_bleu_of_words,
    self_bleu_score,
)
from mipo_eval.metrics.diversity import DRAWS, FIXED_SIZE
from mipo_eval.metrics.means import Reasons, count_reasons
from mipo_eval.records import Score
from mipo_eval.signature import join
from mipo_eval.stats.bootstrap import Floats, cluster_ids, percentile_interval

Index = NDArray[np.intp]

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

    Args:
        texts: one response per item; None or empty where there is none.
        groups: prompt of each item; `Crossed(prompt, user)` labels count by their prompt.
        draws: how many subsets.
        seed: same seed, same subsets.
        reasons: per item, why it has no response.

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
    fixed = Score(
        metric="self_bleu_4_same_prompt_fixed",
        value=float(values.mean()),
        n=len(compared),
        unscored_reasons=count_reasons(why, _known(reasons, missing), "Self-BLEU within prompts"),
        ci95=percentile_interval(values) if len(values) > 1 else None,
        signature=join(
            tok="13a",
            smooth="exp",
            refs="same-prompt",
            texts=2,
            prompts=min(len(prompts), _PROMPTS),
            draws=len(values),
        ),
    )
    whole = self_bleu_score(texts, groups=groups, within_groups=True, seed=seed, reasons=reasons)
    return [whole, fixed]


def _known(reasons: Reasons, missing: Sequence[str | None]) -> Reasons:
    """Return the caller's reasons, for the texts that are missing."""
    if reasons is None:
        return None
    return [reason if gone else None for reason, gone in zip(reasons, missing, strict=True)]


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
    split = number_words([texts[i] for i in used], "13a").split()
    words = dict(zip(used.tolist(), split, strict=True))
    numbers = np.repeat(np.arange(size), 2)
    return np.array(
        [
            self_bleu_of_words(
                join_words([words[i] for i in pair.tolist()]), group_ids=numbers
            ).mean()
            for pair in pairs
        ]
    )
