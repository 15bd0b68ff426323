"""The main job: items -> responses -> ratings -> scores, each stored before the next begins.

Every arrow can be stopped and resumed: what the store has is not made again.
"""

import asyncio
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from mipo_eval import __version__
from mipo_eval.controls import CONTROLS, control_metric, control_texts
from mipo_eval.errors import DataError, ModelError
from mipo_eval.generation.engine import (
    Decoding,
    ModelOptions,
    generation_spec,
    load_model,
    load_task,
)
from mipo_eval.generation.models import ModelSpec
from mipo_eval.judges import Judge
from mipo_eval.judges.judging import rate, with_references
from mipo_eval.keys import digest
from mipo_eval.lift import lift_scores
from mipo_eval.progress import Progress
from mipo_eval.records import Item, Score
from mipo_eval.scoring import (
    answer_scores,
    control_scores,
    ending_scores,
    judged_scores,
    likelihood_scores,
    response_scores,
    why_no_text,
)
from mipo_eval.signature import join, short
from mipo_eval.store import Store
from mipo_eval.store.engine import now
from mipo_eval.store.items import put_list
from mipo_eval.store.responses import (
    Answered,
    Scorable,
    answered,
    missing,
    put_generation,
    put_responses,
    scorable,
)
from mipo_eval.store.runs import Run, put_run, put_scores
from mipo_eval.store.verdicts import totals
from mipo_eval.suites import Suite, suite_items
from mipo_eval.tasks.query import Prompting, query_hash


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Everything one run is asked to do."""

    model: ModelSpec
    options: ModelOptions
    suite: Suite
    prompting: Prompting
    decoding: Decoding
    judges: Sequence[Judge]
    data_dir: Path
    limit: int | None = None
    controls: bool = False
    """Also judge the control entrants, which must not do well."""
    scoring_model: str | None = None
    """Checkpoint that measures context lift; None leaves it out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished run."""

    run: Run
    scores: list[Score]


def evaluate(store: Store, evaluation: Evaluation, progress: Progress) -> Result:
    """Run the main job and return its scores, all of it stored.

    Raises:
        MipoEvalError: whatever the user must change; what was made before is kept.
    """
    run = _open_run(store, evaluation)
    todo = missing(store, run.list_key, run.generation_key)
    if todo:
        for judge in evaluation.judges:  # before hours of generation, not after
            asyncio.run(judge.backend.check())
        _generate(store, evaluation, run, todo, progress)
    rows = list(scorable(store, run.list_key, run.generation_key))
    _require_responses(rows, evaluation.model)
    for judge in evaluation.judges:
        _judge(store, run, judge, rows, progress)
    scores = _scores(store, evaluation, run, rows, progress)
    put_scores(store, run.run_id, scores)
    return Result(run=run, scores=scores)


def responses_spec(evaluation: Evaluation) -> dict[str, Any]:
    """Return how the run's responses are made; its digest is their generation's key."""
    return generation_spec(
        evaluation.model, evaluation.options, evaluation.decoding, asking=_asking(evaluation)
    )


def _open_run(store: Store, evaluation: Evaluation) -> Run:
    tasks = suite_items(evaluation.suite, evaluation.data_dir, evaluation.limit)
    list_key, n_items = put_list(store, tasks)
    if not n_items:
        raise DataError(f"suite {evaluation.suite.name} has no items")
    spec = responses_spec(evaluation)
    generation_key = digest(spec)
    put_generation(store, generation_key, spec)
    run = Run(
        run_id=digest([evaluation.suite.name, list_key, generation_key]),
        model=evaluation.model.name,
        suite=evaluation.suite.name,
        prompting=evaluation.prompting if evaluation.suite.form == "query" else "",
        seed=evaluation.decoding.seed,
        list_key=list_key,
        n_items=n_items,
        generation_key=generation_key,
        environment=_environment(),
        created_at=now(),
        updated_at=now(),
    )
    put_run(store, run)
    return run


def _environment() -> dict[str, str]:
    """Return what the numbers were made with; installed versions, nothing imported."""
    names = ("lm_eval", "torch", "transformers", "vllm", "openai", "sacrebleu", "numpy")
    installed = {
        d.metadata["Name"].lower().replace("-", "_"): d.version for d in metadata.distributions()
    }
    return {
        "mipo_eval": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "command": " ".join(sys.argv[1:]),
        **{name: installed[name] for name in names if name in installed},
    }


def _generate(
    store: Store, evaluation: Evaluation, run: Run, todo: list[int], progress: Progress
) -> None:
    """Make the missing responses, a chunk at a time."""
    model = load_model(evaluation.model, evaluation.options, evaluation.decoding)
    progress.start(f"responses of {evaluation.model.name}", run.n_items)
    progress.advance(run.n_items - len(todo))
    offset = 0
    wanted = set(todo)
    for task in evaluation.suite.tasks:
        about = {
            "source": task.source,
            "prompting": evaluation.prompting,
            "data_dir": str(evaluation.data_dir),
            "limit": evaluation.limit,
        }
        loaded = load_task(task.lm_eval_task, about, evaluation.decoding)
        n_documents = len(loaded.eval_docs)
        positions = [p for p in range(n_documents) if p + offset in wanted]
        for chunk in _chunks(positions, model.chunk_size):
            made = model.ask(loaded, chunk)
            put_responses(store, run.generation_key, made)
            progress.advance(len(made))
        offset += n_documents
    if offset != run.n_items:
        raise DataError(
            f"suite {evaluation.suite.name} changed while it was read: {run.n_items} items, then "
            f"{offset}; repeat the command"
        )
    progress.finish()


def _chunks(positions: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(positions), size):
        yield positions[start : start + size]


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
    progress.start(f"ratings by {judge.name}", total)

    def texts() -> Iterator[tuple[Item, str]]:
        for entry in answered(store, run.list_key, run.generation_key):
            yield entry.item, (entry.response.text if entry.response else None) or ""

    asyncio.run(rate(store, judge, with_references(texts()), advance=progress.advance))
    progress.finish()


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
            scores += [_signed(score, task.name, context, by) for score in judged]
            if evaluation.controls:
                scores += [
                    _signed(control_metric(control, score), task.name, context, by)
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
        progress.start(
            f"control {control} by {judge.name}", sum(len(i.preferences) for i, _ in pairs)
        )
        asyncio.run(rate(store, judge, pairs, advance=progress.advance))
        progress.finish()
        ratings = totals(store, judge.key, run.list_key)
        for score in control_scores(rows, texts, ratings, seed=run.seed):
            yield control, score


def _asking(evaluation: Evaluation) -> dict[str, str]:
    """Return how an item becomes a prompt, as keys and signatures name it."""
    if evaluation.suite.form == "query":
        return {"prompting": evaluation.prompting, "query": short(query_hash())}
    return {"form": evaluation.suite.form}


def _context(evaluation: Evaluation, item_keys: list[str]) -> str:
    """Return the part of a signature that all scores of a task share."""
    drawn = evaluation.suite.form in {"query", "answer"}
    return join(
        suite=f"{evaluation.suite.name}@{evaluation.suite.version}",
        items=short(digest(item_keys)),
        **_asking(evaluation),
        decoding=evaluation.decoding.describe() if drawn else None,
        seed=evaluation.decoding.seed,
    )


def _signed(score: Score, task: str, *parts: str) -> Score:
    signature = [*parts, score.signature, join(version=__version__)]
    return replace(score, task=task, signature="|".join(part for part in signature if part))
