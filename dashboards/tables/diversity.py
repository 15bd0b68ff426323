"""Diversity: Self-BLEU of suites and within prompts (Tables 3 and 4), before and after training."""

from collections.abc import Sequence
from contextlib import suppress

import pandas as pd

from mipo_eval.dashboards.tables.scores import (
    measured,
    number_frame,
    published_table,
    score_table,
    with_published,
)
from mipo_eval.errors import DataError
from mipo_eval.evaluation.score import Snapshot, clusters, in_words, tokenizer_of
from mipo_eval.metrics.self_bleu import self_bleu_change, self_bleu_score
from mipo_eval.records import Run
from mipo_eval.reports.names import row_name, run_titles, stored_rules
from mipo_eval.store.engine import Store
from mipo_eval.store.responses import Scorable, scorable
from mipo_eval.store.runs import list_runs

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
    rules = stored_rules(store)
    methods = [row_name(run, rules)[0].method for run in list_runs(store)]
    wanted = "Personalized prompting"
    return methods.index(wanted) if wanted in methods else 0


def _by_task(store: Store, run: Run) -> dict[str, list[Scorable]]:
    """Return what a run answered, by task."""
    found: dict[str, list[Scorable]] = {}
    for row in scorable(store, run.list_key, run.generation_key):
        found.setdefault(row.task, []).append(row)
    return found


def within_table(store: Store, runs: Sequence[Run]) -> pd.DataFrame:
    """Return Self-BLEU-4 within prompts of some runs, with the columns that plots take.

    Different users who ask the same should get different answers: a model that ignores its user
    has 1 here. Tasks in which no prompt came twice are left out.
    """
    labels = run_titles(runs, stored_rules(store))
    lines = []
    for run in runs:
        for task, rows in _by_task(store, run).items():
            tokenize = tokenizer_of(store, rows)
            texts, reasons = in_words(rows, tokenize)
            with suppress(DataError):  # no prompt was answered twice
                score = self_bleu_score(
                    texts,
                    groups=clusters(rows),
                    within_groups=True,
                    reasons=reasons,
                    tokenize=tokenize,
                )
                about = {"row": labels[run.run_id], "task": task, "run_id": run.run_id}
                lines.append(about | measured(score))
    columns = ("row", "task", "value", "low", "high", "n", "unscored", "source", "run_id")
    return number_frame(lines, columns)


def change_table(store: Store, before: Run, after: Run) -> pd.DataFrame:
    """Return how Self-BLEU-4 changed over the items that both runs answered.

    Columns: task, compared with, before, after, difference (after minus before; below 0 is more
    diverse), low and high (its 95 % interval, for other prompts and users), n (items).
    """
    earlier = _by_task(store, before)
    lines = []
    for task, rows in _by_task(store, after).items():
        known = {row.item_key: row for row in earlier.get(task, ())}
        pairs = [(known[row.item_key], row) for row in rows if row.item_key in known]
        both = [row for pair in pairs for row in pair]
        tokenize = tokenizer_of(store, both)
        texts, _ = in_words(both, tokenize)
        for title, within in (("all texts", False), ("texts of the same prompt", True)):
            with suppress(DataError):  # there is nothing to compare
                found = self_bleu_change(
                    texts[::2],
                    texts[1::2],
                    groups=clusters(both[::2]),
                    within_groups=within,
                    tokenize=tokenize,
                )
                means = found.before, found.after, found.after - found.before
                lines.append((task, title, *means, *(found.ci95 or (None, None)), found.n))
    columns = ["task", "compared with", "before", "after", "difference", "low", "high", "n"]
    return pd.DataFrame(lines, columns=columns)
