"""One metric of several runs, item by item and side by side, from stored verdicts and responses.

What needs no judge (lengths, accuracy, answer entropies) is measured here.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from mipo_eval.errors import ConfigError
from mipo_eval.evaluation.graded import grader, unit
from mipo_eval.evaluation.sheets import OVERALL, Column, Sheet, SheetPart, overall, sheet_of
from mipo_eval.evaluation.wishes import WISHED, Ratings, wishes_met
from mipo_eval.metrics.aggregate import SPANS
from mipo_eval.metrics.calibration import ChoiceOutcome, choice_outcome
from mipo_eval.metrics.win_rate import METRIC_NAMES, TIE_CREDIT
from mipo_eval.records import Run
from mipo_eval.signature import Signature
from mipo_eval.stats.bootstrap import Floats, Interval
from mipo_eval.stats.intervals import RATE
from mipo_eval.store.engine import Store
from mipo_eval.store.items import (
    ItemList,
    Rated,
    Texts,
    Totals,
    answers,
    read_answers,
    read_list,
    references,
    stated_wishes,
    without_collection,
)
from mipo_eval.store.judges import list_judges
from mipo_eval.store.responses import Answered, answered, paired_texts, scorable
from mipo_eval.store.verdicts import grades_of, ratings_by, verdicts_on
from mipo_eval.tasks.answers import LETTERS, grade
from mipo_eval.verdict import EMPTY, NO_REFERENCE, NOT_GENERATED, NOT_JUDGED, chooses

NOT_TOLD = "the model type does not tell"
NO_PROBABILITIES = "no probabilities"

_Pair = tuple[float | None, str | None]
"""A value, or None and why."""

ENDINGS = ("response_tokens", "thinking_tokens", "response_characters", "truncation_rate")
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
    """Yield each response's length in tokens or characters, or 100 where it was cut off.

    The tokens of a thinking are counted for responses only: a cut one has no length yet.
    """
    for row in scorable(store, run.list_key, run.generation_key):
        if not row.text:
            yield None, row.reason or EMPTY
        elif metric == "response_tokens":
            yield (None, NOT_TOLD) if row.response_tokens is None else (row.response_tokens, None)
        elif metric == "thinking_tokens":
            yield (None, NOT_TOLD) if row.thought is None else (row.thought, None)
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
            f"run {run.run_id[:12]} is of suite {run.suite}, whose items have no right answer, so "
            "accuracy cannot be compared item by item: name another metric with --metric"
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


TIED = "a tie"

WIN_RATES = {name: rule for rule, name in METRIC_NAMES.items()}
"""Win rate metric to its rule for ties."""
COMPARED: Mapping[str, tuple[float, float, float]] = {
    **{name: (100.0, TIE_CREDIT[rule], 0.0) for name, rule in WIN_RATES.items()},
    "win_rate_excluding_ties": (100.0, np.nan, 0.0),
    "net_win_rate": (100.0, 0.0, -100.0),
    "tie_rate": (0.0, 100.0, 0.0),
}
"""Metric of a comparison with the reference to what a win, a tie and a loss are worth."""
DERIVED = {"win_rate_excluding_ties": "excluded", "net_win_rate": "net"}
"""Metric that is made from verdicts when asked for, and not stored, to its rule for ties."""
JUDGED = (*COMPARED, *WISHED, "rating_mean")
ENDS: Mapping[str, Interval] = {
    **SPANS,
    **dict.fromkeys(WISHED, RATE),
    "rating_mean": (1.0, 5.0),
}
"""As `SPANS`, and for ratings too: those of judges that were asked here are 1 to 5."""
METRICS = (*JUDGED, *JUDGE_FREE)
"""Metrics that have one value per item, and so can be paired."""


_FEW = 4
"""Up to so many generations, texts are looked up one by one: reading all of a list takes longer."""


class Outcomes:
    """What a store says item by item; each part of it is read once, when it is first needed.

    What was read does not change any more: another look at the store takes another object.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lists: dict[str, ItemList] = {}
        self._texts: dict[tuple[str, str], Texts] = {}
        """By generation and list; the references are those of generation ""."""
        self._rated: dict[tuple[str, str, str], Rated] = {}
        """By judge, generation and list."""
        self._credits: dict[tuple[str, str], Rated] = {}
        """By judge that chooses and run: what a response is worth against the reference, 0-1."""
        self._wishes: dict[str, Mapping[str, Sequence[str]]] = {}
        """By list."""
        self._aspects: dict[tuple[str, str], Ratings] = {}
        """By judge and list."""
        self._sheets: dict[tuple[str, str | None, tuple[str, ...]], list[Sheet]] = {}

    def sheets(self, runs: Sequence[Run], metric: str, judge_key: str | None = None) -> list[Sheet]:
        """Return one sheet per task of the runs, tasks in order of first appearance.

        Args:
            runs: whose items; they may have different item lists.
            metric: one of `METRICS`, or what another tool's grades are called.
            judge_key: whose ratings or grades; needed by the metrics of `JUDGED`.

        Raises:
            ConfigError: the metric has no value per item, or needs a judge and none is named.
        """
        grades = "imported" in self.specs.get(judge_key or "", {}) and metric not in ENDINGS
        if metric not in METRICS and not grades:
            raise ConfigError(
                f"{metric} has no value per item; these metrics have one: {', '.join(METRICS)}"
            )
        if metric in JUDGED and judge_key is None:
            raise ConfigError(f"{metric} needs a judge: name one with --judge")
        judge = judge_key if metric in JUDGED or grades else None
        key = (metric, judge, tuple(run.run_id for run in runs))
        if key not in self._sheets:
            self._sheets[key] = self._made(runs, metric, judge)
        return self._sheets[key]

    def of_scores(
        self,
        runs: Sequence[Run],
        metric: str,
        judge_key: str | None,
        signatures: Mapping[str, Signature],
    ) -> dict[str, Sheet]:
        """Return, by task, the values behind stored numbers; nothing for those without any.

        Args:
            runs: whose numbers.
            metric: their name.
            judge_key: whose ratings; an imported judge has no key, and its numbers no values.
            signatures: of the numbers, by task.
        """
        found = {}
        for task, signature in signatures.items():
            key = grader(metric, signature, self.specs) if metric not in JUDGED else judge_key
            # What another tool checked is not checked again: its items do not say how.
            foreign = key is None and metric in CHECKED and "source" in signature.parts
            if key is None and (metric in JUDGED or metric not in METRICS or foreign):
                continue
            sheets = {sheet.task: sheet for sheet in self.sheets(runs, metric, key)}
            if task == OVERALL and task not in sheets:
                sheets = overall(list(sheets.values()))
            if task in sheets:
                found[task] = sheets[task]
        return found

    def _made(self, runs: Sequence[Run], metric: str, judge: str | None) -> list[Sheet]:
        if judge is not None and metric in JUDGED:
            self._read(runs, judge)
        sheets: dict[str, list[SheetPart]] = {}
        for run in runs:
            listed = self.listed(run)
            column = self._column(run, listed, metric, judge)
            for task in listed.tasks:
                sheets.setdefault(task, []).append(SheetPart(run, listed, column))
        return [sheet_of(task, metric, parts) for task, parts in sheets.items()]

    def listed(self, run: Run) -> ItemList:
        """Return a run's items."""
        if run.list_key not in self._lists:
            self._lists[run.list_key] = read_list(self._store, run.list_key)
        return self._lists[run.list_key]

    def texts(self, run: Run) -> Texts:
        """Return what a run's model answered."""
        key = run.generation_key, run.list_key
        if key not in self._texts:
            found = read_answers(self._store, {run.generation_key})[run.generation_key]
            self._texts[key] = answers(found, self.listed(run))
        return self._texts[key]

    def against_reference(self, run: Run, judge: str, texts: Texts | None = None) -> "Against":
        """Return how a run's responses, or other texts in their place, fare by one judge.

        Args:
            run: whose items, and whose responses.
            judge: its key.
            texts: of a control entrant, one per item; None: the responses.
        """
        self._read([run], judge)
        if not self.rates(judge):
            credit = self._credits[judge, run.run_id]
            return Against(credit.values - 0.5, credit.why, credit)
        listed = self.listed(run)
        if texts is None:
            own = self._rated[judge, run.generation_key, run.list_key]
        else:
            own = Totals(self._store, judge, {run.list_key}).of(listed, texts)
        reference = self._rated[judge, "", run.list_key]
        why = {
            row: reason if reason == NO_REFERENCE else f"reference: {reason}"
            for row, reason in reference.why.items()
        }
        return Against(own.values - reference.values, why | dict(own.why), own)

    def satisfied(self, run: Run, metric: str, judge: str) -> Rated:
        """Return one of `WISHED` for every item of a run, by one judge's ratings."""
        listed = self.listed(run)
        if (judge, run.list_key) not in self._aspects:
            keys = list(self.wishes(run)) if self.rates(judge) else []
            self._aspects[judge, run.list_key] = ratings_by(self._store, judge, keys)
        ratings = self._aspects[judge, run.list_key]
        return wishes_met(metric, listed, self.texts(run), self.wishes(run), ratings)

    def wishes(self, run: Run) -> Mapping[str, Sequence[str]]:
        """Return what each preference is, by key of the items that say it."""
        if run.list_key not in self._wishes:
            self._wishes[run.list_key] = stated_wishes(self._store, run.list_key)
        return self._wishes[run.list_key]

    def rates(self, judge: str) -> bool:
        """Whether a judge gives ratings; else it chooses between a response and the reference."""
        return not chooses(self.specs.get(judge, {}))

    @cached_property
    def specs(self) -> Mapping[str, Mapping[str, Any]]:
        """What is known of each judge, by key."""
        return {judge.key: judge.spec for judge in list_judges(self._store)}

    def _read(self, runs: Sequence[Run], judge: str) -> None:
        for run in runs:
            self.listed(run)
        if self.rates(judge):
            with without_collection():
                self._rate(runs, judge)
            return
        todo = [run for run in runs if (judge, run.run_id) not in self._credits]
        rows = [paired_texts(self._store, run) for run in todo]
        said = iter(verdicts_on(self._store, [row for own in rows for row in own], judge))
        for run, own in zip(todo, rows, strict=True):
            of_run = [one for _, one in islice(said, len(own))]
            values = [math.nan if one.credit is None else one.credit for one in of_run]
            why = {row: one.reason or "" for row, one in enumerate(of_run) if one.winner is None}
            self._credits[judge, run.run_id] = Rated(np.array(values, dtype=np.float64), why)

    def _rate(self, runs: Sequence[Run], judge: str) -> None:
        """Look up what the judge said of every response and reference of the runs."""
        wanted = dict.fromkeys((run.generation_key, run.list_key) for run in runs)
        todo = [pair for pair in wanted if (judge, *pair) not in self._rated]
        if not todo:
            return
        lists = frozenset(list_key for _, list_key in todo)
        # Adding up is the database's work and holds no lock of Python's: both at the same time.
        with ThreadPoolExecutor(1) as other:
            of = {generation for generation, _ in todo}
            reading = other.submit(Totals, self._store, judge, lists, of if len(of) <= _FEW else ())
            unread = [pair for pair in todo if pair not in self._texts]
            found = read_answers(self._store, {generation for generation, _ in unread})
            for generation, list_key in unread:
                texts = answers(found[generation], self._lists[list_key])
                self._texts[generation, list_key] = texts
            totals = reading.result()
        for list_key in lists:
            self._texts["", list_key] = references(self._lists[list_key])
        for generation, list_key in [*todo, *(("", list_key) for list_key in lists)]:
            texts = self._texts[generation, list_key]
            self._rated[judge, generation, list_key] = totals.of(self._lists[list_key], texts)

    def _column(self, run: Run, listed: ItemList, metric: str, judge: str | None) -> Column:
        if judge is None:
            found = measured(self._store, run, metric)
            return Column(found.values, found.why, None)
        if metric not in JUDGED:
            return self._graded(run, judge, unit(metric))
        if metric == "rating_mean":
            return self._means(run, listed, judge)
        if metric in WISHED:
            found = self.satisfied(run, metric, judge)
            return Column(found.values, found.why, None)
        against = self.against_reference(run, judge)
        return compared(against, COMPARED[metric])

    def _graded(self, run: Run, judge: str, scale: float) -> Column:
        """Return what another tool scored, `scale` times as large as in its file."""
        said = grades_of(self._store, run, judge)
        values = np.array([math.nan if value is None else value * scale for value, _ in said])
        why = {row: own or NOT_JUDGED for row, (value, own) in enumerate(said) if value is None}
        return Column(values, why, None)

    def _means(self, run: Run, listed: ItemList, judge: str) -> Column:
        if not self.rates(judge):
            raise ConfigError(
                "this judge chooses between responses and gives no ratings, so there is no "
                "rating_mean"
            )
        own = self._rated[judge, run.generation_key, run.list_key]
        means = np.full(len(own.values), np.nan)
        np.divide(own.values, listed.wanted, out=means, where=listed.wanted > 0)
        return Column(means, own.why, None)


class Against(NamedTuple):
    """One run's responses against the references by one judge, item by item."""

    margins: Floats
    """(items,) above 0 where the response is ahead, 0 for a tie; NaN without a verdict."""
    why: Mapping[int, str]
    """Why there is no verdict, by row."""
    own: Rated
    """The responses' own points, whatever became of the references."""


def compared(against: Against, worth: tuple[float, float, float]) -> Column:
    """Return what winning, tying and losing against the reference is worth, item by item."""
    margins = against.margins
    known = ~np.isnan(margins)
    tied = np.where(known, margins == 0, np.nan)
    win, tie, loss = worth
    values = np.where(margins > 0, win, np.where(margins == 0, tie, loss))
    values[~known] = np.nan
    why = dict(against.why)
    if np.isnan(tie):
        why |= dict.fromkeys(np.flatnonzero(tied == 1).tolist(), TIED)
    return Column(values, why, tied)
