"""What metrics are called on a screen, with their units, and how many decimals they have."""

_SHOWN: dict[str, tuple[str, int]] = {
    "win_rate_tie_inclusive": ("win rate, a tie is a win (%)", 1),
    "tie_rate": ("tie rate (%)", 1),
    "win_rate_half_ties": ("win rate, a tie is half (%)", 1),
    "win_rate_strict": ("win rate, a tie is a loss (%)", 1),
    "loss_rate": ("loss rate (%)", 1),
    "win_rate_excluding_ties": ("win rate, ties left out (%)", 1),
    "net_win_rate": ("net win rate: wins less losses (%)", 1),
    "win_rate": ("win rate, weighted by probability (%)", 1),
    "win_rate_standard_error": ("standard error of the win rate (%)", 2),
    "strict": ("labelled response preferred (%)", 1),
    "tie_tolerant": ("labelled response preferred or tied (%)", 1),
    "half_ties": ("labelled response preferred, a tie is half (%)", 1),
    "over_longest": ("ahead of the longest-response judge (points)", 1),
    "judge_accuracy": ("agreement with the label (%)", 1),
    "judge_accuracy_both": ("agreement with the label, both orders (%)", 1),
    "judge_accuracy_average": ("agreement with the label, mean of orders (%)", 1),
    "judge_accuracy_sum": ("agreement with the label, sum of orders (%)", 1),
    "arena_hard_score": ("Arena-Hard score (%)", 1),
    "grade_mean": ("mean grade", 2),
    "satisfied": ("satisfied preferences (%)", 1),
    "restraint": ("restraint: nothing dragged in (%)", 1),
    "followed": ("wishes followed, restraint or not (%)", 1),
    **{
        f"satisfied_{dimension}": (f"satisfied: {told} (%)", 1)
        for dimension, told in {
            "form": "form",
            "length": "length",
            "frame": "opening and ending",
            "wording": "wording",
            "content": "content",
            "language": "language",
            "tone": "tone",
            "format": "format",
            "audience": "audience",
            "extra": "extra",
        }.items()
    },
    "rating_mean": ("mean rating (1-5)", 2),
    "rating_weighted": ("mean rating by probability (1-5)", 2),
    "accuracy": ("accuracy (%)", 1),
    "accuracy_norm": ("accuracy, length-normalised (%)", 1),
    "unextracted_rate": ("replies without an answer (%)", 1),
    "answer_entropy": ("answer entropy (nats)", 3),
    "answer_entropy_correct": ("answer entropy when right (nats)", 3),
    "answer_entropy_wrong": ("answer entropy when wrong (nats)", 3),
    "brier": ("Brier score (0-2)", 3),
    "ece": ("calibration error, ECE (0-1)", 3),
    "ece_debiased": ("calibration error, debiased (0-1)", 3),
    "context_lift": ("context lift (nats)", 1),
    "context_lift_per_token": ("context lift (nats per token)", 3),
    "context_retrieval": ("context found among 8 (%)", 1),
    "infonce_bound": ("InfoNCE bound on I(Y;C|X) (nats)", 3),
    "self_bleu_4": ("Self-BLEU-4 (0-1, low = diverse)", 3),
    "self_bleu_4_fixed": ("Self-BLEU-4 of 80 texts", 3),
    "self_bleu_4_same_prompt": ("Self-BLEU-4 within a prompt", 3),
    "self_bleu_4_same_prompt_fixed": ("Self-BLEU-4 of 2 texts per prompt", 3),
    "distinct_1_fixed": ("distinct words of 80 texts", 3),
    "distinct_2_fixed": ("distinct bigrams of 80 texts", 3),
    "pairwise_similarity_fixed": ("similarity of 80 texts (0-1)", 3),
    "response_tokens": ("response length (tokens)", 1),
    "thinking_tokens": ("thinking length (tokens)", 1),
    "truncation_rate": ("responses cut at the limit (%)", 1),
}
"""Metric to its label and decimals, in the order metrics are shown in."""
LABELS = {metric: label for metric, (label, _) in _SHOWN.items()}
"""Every metric that can be shown, in the order it is shown in."""
_OF_OTHERS = ("", 3)
"""A metric of another tool may be a share of 1."""


def decimals(metric: str) -> int:
    """Return how many decimals a metric is shown with."""
    return _SHOWN.get(metric, _OF_OTHERS)[1]


def tied_group(letters: str) -> str:
    """Return the letters of a row as they are shown: three or more in a row as a range.

    Example:
        >>> tied_group("abcdfg"), tied_group("bdf")
        ('a-d fg', 'bdf')
    """
    if " " in letters:  # of more than 26 groups
        return letters
    parts: list[str] = []
    for letter in letters:
        if parts and ord(letter) == ord(parts[-1][-1]) + 1:
            parts[-1] += letter
        else:
            parts.append(letter)
    shown = [f"{part[0]}-{part[-1]}" if len(part) > 2 else part for part in parts]
    return (" " if shown != parts else "").join(shown)


def metric_title(metric: str, control: str = "") -> str:
    """Return a metric's name with its unit; one of another tool is called what that calls it."""
    title = LABELS.get(metric, metric.replace("_", " "))
    return f"{control}: {title}" if control else title
