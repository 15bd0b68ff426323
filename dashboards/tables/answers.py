"""Multiple choice and math: accuracy (Table 2), answer entropy (Figures 4, 5), calibration."""

import numpy as np
import pandas as pd

from mipo_eval.dashboards.tables.scores import published_table, score_table, with_published
from mipo_eval.evaluation.score import Snapshot
from mipo_eval.metrics.calibration import BINS, choice_outcome
from mipo_eval.records import Run
from mipo_eval.stats.intervals import proportion_interval
from mipo_eval.store.engine import Store
from mipo_eval.store.responses import answered
from mipo_eval.store.runs import list_runs
from mipo_eval.tasks.answers import LETTERS

ENTROPIES = {
    "answer_entropy_correct": "when right",
    "answer_entropy_wrong": "when wrong",
    "answer_entropy": "all questions",
}
"""Stored metric to the questions it is over."""
_ENTROPY_BINS = 24


def accuracy_table(now: Snapshot) -> pd.DataFrame:
    """Return the stored accuracies, with Table 2 below where it has the same tasks."""
    return with_published(score_table(now, {"accuracy"}), published_table(2, "accuracy"))


def entropy_table(now: Snapshot) -> pd.DataFrame:
    """Return the stored answer entropies; the column `questions` says over which they are."""
    frame = score_table(now, set(ENTROPIES))
    return frame.assign(questions=frame["metric"].map(ENTROPIES))


def question_table(store: Store, run: Run) -> pd.DataFrame:
    """Return what the probabilities over the choices say about each question of a run.

    Columns: task, item_key, item_id, choices, correct, confidence (0-1), entropy (nats), run_id,
    position (in the run's list). Questions that were not asked by likelihood have no probabilities
    and are left out.
    """
    columns = ["task", "item_key", "item_id", "choices", "correct", "confidence", "entropy"]
    lines = []
    for entry in answered(store, run.list_key, run.generation_key):
        logprobs = entry.response.choice_logprobs if entry.response else None
        gold = LETTERS.find(entry.item.reference or "-")
        if logprobs is not None and 0 <= gold < len(logprobs):
            found = choice_outcome(logprobs, gold)
            about = (entry.task, entry.item.key, entry.item.item_id, len(logprobs))
            told = (found.correct, found.confidence, found.entropy)
            lines.append((*about, *told, entry.position))
    return pd.DataFrame(lines, columns=[*columns, "position"]).assign(run_id=run.run_id)


def calibration_table(questions: pd.DataFrame, bins: int = BINS) -> pd.DataFrame:
    """Return confidence against accuracy in equal-width bins; empty bins are left out.

    Columns: bin, confidence (mean, 0-1), accuracy (0-1), low and high (95 %, Wilson),
    questions. Bins are closed above, as in the ECE.
    """
    columns = ["bin", "confidence", "accuracy", "low", "high", "questions"]
    if questions.empty:
        return pd.DataFrame(columns=columns)
    places = np.clip(np.ceil(questions["confidence"] * bins).astype(int) - 1, 0, bins - 1)
    lines = []
    for place, own in questions.groupby(places):
        right, n = int(own["correct"].sum()), len(own)
        low, high = proportion_interval(right, n)
        lines.append((place, own["confidence"].mean(), right / n, low, high, n))
    return pd.DataFrame(lines, columns=columns)


def entropy_counts(questions: pd.DataFrame) -> pd.DataFrame:
    """Return how entropies are spread, apart for right and wrong answers.

    Columns: answer ("right" or "wrong"), entropy (middle of the bin, nats), start, end, share (of
    the questions with that answer, 0-1), questions.
    """
    columns = ["answer", "entropy", "start", "end", "share", "questions"]
    if questions.empty:
        return pd.DataFrame(columns=columns)
    most = float(np.log(questions["choices"].max()))
    edges = np.linspace(0.0, most, _ENTROPY_BINS + 1)
    lines = []
    for correct, own in questions.groupby("correct"):
        counts, _ = np.histogram(own["entropy"].clip(0, most), edges)
        for start, end, count in zip(edges[:-1], edges[1:], counts.tolist(), strict=True):
            share = count / len(own)
            name = "right" if correct else "wrong"
            lines.append((name, (start + end) / 2, start, end, share, count))
    return pd.DataFrame(lines, columns=columns)


def runs_by_likelihood(now: Snapshot) -> list[Run]:
    """Return the runs that hold probabilities over the choices, the latest first."""
    asked = {run.run_id for run, score in now.scores if score.metric == "answer_entropy"}
    return [run for run in list_runs(now.store) if run.run_id in asked]
