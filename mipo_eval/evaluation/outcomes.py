"""One metric of several runs, item by item and side by side, from stored verdicts and responses."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mipo_eval.errors import ConfigError
from mipo_eval.evaluation.answers import CHECKED, JUDGE_FREE, measured
from mipo_eval.metrics.win_rate import METRIC_NAMES, TIE_CREDIT
from mipo_eval.signature import Signature
from mipo_eval.stats import Crossed
from mipo_eval.stats.bootstrap import Floats
from mipo_eval.store import Store
from mipo_eval.store.matrix import (
    NO_REFERENCE,
    Index,
    ItemList,
    Rated,
    Texts,
    Totals,
    answers,
    read_answers,
    read_list,
    references,
    without_collection,
)
from mipo_eval.store.runs import Run

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
JUDGED = (*COMPARED, "rating_mean")
METRICS = (*JUDGED, *JUDGE_FREE)
"""Metrics that have one value per item, and so can be paired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One metric of several runs on the items of one task."""

    task: str
    metric: str
    keys: tuple[str, ...]
    """Item keys, in order of first appearance."""
    groups: tuple[Crossed, ...]
    runs: tuple[Run, ...]
    values: Floats
    """(items, runs), in the units of the metric; NaN where a run has no value."""
    unscored: tuple[Mapping[str, int], ...]
    """Per run: its own items without a value, counted by reason."""
    ties: tuple[float | None, ...]
    """Per run: tie rate in percent; None where nothing is compared with a reference."""


class _Column(NamedTuple):
    """One run's values of all items of its list."""

    values: Floats
    """(items,); NaN where there is none."""
    why: Mapping[int, str]
    """Why, by row."""
    tied: Floats | None
    """(items,) 1 for a tie with the reference, 0 for none, NaN where nothing was compared."""


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
        self._sheets: dict[tuple[str, str | None, tuple[str, ...]], list[Sheet]] = {}

    def sheets(self, runs: Sequence[Run], metric: str, judge_key: str | None = None) -> list[Sheet]:
        """Return one sheet per task of the runs, tasks in order of first appearance.

        Args:
            runs: whose items; they may have different item lists.
            metric: one of `METRICS`.
            judge_key: whose ratings; needed by the metrics of `JUDGED`.

        Raises:
            ConfigError: the metric has no value per item, or needs a judge and none is named.
        """
        if metric not in METRICS:
            raise ConfigError(f"{metric} has no value per item; known: {', '.join(METRICS)}")
        if metric in JUDGED and judge_key is None:
            raise ConfigError(f"{metric} is judged: name a judge of the store with --judge")
        judge = judge_key if metric in JUDGED else None
        key = (metric, judge, tuple(run.run_id for run in runs))
        if key not in self._sheets:
            self._sheets[key] = self._made(runs, metric, judge)
        return self._sheets[key]

    def _made(self, runs: Sequence[Run], metric: str, judge: str | None) -> list[Sheet]:
        for list_key in {run.list_key for run in runs} - self._lists.keys():
            self._lists[list_key] = read_list(self._store, list_key)
        if judge is not None:
            with without_collection():
                self._rate(runs, judge)
        sheets: dict[str, list[_Part]] = {}
        for run in runs:
            listed = self._lists[run.list_key]
            column = self._column(run, listed, metric, judge)
            for task in listed.tasks:
                sheets.setdefault(task, []).append(_Part(run, listed, column))
        return [_sheet(task, metric, parts) for task, parts in sheets.items()]

    def _rate(self, runs: Sequence[Run], judge: str) -> None:
        """Look up what the judge said of every response and reference of the runs."""
        wanted = dict.fromkeys((run.generation_key, run.list_key) for run in runs)
        todo = [pair for pair in wanted if (judge, *pair) not in self._rated]
        if not todo:
            return
        lists = frozenset(list_key for _, list_key in todo)
        # Adding up is the database's work and holds no lock of Python's: both at the same time.
        with ThreadPoolExecutor(1) as other:
            reading = other.submit(Totals, self._store, judge, lists)
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

    def _column(self, run: Run, listed: ItemList, metric: str, judge: str | None) -> _Column:
        if judge is None:
            found = measured(self._store, run, listed, metric)
            return _Column(found.values, found.why, None)
        own = self._rated[judge, run.generation_key, run.list_key]
        if metric == "rating_mean":
            means = np.full(len(own.values), np.nan)
            np.divide(own.values, listed.wanted, out=means, where=listed.wanted > 0)
            return _Column(means, own.why, None)
        return _compared(own, self._rated[judge, "", run.list_key], COMPARED[metric])


