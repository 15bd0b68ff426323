"""The main job: items -> responses -> ratings -> scores, each stored before the next begins.

Every arrow can be stopped and resumed: what the store has is not made again.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from mipo_eval import __version__
from mipo_eval.errors import ModelError
from mipo_eval.evaluation.context_lift import Lifted, lift_scores
from mipo_eval.evaluation.controls import CONTROLS, control_texts
from mipo_eval.evaluation.generate import SETTINGS, Evaluation, asking_parts, respond, system_role
from mipo_eval.evaluation.score import Numbers, why_no_text
from mipo_eval.judges.judge import Judge
from mipo_eval.judges.run import is_unrated, rate, with_references
from mipo_eval.keys import digest
from mipo_eval.models.base import CALL_FAILED, Limits
from mipo_eval.models.prices import spending
from mipo_eval.models.thinking import CUT
from mipo_eval.progress import Planned, Progress, Stage, Steps, run_shown
from mipo_eval.records import Item, Run, Score
from mipo_eval.signature import NOTHING, Signature, join, short
from mipo_eval.store.calls import call_sizes
from mipo_eval.store.engine import Store
from mipo_eval.store.items import any_system_turn, has_published_references
from mipo_eval.store.judges import list_judges
from mipo_eval.store.responses import Answered, Scorable, answered, scorable
from mipo_eval.store.runs import generation_spec, put_scores
from mipo_eval.store.verdicts import totals

_SAMPLE = 200
"""Stored calls that tell how long a judge takes."""


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
    steps = Steps(progress)

    def check_judges(run: Run, missing: int) -> None:  # before hours of generation, not after
        for judge in evaluation.judges:
            asyncio.run(judge.backend.check())
        rows = list(scorable(store, run.list_key, run.generation_key))
        asking = Planned(evaluation.model.name, missing, None)
        steps.plan([asking, *_steps(store, evaluation, run, rows, made=False)])

    run = respond(store, evaluation, steps, before=check_judges)
    rows = list(scorable(store, run.list_key, run.generation_key))
    _require_responses(rows, evaluation)
    coming = list(_steps(store, evaluation, run, rows))
    steps.plan(coming)
    ratings = sum(r.n_preferences * (bool(r.text) + bool(r.reference_key)) for r in rows)
    del rows  # all texts of the run, which are read again where they are judged and scored
    for judge, planned in zip(evaluation.judges, coming, strict=False):  # controls come after
        stage = Stage(f"ratings by {judge.name}", ratings, partial(spending, judge.backend))
        if planned.units:
            asyncio.run(judge.backend.check())
            _judge(store, run, judge, stage, steps)
        else:  # all of them are stored
            steps.start(stage.what, stage.total, stage.status)
            steps.advance(stage.total)
            steps.finish()
    scores = _scores(store, evaluation, run, steps)
    put_scores(store, run.run_id, scores)
    return Result(run=run, scores=scores, judges=evaluation.judges)


def _steps(
    store: Store, evaluation: Evaluation, run: Run, rows: Sequence[Scorable], *, made: bool = True
) -> Iterator[Planned]:
    """Yield what comes after the responses; if they are not made, each is taken to come."""
    for judge in evaluation.judges:
        known = totals(store, judge.key, run.list_key)
        units = 0
        for row in rows:
            texts = [row.text_key] if row.text else [] if made else [None]
            texts += [row.reference_key] if row.reference_key else []
            for text in texts:
                total = known.get((row.item_key, text)) if text else None
                if is_unrated(total, row.n_preferences):
                    units += row.n_preferences - (total.rated if total else 0)
        yield Planned(judge.key, units, _seconds(store, judge, units))
    if evaluation.controls:
        for judge in evaluation.judges:
            for task in dict.fromkeys(row.task for row in rows):
                units = sum(row.n_preferences for row in rows if row.task == task)
                seconds = _seconds(store, judge, units)
                yield from (Planned(judge.key, units, seconds) for _ in CONTROLS)


def _seconds(store: Store, judge: Judge, calls: int) -> float | None:
    """Return how long a judge takes by its stored calls, as many at once as is usual."""
    took = [one.seconds for one in call_sizes(store, judge.key, _SAMPLE) if one.seconds is not None]
    if not calls or not took:
        return None if calls else 0.0
    return max(calls / Limits().concurrency, 1.0) * fmean(took)


def _require_responses(rows: Sequence[Scorable], evaluation: Evaluation) -> None:
    if any(row.text for row in rows):
        return
    model, backend = evaluation.model, evaluation.options.backend
    reasons = sorted({why_no_text(row) or "" for row in rows})
    remedy = "check its chat template, context length and --decoding"
    if any(reason.startswith(CALL_FAILED) for reason in reasons):
        words = backend.usage.complaint if backend else None
        remedy = f"{words or 'see what its server says'}; repeat the command to ask again"
    if CUT in reasons:
        remedy = "give it more --decoding max_tokens=N, or --engine enable_thinking=false"
    raise ModelError(
        f"{model.name} has no response to any of {len(rows)} items ({'; '.join(reasons)}): "
        f"nothing to score; {remedy}"
    )


def _judge(store: Store, run: Run, judge: Judge, stage: Stage, progress: Progress) -> None:
    def texts() -> Iterator[tuple[Item, str]]:
        for entry in answered(store, run.list_key, run.generation_key):
            yield entry.item, (entry.response.text if entry.response else None) or ""

    work = rate(store, judge, with_references(texts()), advance=progress.advance)
    run_shown(work, progress, stage)


def _scores(store: Store, evaluation: Evaluation, run: Run, progress: Progress) -> list[Score]:
    """Return the scores of every task, signed."""
    if evaluation.controls:
        for judge in evaluation.judges:
            _judge_controls(store, run, judge, progress)
    numbers = Numbers(store)
    judges = {judge.key: judge for judge in list_judges(store)}
    listed = numbers.outcomes.listed(run)
    scores: list[Score] = []
    is_told = bool(evaluation.options.system) or any_system_turn(store, run.list_key)
    role = system_role(evaluation.model, evaluation.options) if is_told else {}
    if settings := generation_spec(store, run.generation_key).get(SETTINGS):
        role |= {"model_settings": str(settings)}
    for task, rows in listed.tasks.items():
        suite = evaluation.suite.only(task)
        context = _context(
            replace(evaluation, suite=suite), [listed.keys[row] for row in rows], role
        )
        free = numbers.free(run, task, evaluation.suite.form)
        if evaluation.scoring_model and evaluation.suite.form == "query":
            entries = list(answered(store, run.list_key, run.generation_key, task))
            model = evaluation.scoring_model
            asked = Lifted(
                entries=entries,
                checkpoint=model,
                system=evaluation.options.system,
                wording=suite.tasks[0].wording,
            )
            free += lift_scores(store, asked, seed=run.seed, progress=progress)
        scores += [_signed(score, task, context) for score in free]
        published = has_published_references(store, run.list_key, task)
        against = join(reference="published" if published else None)
        for judge in evaluation.judges:
            judged = numbers.judged(run, task, judges[judge.key])
            if evaluation.controls:
                judged += numbers.controls(run, task, judges[judge.key])
            by = against.followed_by(join(**judge.signature_parts()))
            scores += [_signed(score, task, context, by) for score in judged]
    return scores


def _judge_controls(store: Store, run: Run, judge: Judge, progress: Progress) -> None:
    """Have a judge rate the control entrants of every task."""
    tasks: dict[str, list[Answered]] = {}
    for entry in answered(store, run.list_key, run.generation_key):
        tasks.setdefault(entry.task, []).append(entry)
    for entries in tasks.values():
        for control in CONTROLS:
            texts = control_texts(control, entries, seed=run.seed)
            pairs = [(e.item, text) for e, text in zip(entries, texts, strict=True) if text]
            total = sum(len(item.preferences) for item, _ in pairs)
            status = partial(spending, judge.backend)
            stage = Stage(f"control {control} by {judge.name}", total, status)
            run_shown(rate(store, judge, pairs, advance=progress.advance), progress, stage)


def _context(evaluation: Evaluation, item_keys: list[str], role: dict[str, str]) -> Signature:
    """Return the part of a signature that all scores of a task share.

    `role` is of system turns, and what else the model's server made of what it was asked.
    """
    suite = evaluation.suite
    drawn = suite.form in {"query", "answer"}
    return join(
        suite=f"{suite.name}@{suite.version}",
        items=short(digest(item_keys)),
        **role | asking_parts(suite, evaluation.prompting, evaluation.model, evaluation.options),
        decoding=_decoding(evaluation) if drawn else None,
        thinking=evaluation.options.effort.describe(),
        seed=evaluation.decoding.seed,
    )


def _decoding(evaluation: Evaluation) -> str:
    """Return how responses were drawn; a function alone knows how it draws."""
    return "own" if evaluation.model.engine == "own" else evaluation.decoding.describe()


def _signed(score: Score, task: str, context: Signature, by: Signature = NOTHING) -> Score:
    signature = context.followed_by(by, score.signature, join(version=__version__))
    return replace(score, task=task, signature=signature)
