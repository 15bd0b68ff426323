"""What metrics are called on a screen, with their units, and how many decimals they have."""

LABELS = {
    "win_rate_tie_inclusive": "win rate, a tie is a win (%)",
    "tie_rate": "tie rate (%)",
    "win_rate_half_ties": "win rate, a tie is half (%)",
    "win_rate_strict": "win rate, a tie is a loss (%)",
    "win_rate_excluding_ties": "win rate, ties left out (%)",
    "net_win_rate": "wins minus losses (%)",
    "win_rate": "win rate, weighed by probability (%)",
    "win_rate_standard_error": "standard error of that (%)",
    "judge_accuracy": "agreement with the label (%)",
    "judge_accuracy_both": "agreement with the label, both orders (%)",
    "judge_accuracy_average": "agreement with the label, mean of orders (%)",
    "judge_accuracy_sum": "agreement with the label, sum of orders (%)",
    "arena_hard_score": "Arena-Hard score (%)",
    "grade_mean": "mean grade",
    "rating_mean": "mean rating (1-5)",
    "rating_weighted": "mean rating by probability (1-5)",
    "accuracy": "accuracy (%)",
    "accuracy_norm": "accuracy, length-normalised (%)",
    "unextracted_rate": "replies without an answer (%)",
    "answer_entropy": "answer entropy (nats)",
    "answer_entropy_correct": "answer entropy when right (nats)",
    "answer_entropy_wrong": "answer entropy when wrong (nats)",
    "brier": "Brier score (0-2)",
    "ece": "calibration error, ECE (0-1)",
    "context_lift": "context lift (nats)",
    "context_lift_per_token": "context lift (nats a token)",
    "context_retrieval": "context found among 8 (%)",
    "infonce_bound": "InfoNCE bound on I(Y;C|X) (nats)",
    "self_bleu_4": "Self-BLEU-4 (0-1, low = diverse)",
    "self_bleu_4_fixed": "Self-BLEU-4 of 80 texts",
    "self_bleu_4_same_prompt": "Self-BLEU-4 within a prompt",
    "self_bleu_4_same_prompt_fixed": "Self-BLEU-4 of 2 texts a prompt",
    "distinct_1_fixed": "distinct words of 80 texts",
    "distinct_2_fixed": "distinct bigrams of 80 texts",
    "pairwise_similarity_fixed": "similarity of 80 texts (0-1)",
    "response_tokens": "response length (tokens)",
    "truncation_rate": "responses cut at the limit (%)",
}
"""Every metric that can be shown, in the order it is shown in."""

DIGITS = {
    "self_bleu_4": 3,
    "rating_mean": 2,
    "rating_weighted": 2,
    "grade_mean": 2,
    "win_rate_standard_error": 2,
    "answer_entropy": 3,
    "answer_entropy_correct": 3,
    "answer_entropy_wrong": 3,
    "brier": 3,
    "context_lift_per_token": 3,
    "infonce_bound": 3,
    "self_bleu_4_fixed": 3,
    "self_bleu_4_same_prompt": 3,
    "self_bleu_4_same_prompt_fixed": 3,
    "distinct_1_fixed": 3,
    "distinct_2_fixed": 3,
    "pairwise_similarity_fixed": 3,
    "ece": 3,
}
"""Metric to decimals; all others of `LABELS` have one."""
_OF_OTHERS = 3
"""Decimals of a metric of another tool: it may be a share of 1."""


def decimals(metric: str) -> int:
    """Return how many decimals a metric is shown with."""
    return DIGITS.get(metric, 1 if metric in LABELS else _OF_OTHERS)
