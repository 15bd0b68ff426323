"""One metric of several runs, item by item and side by side, from stored verdicts and responses."""

import gc
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import sqlalchemy as sa

from mipo_eval.errors import ConfigError
from mipo_eval.metrics.rates import METRIC_NAMES, TIE_CREDIT
from mipo_eval.records import text_key
from mipo_eval.stats import Crossed
from mipo_eval.stats.bootstrap import Floats
from mipo_eval.store import Store
from mipo_eval.store.responses import answered
from mipo_eval.store.runs import Run
from mipo_eval.store.tables import item_lists, items, responses, verdicts
from mipo_eval.tasks.grading import grade
from mipo_eval.tasks.questions import LETTERS

NOT_GENERATED = "not generated"
EMPTY = "empty response"
NO_REFERENCE = "item has no reference"
NO_PREFERENCES = "item has no preferences"
NOT_JUDGED = "not judged"
NOT_TOLD = "the model type does not tell"

WIN_RATES = {name: rule for rule, name in METRIC_NAMES.items()}
"""Win rate metric to its rule for ties."""
JUDGED = (*WIN_RATES, "tie_rate", "rating_mean")
JUDGE_FREE = ("accuracy", "response_tokens", "truncation_rate")
METRICS = (*JUDGED, *JUDGE_FREE)
"""Metrics that have one value per item, and so can be paired."""

_FETCH = 50_000
_NOTHING = text_key("")


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


class _Entry(NamedTuple):
    """An item of a list."""

    task: str
    key: str
    group: Crossed
    n_preferences: int
    reference_key: str | None


class _Column(NamedTuple):
    """One run's values of all items of its list."""

    values: Floats
    """(items,); NaN where there is none."""
    reasons: Sequence[str | None]
    """Per item why it has no value; only read where it has none."""
    tied: Floats
    """(items,) 1 for a tie with the reference, 0 for none; NaN where nothing was compared."""


def outcome_sheets(
    store: Store, runs: Sequence[Run], metric: str, judge_key: str | None = None
) -> list[Sheet]:
    """Return one sheet per task of the runs, tasks in order of first appearance.

    Args:
        store: where responses and verdicts are.
        runs: whose items; they may have different item lists.
        metric: one of `METRICS`.
        judge_key: whose ratings; needed by the metrics of `JUDGED`.

    Raises:
        ConfigError: the metric has no value per item, or it needs a judge and none is named.
    """
    if metric not in METRICS:
        raise ConfigError(f"{metric} has no value per item; known: {', '.join(METRICS)}")
    if metric in JUDGED and judge_key is None:
        raise ConfigError(f"{metric} is judged: name a judge of the store with --judge")
    lists = {key: _entries(store, key) for key in dict.fromkeys(run.list_key for run in runs)}
    if metric in JUDGED and judge_key is not None:
        columns = _judged_columns(store, runs, lists, (metric, judge_key))
    else:
        columns = (_measured(store, run, lists[run.list_key], metric) for run in runs)
    sheets: dict[str, list[_Part]] = {}
    for run, column in zip(runs, columns, strict=True):
        entries = lists[run.list_key]
        for task in dict.fromkeys(entry.task for entry in entries):
            own = [row for row, entry in enumerate(entries) if entry.task == task]
            reasons = [column.reasons[row] for row in own]
            part = _Column(column.values[own], reasons, column.tied[own])
            sheets.setdefault(task, []).append(_Part(run, [entries[row] for row in own], part))
    return [_sheet(task, metric, parts) for task, parts in sheets.items()]


class _Part(NamedTuple):
    """What one run gives to one sheet."""

    run: Run
    entries: Sequence[_Entry]
    column: _Column


def _sheet(task: str, metric: str, parts: Sequence[_Part]) -> Sheet:
    groups = {entry.key: entry.group for part in parts for entry in part.entries}
    row = {key: index for index, key in enumerate(groups)}
    table = np.full((len(groups), len(parts)), np.nan)
    rows: dict[str, list[int]] = {}
    for number, part in enumerate(parts):
        if part.run.list_key not in rows:
            rows[part.run.list_key] = [row[entry.key] for entry in part.entries]
        table[rows[part.run.list_key], number] = part.column.values
    return Sheet(
        task=task,
        metric=metric,
        keys=tuple(groups),
        groups=tuple(groups.values()),
        runs=tuple(part.run for part in parts),
        values=table,
        unscored=tuple(_unscored(part.column) for part in parts),
        ties=tuple(_tie_rate(part.column) for part in parts),
    )


def _unscored(column: _Column) -> Mapping[str, int]:
    absent = np.flatnonzero(np.isnan(column.values)).tolist()
    return Counter(str(column.reasons[row]) for row in absent)


def _tie_rate(column: _Column) -> float | None:
    known = column.tied[~np.isnan(column.tied)]
    return 100 * float(known.mean()) if len(known) else None


