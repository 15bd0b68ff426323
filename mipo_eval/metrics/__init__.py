"""Pure metrics: win rate, Self-BLEU, answer entropy, judge accuracy. No torch, no I/O."""

from mipo_eval.metrics.aggregate import mean_score, rate_score, rating_mean
from mipo_eval.metrics.agreement import JudgeAccuracy, judge_accuracy
from mipo_eval.metrics.calibration import (
    ChoiceOutcome,
    answer_entropy,
    calibration_scores,
    choice_outcome,
    expected_calibration_error,
)
from mipo_eval.metrics.context_lift import (
    ContextLikelihoods,
    context_lift,
    context_retrieval,
    context_scores,
    infonce_term,
)
from mipo_eval.metrics.diversity import distinct_n, diversity_scores, pairwise_similarity
from mipo_eval.metrics.self_bleu import SelfBleu, self_bleu, self_bleu_score
from mipo_eval.metrics.win_rate import (
    OutcomeSummary,
    outcome_rates,
    outcome_summary,
    tie_rate,
    win_rate,
    win_rates,
)

__all__ = [
    "Agreement",
    "ChoiceOutcome",
    "ContextLikelihoods",
    "JudgeAccuracy",
    "OutcomeSummary",
    "SelfBleu",
    "agreement",
    "answer_entropy",
    "calibration_scores",
    "choice_outcome",
    "cohen_kappa",
    "context_lift",
    "context_retrieval",
    "context_scores",
    "distinct_n",
    "diversity_scores",
    "expected_calibration_error",
    "infonce_term",
    "judge_accuracy",
    "mean_score",
    "outcome_rates",
    "outcome_summary",
    "pairwise_similarity",
    "rate_score",
    "rating_mean",
    "self_bleu",
    "self_bleu_score",
    "tie_rate",
    "win_rate",
    "win_rates",
]
