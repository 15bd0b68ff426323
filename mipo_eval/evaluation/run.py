"""The main job: items -> responses -> ratings -> scores, each stored before the next begins.

Every arrow can be stopped and resumed: what the store has is not made again.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from mipo_eval import __version__
from mipo_eval.errors import ModelError
from mipo_eval.evaluation.context_lift import lift_scores
from mipo_eval.evaluation.controls import CONTROLS, control_texts
from mipo_eval.evaluation.generate import Asking, asking_parts, respond
from mipo_eval.evaluation.score import (
    answer_scores,
    control_scores,
    ending_scores,
    judged_items,
    judged_scores,
    likelihood_scores,
    response_scores,
    why_no_text,
)
from mipo_eval.judges import Judge
from mipo_eval.judges.judging import is_unrated, rate, with_references
from mipo_eval.judges.weighing import weighted_scores
from mipo_eval.keys import digest
from mipo_eval.models.prices import spending
from mipo_eval.models.spec import ModelSpec
from mipo_eval.progress import Progress, Stage, run_shown
from mipo_eval.records import Item, Score
from mipo_eval.signature import NOTHING, Signature, join, short
from mipo_eval.store import Store
from mipo_eval.store.responses import Answered, Scorable, answered, scorable
from mipo_eval.store.runs import Run, put_scores
from mipo_eval.store.verdicts import totals


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation(Asking):
    """Everything one run is asked to do."""

    judges: Sequence[Judge]
    controls: bool = False
    """Also judge the control entrants, which must not do well."""
    scoring_model: str | None = None
    """Checkpoint that measures context lift; None leaves it out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished run."""

    run: Run
    scores: list[Score]
    judges: Sequence[Judge] = ()
    """Who judged; their backends know what was asked now and what it cost."""


def evaluate(store: Store, evaluation: Evaluation, progress: Progress) -> Result:
    """Run the main job and return its scores, all of it stored.

    Raises:
        MipoEvalError: whatever the user must change; what was made before is kept.
    """

    def check_judges() -> None:  # before hours of generation, not after
        for judge in evaluation.judges:
            asyncio.run(judge.backend.check())

    run = respond(store, evaluation, progress, before=check_judges)
    rows = list(scorable(store, run.list_key, run.generation_key))
    _require_responses(rows, evaluation.model)
    for judge in evaluation.judges:
        _judge(store, run, judge, rows, progress)
    scores = _scores(store, evaluation, run, rows, progress)
    put_scores(store, run.run_id, scores)
    return Result(run=run, scores=scores, judges=evaluation.judges)


def _require_responses(rows: Sequence[Scorable], model: ModelSpec) -> None:
    if any(row.text for row in rows):
        return
    reasons = sorted({why_no_text(row) or "" for row in rows})
    raise ModelError(
        f"{model.name} has no response to any of {len(rows)} items ({'; '.join(reasons)}): "
        "nothing to score; check its chat template, context length and --decoding"
    )


def _judge(
    store: Store, run: Run, judge: Judge, rows: Sequence[Scorable], progress: Progress
) -> None:
    total = sum(r.n_preferences * (bool(r.text) + bool(r.reference_key)) for r in rows)
    stage = Stage(f"ratings by {judge.name}", total, partial(spending, judge.backend))
    known = totals(store, judge.key, run.list_key)
    texts_of = ((row, row.text_key if row.text else None, row.reference_key) for row in rows)
    if any(
        is_unrated(known.get((row.item_key, key)), row.n_preferences)
        for row, *keys in texts_of
        for key in keys
        if key and row.n_preferences
    ):
        asyncio.run(judge.backend.check())

    def texts() -> Iterator[tuple[Item, str]]:
        for entry in answered(store, run.list_key, run.generation_key):
            yield entry.item, (entry.response.text if entry.response else None) or ""

    work = rate(store, judge, with_references(texts()), advance=progress.advance)
    run_shown(work, progress, stage)


def _scores(
    store: Store, evaluation: Evaluation, run: Run, rows: Sequence[Scorable], progress: Progress
) -> list[Score]:
    """Return the scores of every task, signed."""
    suite, seed = evaluation.suite, run.seed
    entries = _entries(store, evaluation, run)
    scores: list[Score] = []
    for task in suite.tasks:
        of_task = [row for row in rows if row.task == task.name]
        context = _context(evaluation, [row.item_key for row in of_task])
        if suite.form == "query":
            free = response_scores(of_task, seed=seed)
        elif suite.form == "answer":
            free = answer_scores(entries[task.name], seed=seed) + ending_scores(of_task, seed=seed)
        else:
            free = likelihood_scores(entries[task.name], choices=suite.form, seed=seed)
        if evaluation.scoring_model and suite.form == "query":
            model = evaluation.scoring_model
            free += lift_scores(store, entries[task.name], model, seed=seed, progress=progress)
        scores += [_signed(score, task.name, context) for score in free]
        for judge in evaluation.judges:
            ratings = totals(store, judge.key, run.list_key)
            by = join(**judge.signature_parts())
            judged = judged_scores(of_task, ratings, seed=seed)
            rated = judged_items(of_task)
            judged += weighted_scores(store, judge, rated, run.list_key, seed=seed)
            scores += [_signed(score, task.name, context, by) for score in judged]
            if evaluation.controls:
                scores += [
                    _signed(score, task.name, context, by.followed_by(join(control=control)))
                    for control, score in _controls(
                        store, run, judge, entries[task.name], of_task, progress
                    )
                ]
    return scores


def _entries(store: Store, evaluation: Evaluation, run: Run) -> dict[str, list[Answered]]:
    """Return items with responses by task, for what needs more of them than their keys."""
    entries: dict[str, list[Answered]] = {task.name: [] for task in evaluation.suite.tasks}
    if evaluation.suite.form != "query" or evaluation.controls or evaluation.scoring_model:
        for entry in answered(store, run.list_key, run.generation_key):
            entries[entry.task].append(entry)
    return entries


def _controls(
    store: Store,
    run: Run,
    judge: Judge,
    entries: Sequence[Answered],
    rows: Sequence[Scorable],
    progress: Progress,
) -> Iterator[tuple[str, Score]]:
    """Judge the control entrants of one task and yield their scores."""
    for control in CONTROLS:
        texts = control_texts(control, entries, seed=run.seed)
        pairs = [(e.item, text) for e, text in zip(entries, texts, strict=True) if text]
        total = sum(len(item.preferences) for item, _ in pairs)
        status = partial(spending, judge.backend)
        stage = Stage(f"control {control} by {judge.name}", total, status)
        run_shown(rate(store, judge, pairs, advance=progress.advance), progress, stage)
        ratings = totals(store, judge.key, run.list_key)
        for score in control_scores(rows, texts, ratings, seed=run.seed):
            yield control, score


def _context(evaluation: Evaluation, item_keys: list[str]) -> Signature:
    """Return the part of a signature that all scores of a task share."""
    drawn = evaluation.suite.form in {"query", "answer"}
    return join(
        suite=f"{evaluation.suite.name}@{evaluation.suite.version}",
        items=short(digest(item_keys)),
        **asking_parts(evaluation.suite, evaluation.prompting),
        decoding=evaluation.decoding.describe() if drawn else None,
        seed=evaluation.decoding.seed,
    )


def _signed(score: Score, task: str, context: Signature, by: Signature = NOTHING) -> Score:
    signature = context.followed_by(by, score.signature, join(version=__version__))
    return replace(score, task=task, signature=signature)
