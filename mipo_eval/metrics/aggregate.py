"""A mean over items as a `Score`: n, what is missing and why, interval; and which way is better."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import numpy as np

from mipo_eval.errors import DataError
from mipo_eval.records import Score, Values
from mipo_eval.signature import NOTHING, Signature
from mipo_eval.stats.bootstrap import Interval, Labels
from mipo_eval.stats.intervals import NET, RATE, SHARE, intervals_in, rate_intervals

Reasons = Sequence[str | None] | None

NO_SCORE = "no score"

SPANS: Mapping[str, Interval] = {
    **dict.fromkeys(
        ("win_rate_tie_inclusive", "win_rate_half_ties", "win_rate_strict", "tie_rate"), RATE
    ),
    "win_rate_excluding_ties": RATE,
    "net_win_rate": NET,
    "accuracy": RATE,
    "truncation_rate": RATE,
    "context_retrieval": RATE,
    "brier": (0.0, 2.0),
    "self_bleu_4": SHARE,
    "self_bleu_4_same_prompt": SHARE,
    "family_preference": (-8.0, 8.0),
}
"""Metric to the lowest and the highest value that an item can have, where there are such ends."""

_NEVER_NEGATIVE = frozenset(
    {
        *("answer_entropy", "answer_entropy_correct", "answer_entropy_wrong"),
        *("response_tokens", "thinking_tokens", "response_characters"),
    }
)


def span_of(metric: str) -> Interval | None:
    """Return what values of a metric can be, one end or both of which may be infinite."""
    return SPANS.get(metric) or ((0.0, math.inf) if metric in _NEVER_NEGATIVE else None)


def same_length(name: str, size: int, other_name: str, other: Sequence[object] | None) -> None:
    """Raise DataError unless `other` is None or has `size` entries."""
    if other is not None and len(other) != size:
        raise DataError(
            f"{name} has {size} entries but {other_name} has {len(other)}; "
            "give one entry per item, None where an item has none"
        )


def refuse_non_finite(name: str, values: Values) -> None:
    """Raise DataError at the first NaN or infinity: absent is None, and one would poison a mean."""
    for index, value in enumerate(values):
        if value is not None and not math.isfinite(value):
            raise DataError(f"{name}[{index}] is {value}; use None for an item without a value")


def count_reasons(absent: Sequence[str | None], reasons: Reasons, what: str) -> Mapping[str, int]:
    """Count why items have no value.

    Args:
        absent: per item None when it has a value, otherwise the reason seen from here.
        reasons: per item the reason its caller knows, which says more and is preferred.
        what: name of the metric, for the error.

    Raises:
        DataError: no item has a value; the message lists the reasons.
    """
    same_length(what, len(absent), "reasons", reasons)
    counts = Counter(
        (reasons[index] if reasons is not None else None) or reason
        for index, reason in enumerate(absent)
        if reason is not None
    )
    if counts.total() == len(absent):
        listed = ", ".join(f"{reason}: {n}" for reason, n in counts.most_common())
        raise DataError(
            f"{what}: none of {len(absent)} items has a value ({listed or 'no items'}); "
            "a metric over nothing is not reported"
        )
    return dict(counts.most_common())


def mean_score(
    metric: str,
    values: Values,
    *,
    signature: Signature = NOTHING,
    groups: Labels = None,
    reasons: Reasons = None,
    span: Interval | None = None,
) -> Score:
    """Return the mean over the items that have a value.

    Args:
        metric: the score's name.
        values: one per item; None where an item has none.
        signature: every choice that changes the value.
        groups: prompt group per item, the unit of resampling; `Crossed(prompt, user)` where users
            come back; None (for one item, or for all): the item is its own group.
        reasons: per item, why it has no value; ignored where it has one.
        span: what its values can be, where `span_of` cannot say it.

    Raises:
        DataError: no item has a value, one is NaN, or the lengths differ.
    """
    refuse_non_finite(metric, values)
    same_length(metric, len(values), "groups", groups)
    unscored = count_reasons([NO_SCORE if v is None else None for v in values], reasons, metric)
    table = np.array([math.nan if v is None else v for v in values])
    return Score(
        metric=metric,
        value=float(np.nanmean(table)),
        n=int((~np.isnan(table)).sum()),
        unscored_reasons=unscored,
        ci95=intervals_in(table[:, None], groups, span or span_of(metric))[0],
        signature=signature,
    )


def rate_score(
    metric: str,
    values: Values,
    *,
    signature: Signature = NOTHING,
    groups: Labels = None,
    reasons: Reasons = None,
) -> Score:
    """Return the mean of per-item percentages (0-100), such as an accuracy.

    As `mean_score`, except that the interval knows the ends of the scale: it stays within them,
    and 20 right answers out of 20 do not show that all others would be right.
    """
    score = mean_score(metric, values, signature=signature, groups=groups, reasons=reasons)
    table = np.array([math.nan if v is None else v for v in values])
    return replace(score, ci95=rate_intervals(table[:, None], groups)[0])


LOWER_IS_BETTER = frozenset(
    {
        "self_bleu_4",
        "self_bleu_4_fixed",
        "self_bleu_4_same_prompt",
        "self_bleu_4_same_prompt_fixed",
        "pairwise_similarity_fixed",
        "unextracted_rate",
        "brier",
        "ece",
        "ece_debiased",
        "truncation_rate",
    }
)
DESCRIPTIVE = frozenset(
    {
        "tie_rate",
        "response_tokens",
        "response_characters",
        "thinking_tokens",
        "answer_entropy",
        "answer_entropy_correct",
        "answer_entropy_wrong",
        "win_rate_standard_error",
    }
)
"""Metrics that describe rather than rank. Being undecided is good where the answer is wrong and
bad where it is right, and an entropy cannot be read without the accuracy beside it."""


def direction(metric: str) -> Literal["higher", "lower"] | None:
    """Return which values of a metric are better; None where neither is."""
    if metric in DESCRIPTIVE:
        return None
    return "lower" if metric in LOWER_IS_BETTER else "higher"


def sign(metric: str) -> int:
    """Return -1 where lower values of a metric are better, else 1."""
    return -1 if direction(metric) == "lower" else 1
