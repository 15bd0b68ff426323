"""Diversity: Self-BLEU of suites and within prompts (Tables 3 and 4), before and after training."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mipo_eval.dashboards.tables.scores import (
    measured,
    number_frame,
    published_table,
    score_table,
    with_published,
)
from mipo_eval.errors import DataError
from mipo_eval.evaluation.score import Snapshot, why_no_text
from mipo_eval.metrics.aggregate import mean_score
from mipo_eval.metrics.self_bleu import NO_OTHER, self_bleu, self_bleu_score
from mipo_eval.records import Run
from mipo_eval.reports.names import row_name, run_labels, trained_rules
from mipo_eval.store.engine import Store
from mipo_eval.store.responses import Scorable, scorable
from mipo_eval.store.runs import list_runs
from mipo_eval.store.trainings import list_trainings

MEASURES = {
    "self_bleu_4": "Self-BLEU-4 of all texts (0-1, low = diverse)",
    "self_bleu_4_fixed": "Self-BLEU-4 of 80 texts (0-1, low = diverse)",
    "distinct_1_fixed": "distinct words of 80 texts (0-1, high = diverse)",
    "distinct_2_fixed": "distinct bigrams of 80 texts (0-1, high = diverse)",
    "pairwise_similarity_fixed": "similarity of 80 texts (0-1, low = diverse)",
}
"""Stored metric to the title of its axis. Only the measures of 80 texts can be compared between
suites: every one depends on the number of texts."""

WITHIN = "Self-BLEU-4 within prompts (0-1, low = diverse)"


def diversity_table(now: Snapshot, measure: str) -> pd.DataFrame:
    """Return the stored scores of a measure, with Table 4 below where it has the same tasks."""
    found = score_table(now, {measure})
    if measure != "self_bleu_4":
        return found
    return with_published(found, published_table(4, "self_bleu_4"))


def first_untrained(store: Store) -> int:
    """Return which of `list_runs` trainings start from: personalized prompting, not trained."""
    rules = trained_rules(list_trainings(store))
    methods = [row_name(run, rules)[0].method for run in list_runs(store)]
    wanted = "Personalized prompting"
    return methods.index(wanted) if wanted in methods else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBleu:
    """Self-BLEU-4 of one run's responses to one task, text by text."""

    task: str
    rows: tuple[Scorable, ...]
    overall: tuple[float | None, ...]
    """Against all other responses of the task."""
    within: tuple[float | None, ...] | None
    """Against the other responses to the same prompt; None where no prompt came twice."""


def text_bleu(store: Store, run: Run) -> list[TextBleu]:
    """Return Self-BLEU-4 (13a, exp) of every response of a run, by task.

    A task with fewer than two responses is left out: there is nothing to compare.
    """
    by_task: dict[str, list[Scorable]] = {}
    for row in scorable(store, run.list_key, run.generation_key):
        by_task.setdefault(row.task, []).append(row)
    found = []
    for task, rows in by_task.items():
        texts = [row.text or None for row in rows]
        try:
            overall = self_bleu(texts).per_text
        except DataError:
            continue
        try:
            within = self_bleu(texts, groups=[row.group for row in rows]).per_text
        except DataError:
            within = None
        found.append(TextBleu(task=task, rows=tuple(rows), overall=overall, within=within))
    return found


def within_table(store: Store, runs: Sequence[Run]) -> pd.DataFrame:
    """Return Self-BLEU-4 within prompts of some runs, with the columns that plots take.

    Different users who ask the same should get different answers: a model that ignores its user
    has 1 here. Tasks in which no prompt came twice are left out.
    """
    labels = run_labels(runs)
    lines = []
    for run in runs:
        for one in text_bleu(store, run):
            if one.within is not None:
                score = self_bleu_score(
                    [row.text or None for row in one.rows],
                    groups=[row.group for row in one.rows],
                    within_groups=True,
                    reasons=[why_no_text(row) for row in one.rows],
                )
                about = {"row": labels[run.run_id], "task": one.task, "run_id": run.run_id}
                lines.append(about | measured(score))
    columns = ("row", "task", "value", "low", "high", "n", "unscored", "source", "run_id")
    return number_frame(lines, columns)


def change_table(store: Store, before: Run, after: Run) -> pd.DataFrame:
    """Return how Self-BLEU-4 changed over the items that both runs answered.

    Columns: task, compared with, before, after, difference (after minus before, paired by item;
    below 0 is more diverse), low and high (its 95 % interval, resampled by prompt), n (items).
    """
    earlier = {one.task: one for one in text_bleu(store, before)}
    lines = []
    for one in text_bleu(store, after):
        for title, kind in (("all texts", "overall"), ("texts of the same prompt", "within")):
            pairs = _paired(earlier[one.task], one, kind) if one.task in earlier else []
            if not pairs:
                continue
            score = mean_score(
                "self_bleu_4_difference",
                [later - first for _, first, later in pairs],
                groups=[prompt for prompt, _, _ in pairs],
                reasons=[NO_OTHER] * len(pairs),
            )
            _, *sides = zip(*pairs, strict=True)
            means = [sum(values) / len(pairs) for values in sides]
            ends = score.ci95 or (None, None)
            lines.append((one.task, title, *means, score.value, *ends, score.n))
    columns = ["task", "compared with", "before", "after", "difference", "low", "high", "n"]
    return pd.DataFrame(lines, columns=columns)


def _paired(before: TextBleu, after: TextBleu, kind: str) -> list[tuple[str, float, float]]:
    """Return (prompt, value before, value after) of the items with both."""
    values, others = getattr(before, kind), getattr(after, kind)
    if values is None or others is None:
        return []
    known = {row.item_key: value for row, value in zip(before.rows, values, strict=True)}
    return [
        (row.group, earlier, value)
        for row, value in zip(after.rows, others, strict=True)
        if value is not None and (earlier := known.get(row.item_key)) is not None
    ]