def has_values(metric: str, judge_key: str | None, signatures: Iterable[Signature] = ()) -> bool:
    """Return whether a metric has a value per item.

    Args:
        metric: its name.
        judge_key: whose ratings; an imported judge has no key, and its numbers no values.
        signatures: of the stored numbers. What another tool checked is not checked again: its
            items do not say how.
    """
    if metric in CHECKED and any("source" in signature.parts for signature in signatures):
        return False
    return metric in METRICS and (judge_key is not None or metric not in JUDGED)


def outcome_sheets(
    store: Store, runs: Sequence[Run], metric: str, judge_key: str | None = None
) -> list[Sheet]:
    """Return `Outcomes(store).sheets(...)`, for who needs one metric once."""
    return Outcomes(store).sheets(runs, metric, judge_key)


def _compared(own: Rated, reference: Rated, worth: tuple[float, float, float]) -> _Column:
    """Return what winning, tying and losing against the reference is worth, item by item."""
    margins = own.values - reference.values
    known = ~np.isnan(margins)
    tied = np.where(known, margins == 0, np.nan)
    win, tie, loss = worth
    values = np.where(margins > 0, win, np.where(margins == 0, tie, loss))
    values[~known] = np.nan
    why = {
        row: reason if reason == NO_REFERENCE else f"reference: {reason}"
        for row, reason in reference.why.items()
    }
    why |= own.why
    if np.isnan(tie):
        why |= dict.fromkeys(np.flatnonzero(tied == 1).tolist(), TIED)
    return _Column(values, why, tied)


class _Part(NamedTuple):
    """What one run gives to one sheet."""

    run: Run
    listed: ItemList
    column: _Column


def _sheet(task: str, metric: str, parts: Sequence[_Part]) -> Sheet:
    row: dict[str, int] = {}
    groups: list[Crossed] = []
    places: dict[str, list[int]] = {}
    for part in parts:
        if part.run.list_key in places:
            continue
        for index in part.listed.tasks[task].tolist():
            key = part.listed.keys[index]
            if key not in row:
                row[key] = len(row)
                groups.append(part.listed.groups[index])
            places.setdefault(part.run.list_key, []).append(row[key])
    table = np.full((len(row), len(parts)), np.nan)
    for number, part in enumerate(parts):
        own = part.column.values[part.listed.tasks[task]]
        table[places[part.run.list_key], number] = own
    return Sheet(
        task=task,
        metric=metric,
        keys=tuple(row),
        groups=tuple(groups),
        runs=tuple(part.run for part in parts),
        values=table,
        unscored=tuple(_unscored(part.column, part.listed.tasks[task]) for part in parts),
        ties=tuple(_tie_rate(part.column, part.listed.tasks[task]) for part in parts),
    )


def _unscored(column: _Column, rows: Index) -> Mapping[str, int]:
    absent = rows[np.isnan(column.values[rows])].tolist()
    return Counter(column.why[row] for row in absent)


def _tie_rate(column: _Column, rows: Index) -> float | None:
    if column.tied is None:
        return None
    known = column.tied[rows]
    known = known[~np.isnan(known)]
    return 100 * float(known.mean()) if len(known) else None
