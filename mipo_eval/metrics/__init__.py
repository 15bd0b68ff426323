"""Pure metrics: win rate, Self-BLEU, answer entropy, judge accuracy. No torch, no I/O."""

from mipo_eval.metrics.agreement import judge_accuracy
from mipo_eval.metrics.calibration import answer_entropy
from mipo_eval.metrics.self_bleu import self_bleu
from mipo_eval.metrics.win_rate import win_rate

__all__ = ["answer_entropy", "judge_accuracy", "self_bleu", "win_rate"]
