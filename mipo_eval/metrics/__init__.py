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
from mipo_eval.metrics.context_lift import ContextLikelihoods, context_lift, context_scores
from mipo_eval.metrics.diversity import diversity_scores
from mipo_eval.metrics.self_bleu import SelfBleu, self_bleu, self_bleu_score
from mipo_eval.metrics.win_rate import (
    OutcomeSummary,
    outcome_rates,
    outcome_summary,
    win_rate,
    win_rates,
)

__all__ = [
    "ChoiceOutcome",
    "ContextLikelihoods",
    "JudgeAccuracy",
    "OutcomeSummary",
    "SelfBleu",
    "answer_entropy",
    "calibration_scores",
    "choice_outcome",
    "context_lift",
    "context_scores",
    "diversity_scores",
    "expected_calibration_error",
    "judge_accuracy",
    "mean_score",
    "outcome_rates",
    "outcome_summary",
    "rate_score",
    "rating_mean",
    "self_bleu",
    "self_bleu_score",
    "win_rate",
    "win_rates",
]
