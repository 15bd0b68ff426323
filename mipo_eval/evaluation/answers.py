"""What needs no judge, item by item: lengths, accuracy, answer entropies."""

import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from mipo_eval.errors import ConfigError
from mipo_eval.metrics.calibration import ChoiceOutcome, choice_outcome
from mipo_eval.store.engine import Store
from mipo_eval.store.matrix import Rated
from mipo_eval.store.responses import Answered, answered, scorable
from mipo_eval.store.runs import Run
from mipo_eval.tasks.answers import LETTERS, grade
from mipo_eval.verdict import EMPTY, NOT_GENERATED

NOT_TOLD = "the model type does not tell"
NO_PROBABILITIES = "no probabilities"

_Pair = tuple[float | None, str | None]
"""A value, or None and why."""

ENDINGS = ("response_tokens", "response_characters", "truncation_rate")
OF_CHOICES: Mapping[str, Callable[[ChoiceOutcome], _Pair]] = {
    "answer_entropy": lambda found: (found.entropy, None),
    "answer_entropy_correct": lambda found: (
        (found.entropy, None) if found.correct else (None, "not answered correct")
    ),
    "answer_entropy_wrong": lambda found: (
        (None, "not answered wrong") if found.correct else (found.entropy, None)
    ),
    "brier": lambda found: (found.brier, None),
}
"""Metric to its value for a question asked by likelihood; the reasons are the stored scores'."""
CHECKED = ("accuracy", *OF_CHOICES)
"""Metrics that need an item's answer and how it is checked."""
JUDGE_FREE = (*CHECKED, *ENDINGS)
"""Metrics without a judge that have one value per item."""


def measured(store: Store, run: Run, metric: str) -> Rated:
    """Return one of `JUDGE_FREE` for every item of a run.

    Raises:
        ConfigError: accuracy is asked of items that have no answer to check.
    """
    if metric in ENDINGS:
        pairs = list(_endings(store, run, metric))
    else:
        value = _accuracy if metric == "accuracy" else _of_choices(metric)
        entries = answered(store, run.list_key, run.generation_key)
        pairs = [_answer(run, entry, value) for entry in entries]
    return Rated(
        np.array([math.nan if value is None else value for value, _ in pairs], dtype=np.float64),
        {row: str(why) for row, (value, why) in enumerate(pairs) if value is None},
    )


def _endings(store: Store, run: Run, metric: str) -> Iterator[_Pair]:
    """Yield each response's length in tokens or characters, or 100 where it was cut off."""
    for row in scorable(store, run.list_key, run.generation_key):
        if not row.text:
            yield None, row.reason or EMPTY
        elif metric == "response_tokens":
            yield (None, NOT_TOLD) if row.response_tokens is None else (row.response_tokens, None)
        elif metric == "response_characters":
            yield len(row.text), None
        elif row.finish_reason is None:
            yield None, NOT_TOLD
        else:
            yield 100.0 * (row.finish_reason == "length"), None


def _answer(run: Run, entry: Answered, value: Callable[[Answered], _Pair]) -> _Pair:
    response = entry.response
    if response is None or response.text is None:
        return None, (response.reason if response else None) or NOT_GENERATED
    if "kind" not in entry.item.meta:
        raise ConfigError(
            f"run {run.run_id[:12]} is of {run.suite}, whose items have no answer to check: "
            "accuracies are paired in verifiable suites only (an imported one is a number for all "
            "items together); name another metric with --metric"
        )
    return value(entry)


def chosen(entry: Answered) -> ChoiceOutcome | None:
    """Return how the choices of a question asked by likelihood came out; None for any other."""
    if entry.response is None or entry.response.choice_logprobs is None:
        return None
    gold = LETTERS.index(entry.item.reference or "")
    return choice_outcome(entry.response.choice_logprobs, gold)


def _accuracy(entry: Answered) -> _Pair:
    """Return 100 for a right answer and 0 for any other reply."""
    outcome = chosen(entry)
    if outcome is not None:
        return 100.0 * outcome.correct, None
    reply = entry.response.text if entry.response else None
    return 100.0 * (grade(entry.item, reply or "") == "right"), None


def _of_choices(metric: str) -> Callable[[Answered], _Pair]:
    def value(entry: Answered) -> _Pair:
        outcome = chosen(entry)
        return (None, NO_PROBABILITIES) if outcome is None else OF_CHOICES[metric](outcome)

    return value
