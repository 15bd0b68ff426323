"""The leaderboard: methods x tasks, with seeds, intervals, ranks, tie letters and tie rates."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mipo_eval.evaluation.outcomes import DERIVED, Sheet, has_values
from mipo_eval.metrics.aggregate import direction
from mipo_eval.metrics.win_rate import METRIC_NAMES, Ties
from mipo_eval.records import Score
from mipo_eval.reports.catalog import RowName, RowRule, column_signature, row_name
from mipo_eval.reports.cells import Cell, _Column, Line, cell_json, cells_of, stored_score
from mipo_eval.reports.snapshot import Snapshot
from mipo_eval.reports.trained import trained_rules
from mipo_eval.signature import Signature, join, short
from mipo_eval.store import Store
from mipo_eval.store.judges import StoredJudge, find_judge
from mipo_eval.store.runs import Run

__all__ = ["LeaderboardQuery", "Cell", "Row", "Section", "leaderboard", "section_json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderboardQuery:
    """What a leaderboard is to show."""

    suite: str | None = None
    judge: str | None = None
    ties: Ties = "win"
    metric: str | None = None
    """None: the win rate of judged suites (mean rating without references), else accuracy."""
    rules: tuple[RowRule, ...] = ()
    """What runs are called; after them come the names of the checkpoints trained here."""
    variants_apart: bool = False
    """A row per variant of a method, instead of the best of them with its mark."""
    tasks: tuple[str, ...] | None = None
    ranked: bool = True
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One method."""

    name: RowName
    cells: Mapping[str, Cell]
    """Task to cell; a task that was not run is not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """One suite under one metric and one judge."""

    suite: str
    metric: str
    judge: str | None
    tasks: tuple[str, ...]
    rows: tuple[Row, ...]
    signatures: Mapping[str, Signature]
    """Task to the signature that most rows of its column share."""


Scored = list[tuple[Run, Score]]


def leaderboard(source: Store | Snapshot, asked: LeaderboardQuery) -> list[Section]:
    """Return a section for each suite, metric and judge of the store, best rows first.

    Args:
        source: the store, or a snapshot of it that is kept for the next leaderboard.
        asked: what to show.

    Raises:
        ConfigError: no such judge.
    """
    now = source if isinstance(source, Snapshot) else Snapshot(source)
    asked = replace(asked, rules=(*asked.rules, *trained_rules(now.trainings)))
    judges = {short(judge.key): judge for judge in now.judges}
    only = short(find_judge(now.store, asked.judge).key) if asked.judge else None
    groups: dict[tuple[str, str | None], Scored] = {}
    for run, score in now.scores:
        by = score.judge_key
        wanted = asked.suite in {None, run.suite} and only in {None, by}
        if wanted and (asked.tasks is None or score.task in asked.tasks):
            groups.setdefault((run.suite, by), []).append((run, score))
    sections = []
    for (suite, by), scored in groups.items():
        metric = asked.metric or _primary(scored, asked.ties, judged=by is not None)
        own = [] if metric is None else _of_metric(scored, metric)
        if metric is not None and own:
            judge = judges.get(by) if by else None
            sections.append(_section(now, asked, (suite, metric), own, judge))
    return sections


def _of_metric(scored: Scored, metric: str) -> Scored:
    """Return the scores of a metric; one that is not stored stands where the win rate does."""
    if metric not in DERIVED:
        return [(run, score) for run, score in scored if score.metric == metric]
    made = []
    for run, score in _of_metric(scored, METRIC_NAMES["win"]):
        signature = score.signature.followed_by(join(ties=DERIVED[metric]))
        blank = Score(metric=metric, value=None, n=0, signature=signature, task=score.task)
        made.append((run, blank))
    return made


def _primary(scored: Scored, ties: Ties, *, judged: bool) -> str | None:
    found = {score.metric for _, score in scored}
    wanted = (METRIC_NAMES[ties], "rating_mean") if judged else ("accuracy",)
    return next((metric for metric in wanted if metric in found), None)


def _section(
    now: Snapshot,
    asked: LeaderboardQuery,
    about: tuple[str, str],
    scored: Scored,
    judge: StoredJudge | None,
) -> Section:
    suite, metric = about
    tasks = tuple(dict.fromkeys(score.task for _, score in scored))
    signatures = {
        task: Counter(
            column_signature(score.signature) for _, score in scored if score.task == task
        ).most_common(1)[0][0]
        for task in tasks
    }
    lines = _lines(scored, asked)
    sheets: dict[str, Sheet] = {}
    if has_values(metric, judge.key if judge else None, signatures.values()):
        runs = [run for line in lines for run in line.runs]
        found = now.outcomes.sheets(runs, metric, judge.key if judge else None)
        sheets = {sheet.task: sheet for sheet in found}
    ranking = direction(metric) is not None
    rows: dict[int, tuple[RowName, dict[str, Cell]]] = {}
    for task in tasks:
        groups = _groups(lines, task, apart=asked.variants_apart or not ranking)
        column = _Column(
            task=task,
            metric=metric,
            signature=signatures[task],
            sheet=sheets.get(task),
            numbers=now.numbers,
            judge=judge.key if judge else None,
            ranked=asked.ranked and ranking,
            seed=asked.seed,
        )
        for group, cell in zip(groups, cells_of(groups, column), strict=True):
            name = group[0].name if len(group) == 1 else replace(group[0].name, variant=None)
            rows.setdefault(id(group[0]), (name, {}))[1][task] = cell
    made = [Row(name=name, cells=cells) for name, cells in rows.values()]
    made.sort(key=lambda row: _order(row, tasks, -1 if direction(metric) == "lower" else 1))
    return Section(
        suite=suite,
        metric=metric,
        judge=judge.label if judge else None,
        tasks=tasks,
        rows=tuple(made),
        signatures=signatures,
    )


def _order(row: Row, tasks: Sequence[str], sign: int) -> tuple[bool, float]:
    values = [cell.value for task in tasks if (cell := row.cells.get(task)) is not None]
    known = [value for value in values if value is not None]
    return not known, -sign * sum(known) / len(known) if known else 0.0


def _lines(scored: Scored, asked: LeaderboardQuery) -> list[Line]:
    """Gather runs into rows: same name and made alike; the latest run of each seed."""
    made: dict[str, set[str]] = {}
    for run, score in scored:
        made.setdefault(run.run_id, set()).add(f"{score.task} {column_signature(score.signature)}")
    lines: dict[tuple[RowName, frozenset[str]], dict[tuple[int, int], Run]] = {}
    for run in {run.run_id: run for run, _ in scored}.values():
        name, seeds = row_name(run, asked.rules)
        lines.setdefault((name, frozenset(made[run.run_id])), {})[seeds] = run
    scores = {(run.run_id, score.task): score for run, score in scored}
    return [
        Line(name=name, runs=tuple(runs.values()), scores=scores)
        for (name, _), runs in lines.items()
    ]


def _groups(lines: Sequence[Line], task: str, *, apart: bool) -> list[list[Line]]:
    """Put the variants of a method together, as far as they were made alike on this task."""
    groups: dict[tuple[object, ...], list[Line]] = {}
    for line in lines:
        score = stored_score(line, task)
        if score is None:
            continue
        alone = apart or line.name.variant is None
        method = (line.name.model, line.name.method, line.name.variant if alone else "")
        signature = column_signature(score.signature)
        groups.setdefault((*method, signature, id(line) if alone else 0), []).append(line)
    return list(groups.values())


def section_json(section: Section) -> dict[str, Any]:
    """Return a section as `--json` shows it."""
    return {
        "suite": section.suite,
        "metric": section.metric,
        "judge": section.judge,
        "signatures": dict(section.signatures),
        "rows": [
            {
                "model": row.name.model,
                "method": row.name.method,
                "variant": row.name.variant,
                "cells": {task: cell_json(cell) for task, cell in row.cells.items()},
            }
            for row in section.rows
        ],
    }