def _entries(store: Store, list_key: str) -> list[_Entry]:
    query = (
        sa.select(
            item_lists.c.task,
            item_lists.c.item_key,
            items.c.group_id,
            items.c.user_id,
            items.c.n_preferences,
            items.c.reference_key,
        )
        .join(items, items.c.item_key == item_lists.c.item_key)
        .where(item_lists.c.list_key == list_key)
        .order_by(item_lists.c.position)
    )
    with store.read() as connection:
        return [
            _Entry(task, key, Crossed(group, user), n_preferences, reference)
            for task, key, group, user, n_preferences, reference in connection.execute(query)
        ]


class _Rated(NamedTuple):
    """Ratings of one text per item of a list, added up; all (items,)."""

    number: Floats
    points: Floats
    reasons: Sequence[str | None]
    """Why a rating is missing, where one is."""
    absent: Sequence[str | None]
    """Why there is no text to rate, where there is none."""


class _Totals:
    """Every text a judge rated, added up in the database: one row a text comes back.

    The verdicts are read in the order they are stored in: looking texts up one by one is many
    times slower once a store is larger than the database's page cache.
    """

    def __init__(self, store: Store, judge_key: str, lists: Sequence[str]) -> None:
        listed = sa.select(item_lists.c.item_key).where(item_lists.c.list_key.in_(lists))
        query = (
            sa.select(
                verdicts.c.item_key,
                verdicts.c.text_key,
                sa.func.count(verdicts.c.rating),
                sa.func.coalesce(sa.func.sum(verdicts.c.rating), 0),
                sa.func.min(verdicts.c.reason),
            )
            .where(verdicts.c.judge_key == judge_key, verdicts.c.item_key.in_(listed))
            .group_by(verdicts.c.item_key, verdicts.c.text_key)
        )
        rows = _fetch(store, query)
        columns: Any = zip(*rows, strict=True) if rows else ((), (), (), (), ())
        keys, texts, numbers, points, reasons = columns
        self._reasons: tuple[str | None, ...] = (*reasons, None)
        self._row = {key + text: n for n, (key, text) in enumerate(zip(keys, texts, strict=True))}
        # The last row stands for a text without any verdict.
        self._number = np.array([*numbers, 0], dtype=float)
        self._points = np.array([*map(int, points), 0], dtype=float)

    def of(
        self, entries: Sequence[_Entry], texts: Sequence[str | None], absent: Sequence[str | None]
    ) -> _Rated:
        """Return the totals of one text per item; None is no text, which `absent` explains."""
        found = [
            -1 if text is None else self._row.get(entry.key + text, -1)
            for entry, text in zip(entries, texts, strict=True)
        ]
        reasons = [self._reasons[row] for row in found]
        return _Rated(self._number[found], self._points[found], reasons, absent)


def _fetch(store: Store, query: sa.Select[Any]) -> list[Any]:
    """Return all rows of a query at once."""
    paused = gc.isenabled()
    # Hundreds of thousands of tuples and no cycle among them: looking for one takes a third.
    gc.disable()
    try:
        with store.read() as connection:
            result = connection.execution_options(yield_per=_FETCH).execute(query)
            return [row for part in result.partitions() for row in part]
    finally:
        if paused:
            gc.enable()


def _response_texts(
    store: Store, runs: Sequence[Run]
) -> dict[str, dict[str, tuple[str | None, str | None]]]:
    """Return, by generation and item, (text key, None) or (None, why there is no text)."""
    wanted = {run.generation_key for run in runs}
    query = sa.select(
        responses.c.generation_key,
        responses.c.item_key,
        responses.c.text_key,
        responses.c.reason,
    ).where(responses.c.generation_key.in_(wanted))
    found: dict[str, dict[str, tuple[str | None, str | None]]] = {key: {} for key in wanted}
    for generation, item, text, reason in _fetch(store, query):
        has = text is not None and text != _NOTHING
        found[generation][item] = (text, None) if has else (None, reason or EMPTY)
    return found


def _judged_columns(
    store: Store,
    runs: Sequence[Run],
    lists: Mapping[str, Sequence[_Entry]],
    about: tuple[str, str],
) -> Iterator[_Column]:
    """Yield a judged metric's column for each run."""
    metric, judge_key = about
    totals = _Totals(store, judge_key, list(lists))
    references = {}
    for key, entries in lists.items():
        absent = [None if entry.reference_key else NO_REFERENCE for entry in entries]
        references[key] = totals.of(entries, [entry.reference_key for entry in entries], absent)
    answers = _response_texts(store, runs)
    nothing = (None, NOT_GENERATED)
    for run in runs:
        entries, own = lists[run.list_key], answers[run.generation_key]
        texts = [own.get(entry.key, nothing) for entry in entries]
        rated = totals.of(entries, [text for text, _ in texts], [why for _, why in texts])
        yield _outcomes(_judged(entries, rated, references[run.list_key]), metric, entries)


