"""Which way a metric is better, so that a table never marks the worst as best."""

from typing import Literal

Direction = Literal["higher", "lower"]

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
        "truncation_rate",
    }
)
DESCRIPTIVE = frozenset(
    {
        "tie_rate",
        "response_tokens",
        "answer_entropy",
        "answer_entropy_correct",
        "answer_entropy_wrong",
        "win_rate_standard_error",
    }
)
"""Metrics that describe rather than rank. Being undecided is good where the answer is wrong and
bad where it is right, and an entropy cannot be read without the accuracy beside it."""


def direction(metric: str) -> Direction | None:
    """Return which values of a metric are better; None where neither is."""
    if metric in DESCRIPTIVE:
        return None
    return "lower" if metric in LOWER_IS_BETTER else "higher"
