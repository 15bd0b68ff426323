"""Diversity: Self-BLEU of suites and within prompts (Tables 3 and 4), before and after training."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from mipo_eval.dashboards.scored import MEASURED, published_table, score_table, with_published
from mipo_eval.errors import DataError
from mipo_eval.evaluation.score import why_no_text
from mipo_eval.metrics import mean_score, self_bleu, self_bleu_score
from mipo_eval.metrics.self_bleu import NO_OTHER
from mipo_eval.records import Score
from mipo_eval.reports.names import row_name, run_labels, trained_rules
from mipo_eval.store import Store
from mipo_eval.store.responses import Scorable, scorable
from mipo_eval.store.runs import Run, list_runs
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


def diversity_table(store: Store, measure: str) -> pd.DataFrame:
    """Return the stored scores of a measure, with Table 4 below where it has the same tasks."""
    measured = score_table(store, {measure})
    if measure != "self_bleu_4":
        return measured
    return with_published(measured, published_table(4, "self_bleu_4"))


def first_untrained(store: Store) -> int:
    """Return which of `list_runs` trainings start from: personalized prompting, not trained."""
    rules = trained_rules(list_trainings(store))
    methods = [row_name(run, rules)[0].method for run in list_runs(store)]
    wanted = "Personalized prompting"
    return methods.index(wanted) if wanted in methods else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBleu:
    """Self-BLEU-4 of one run's responses to one task, text by text."""

    run: Run
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
        found.append(TextBleu(run=run, task=task, rows=tuple(rows), overall=overall, within=within))
    return found


def within_prompts(one: TextBleu, *, seed: int = 0) -> Score | None:
    """Return Self-BLEU-4 among the responses to the same prompt; None where no prompt came twice.

    Different users who ask the same should get different answers: a model that ignores its user
    has 1 here.
    """
    if one.within is None:
        return None
    return self_bleu_score(
        [row.text or None for row in one.rows],
        groups=[row.group for row in one.rows],
        within_groups=True,
        seed=seed,
        reasons=[why_no_text(row) for row in one.rows],
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Self-BLEU-4 before and after, over the items that both runs answered."""

    task: str
    within: bool
    before: float
    after: float
    difference: Score
    """After minus before, paired by item and resampled by prompt; below 0 is more diverse."""


def changes(
    before: Sequence[TextBleu], after: Sequence[TextBleu], *, seed: int = 0
) -> list[Change]:
    """Return, per task of both runs, how Self-BLEU-4 changed over all texts and within prompts."""
    earlier = {one.task: one for one in before}
    found = []
    for one in after:
        other = earlier.get(one.task)
        if other is None:
            continue
        for within in (False, True):
            pairs = _paired(other, one, within=within)
            if pairs:
                found.append(_change(one.task, pairs, within=within, seed=seed))
    return found


_Pair = tuple[str, float, float]
"""Prompt, value before, value after."""


def _paired(before: TextBleu, after: TextBleu, *, within: bool) -> list[_Pair]:
    values = before.within if within else before.overall
    others = after.within if within else after.overall
    if values is None or others is None:
        return []
    known = {row.item_key: value for row, value in zip(before.rows, values, strict=True)}
    return [
        (row.group, earlier, value)
        for row, value in zip(after.rows, others, strict=True)
        if value is not None and (earlier := known.get(row.item_key)) is not None
    ]


def _change(task: str, pairs: Sequence[_Pair], *, within: bool, seed: int) -> Change:
    return Change(
        task=task,
        within=within,
        before=sum(pair[1] for pair in pairs) / len(pairs),
        after=sum(pair[2] for pair in pairs) / len(pairs),
        difference=mean_score(
            "self_bleu_4_difference",
            [later - earlier for _, earlier, later in pairs],
            groups=[group for group, _, _ in pairs],
            seed=seed,
            reasons=[NO_OTHER] * len(pairs),
        ),
    )


def change_table(store: Store, before: Run, after: Run) -> pd.DataFrame:
    """Return how Self-BLEU-4 changed from one run to another, by task and comparison.

    Columns: task, compared with, before, after, difference (after minus before), low and high (its
    95 % interval), n (items).
    """
    columns = ["task", "compared with", "before", "after", "difference", "low", "high", "n"]
    lines = [
        (
            one.task,
            "texts of the same prompt" if one.within else "all texts",
            one.before,
            one.after,
            one.difference.value,
            *(one.difference.ci95 or (None, None)),
            one.difference.n,
        )
        for one in changes(text_bleu(store, before), text_bleu(store, after))
    ]
    return pd.DataFrame(lines, columns=columns)


def within_table(store: Store, runs: Sequence[Run]) -> pd.DataFrame:
    """Return Self-BLEU-4 within prompts of some runs, with the columns that plots take."""
    labels = run_labels(runs)
    columns = ["row", "task", "value", "low", "high", "n", "unscored", "source", "run_id"]
    lines = []
    for run in runs:
        for one in text_bleu(store, run):
            score = within_prompts(one)
            if score is not None:
                low, high = score.ci95 or (None, None)
                about = (labels[run.run_id], one.task, score.value, low, high)
                lines.append((*about, score.n, score.unscored, MEASURED, run.run_id))
    frame = pd.DataFrame(lines, columns=columns)
    return frame.astype({"value": float, "low": float, "high": float})