class _Judged(NamedTuple):
    """Exact sums of ratings of responses and references; NaN with the reason where none."""

    own: Floats
    reference: Floats
    own_reasons: Sequence[str | None]
    reference_reasons: Sequence[str | None]


def _judged(entries: Sequence[_Entry], own: _Rated, reference: _Rated) -> _Judged:
    wanted = np.array([entry.n_preferences for entry in entries], dtype=float)
    sums, reasons = [], []
    for rated in (own, reference):
        whole = (rated.number == wanted) & (wanted > 0)
        sums.append(np.where(whole, rated.points, np.nan))
        reasons.append(_why_not(rated, wanted, whole))
    for row in np.flatnonzero([why is not None for why in own.absent]).tolist():
        sums[0][row] = np.nan
    return _Judged(sums[0], sums[1], reasons[0], reasons[1])


def _why_not(rated: _Rated, wanted: Floats, whole: Any) -> list[str | None]:
    reasons: list[str | None] = list(rated.absent)
    for row in np.flatnonzero(~whole).tolist():
        if reasons[row] is None:
            unrated = NO_PREFERENCES if not wanted[row] else rated.reasons[row] or NOT_JUDGED
            reasons[row] = unrated
    return reasons


def _outcomes(judged: _Judged, metric: str, entries: Sequence[_Entry]) -> _Column:
    if metric == "rating_mean":
        wanted = np.array([entry.n_preferences for entry in entries], dtype=float)
        means = np.full(len(entries), np.nan)
        np.divide(judged.own, wanted, out=means, where=wanted > 0)
        return _Column(means, judged.own_reasons, np.full(len(entries), np.nan))
    margins = judged.own - judged.reference
    tied = np.where(np.isnan(margins), np.nan, margins == 0)
    credit = 100.0 if metric == "tie_rate" else TIE_CREDIT[WIN_RATES[metric]]
    won = 0.0 if metric == "tie_rate" else 100.0 * (margins > 0)
    values = np.where(np.isnan(margins), np.nan, won + credit * (margins == 0))
    reasons = [
        own or (reference and f"reference: {reference}")
        for own, reference in zip(judged.own_reasons, judged.reference_reasons, strict=True)
    ]
    bare = [
        reason and reason.replace(f"reference: {NO_REFERENCE}", NO_REFERENCE) for reason in reasons
    ]
    return _Column(values, bare, tied)


def _measured(store: Store, run: Run, entries: Sequence[_Entry], metric: str) -> _Column:
    """Return what needs no judge."""
    if metric == "accuracy":
        pairs = list(_accuracies(store, run))
    else:
        pairs = list(_endings(store, run, entries, metric))
    values = np.array([math.nan if value is None else value for value, _ in pairs], dtype=float)
    return _Column(values, [reason for _, reason in pairs], np.full(len(pairs), np.nan))


_Pair = tuple[float | None, str | None]
"""A value, or None and why."""


def _endings(store: Store, run: Run, entries: Sequence[_Entry], metric: str) -> Iterator[_Pair]:
    """Yield each response's length in tokens, or 100 where it was cut off."""
    query = sa.select(
        responses.c.item_key,
        responses.c.text_key,
        responses.c.reason,
        responses.c.finish_reason,
        responses.c.response_tokens,
    ).where(responses.c.generation_key == run.generation_key)
    with store.read() as connection:
        found = {row.item_key: row for row in connection.execute(query)}
    for entry in entries:
        row = found.get(entry.key)
        if row is None:
            yield None, NOT_GENERATED
        elif row.text_key is None or row.text_key == _NOTHING:
            yield None, row.reason or EMPTY
        elif metric == "response_tokens":
            yield (None, NOT_TOLD) if row.response_tokens is None else (row.response_tokens, None)
        elif row.finish_reason is None:
            yield None, NOT_TOLD
        else:
            yield 100.0 * (row.finish_reason == "length"), None


def _accuracies(store: Store, run: Run) -> Iterator[_Pair]:
    """Yield 100 for a right answer and 0 for any other reply."""
    for entry in answered(store, run.list_key, run.generation_key):
        response = entry.response
        if response is None or response.text is None:
            yield None, (response.reason if response else None) or NOT_GENERATED
        elif "kind" not in entry.item.meta:
            raise ConfigError(
                f"run {run.run_id[:12]} is of {run.suite}, whose items have no answer to check: "
                "accuracy is for verifiable suites; use --metric win_rate_tie_inclusive"
            )
        elif response.choice_logprobs is not None:
            likeliest = max(
                range(len(response.choice_logprobs)), key=response.choice_logprobs.__getitem__
            )
            right = LETTERS.index(entry.item.reference or "") == likeliest
            yield 100.0 * right, None
        else:
            yield 100.0 * (grade(entry.item, response.text) == "right"), None
