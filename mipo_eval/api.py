"""The Python API: what the command line does, as functions whose results can be worked with.

    import mipo_eval

    result = mipo_eval.evaluate("demo", "demo", "checker")
    result.scores; result.to_pandas(); result.samples(); result.plot()

A model is a name as `--model` takes it, a loaded model with its tokenizer, or a function from
conversations to texts; a suite a name, a file, or rows of items; a judge a name or a function. All
of it works in notebooks and inside a running event loop, which it blocks: there, in a server, write
`await asyncio.to_thread(mipo_eval.evaluate, ...)`. What is finished is stored, as everywhere.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Unpack

from mipo_eval import settings
from mipo_eval.compare.contest import build_contest
from mipo_eval.compare.head_to_head import fight
from mipo_eval.errors import ConfigError
from mipo_eval.evaluation import run
from mipo_eval.evaluation.asked import build_evaluation
from mipo_eval.given import Given, Judges, Model, Options, Suite
from mipo_eval.judges.judge import Protocol
from mipo_eval.judges.presets import load_judge
from mipo_eval.judges.validate import examine, protocol_for
from mipo_eval.models.base import Backend, Purse
from mipo_eval.models.callable import Function
from mipo_eval.progress import Bars, outside_loop
from mipo_eval.reports.comparison import ComparisonQuery, compare_runs
from mipo_eval.reports.leaderboard import LeaderboardQuery
from mipo_eval.reports.leaderboard import leaderboard as build_leaderboard
from mipo_eval.results import (
    AnyStore,
    ComparisonResult,
    EvaluationResult,
    JudgeResult,
    LeaderboardResult,
    TrainingResult,
    ValidationResult,
    opened,
)
from mipo_eval.store.engine import Store
from mipo_eval.store.trainings import get_curve
from mipo_eval.tasks.pairs import named_pairs, shown_name
from mipo_eval.training.methods import find_method
from mipo_eval.training.recipes import load_recipe
from mipo_eval.training.run import make_request
from mipo_eval.training.run import train as run_training

_Query = TypeVar("_Query")


@outside_loop
def evaluate(
    model: Model,
    suite: Suite,
    judge: Judges = None,
    *,
    store: AnyStore = None,
    **options: Unpack[Options],
) -> EvaluationResult:
    """Evaluate a model on a suite, as `mipo-eval --model M --suite S --judge J` does.

    Args:
        model: who is evaluated.
        suite: what it is asked.
        judge: who rates; None: the suite's own judge, if it has one.
        store: where everything is kept; None: MIPO_EVAL_STORE or ./mipo-eval.db.
        **options: as the flags of the same names.

    Raises:
        MipoEvalError: whatever has to be changed, in one line; what was made before is kept.
    """
    with Given() as objects, opened(store) as here:
        asked = objects.asked(suite, judge, options)
        name, shown = objects.model(model)
        evaluation = build_evaluation(replace(asked, model=name, shown=shown))
        found = run.evaluate(here, evaluation, Bars())
    return EvaluationResult(run=found.run, scores=tuple(found.scores), store=store)


@outside_loop
def judge(
    *entrants: Model | EvaluationResult,
    suite: Suite | None = None,
    judge: Judges = None,
    protocol: Protocol | None = None,
    store: AnyStore = None,
    **options: Unpack[Options],
) -> JudgeResult:
    """Judge A against B (and C, ...), as `mipo-eval judge A B` does.

    Args:
        *entrants: results of `evaluate`, runs by the beginning of their ids, models, files of
            responses, or "reference".
        suite: what they are asked; None: the items of the first stored run.
        judge: who judges; None: the suite's own judge.
        protocol: "pairwise", "pairwise-tie" or "rubric"; None: the judge's own, else pairwise.
        store: as for `evaluate`; None: that of the first result, if there is one.
        **options: as for `evaluate`.

    Raises:
        MipoEvalError: whatever has to be changed, in one line; what was asked before is kept.
    """
    with Given() as objects, opened(_where(store, entrants)) as here:
        asked = objects.asked(suite, judge, options)
        names = [
            one.run.run_id if isinstance(one, EvaluationResult) else objects.model(one)[0]
            for one in entrants
        ]
        contest = build_contest(here, asked, names, protocol, Bars(), lambda *_: None)
        return JudgeResult(matches=tuple(fight(here, contest, Bars())))


@outside_loop
def validate(
    judge: str | Function | Backend,
    data: str | Path,
    *,
    protocol: Protocol | None = None,
    limit: int | None = None,
    max_cost: float | None = None,
    store: AnyStore = None,
) -> ValidationResult:
    """Measure a judge against labels of people, as `mipo-eval validate JUDGE --data D` does.

    Args:
        judge: who is measured.
        data: labelled pairs: a set's name, a file, or "store:WHO".
        protocol: as for `judge`; None: what fits the pairs.
        limit: only the first pairs of each subset.
        max_cost: dollars, at most.
        store: as for `evaluate`.

    Raises:
        MipoEvalError: whatever has to be changed, in one line; what was asked before is kept.
    """
    with Given() as objects, opened(store) as here:
        pairs = named_pairs(here, str(data), settings.data_dir(), limit)
        spec = objects.judge(judge)
        money = None if max_cost is None else Purse(max_cost)
        asked = load_judge(spec, protocol=protocol or protocol_for(spec, pairs), limits=money)
        found = examine(here, asked, pairs, shown_name(str(data)), progress=Bars())
    return ValidationResult(examination=found)


@outside_loop
def train(
    method: str,
    model: str | Path,
    suite: Suite,
    out: str | Path,
    *,
    store: AnyStore = None,
    **recipe: Any,
) -> TrainingResult:
    """Train a checkpoint, as `mipo-eval train METHOD --model M --suite S --out DIR` does.

    Args:
        method: a recipe, or "mipo".
        model: the base model: a checkpoint, or "demo".
        suite: with a training split; for "dpo", the file of pairs.
        out: folder of the checkpoint; the same call continues a training that was stopped.
        store: as for `evaluate`.
        **recipe: `seed`, and keys of the recipe: lr=5e-7, or optimization={"epochs": 2}.

    Raises:
        MipoEvalError: whatever has to be changed, in one line; what was made before is kept.
    """
    seed = int(recipe.pop("seed", 0))
    name, _ = find_method(method)
    set_ = [f"{key}={json.dumps(value)}" for key, value in recipe.items()]
    with Given() as objects, opened(store) as here:
        request = make_request(
            load_recipe(name, overrides=set_),
            model=str(model),
            suite=objects.suite(suite),
            out=Path(out),
            seed=seed,
        )
        done = run_training(here, request, Bars())
        return TrainingResult(training=done, curve=tuple(get_curve(here, done.training_id)))


def compare(
    *runs: str | EvaluationResult | Sequence[str | EvaluationResult],
    store: AnyStore = None,
    **query: Any,
) -> ComparisonResult:
    """Compare runs of a store item by item, as `mipo-eval compare RUN RUN` does.

    Args:
        *runs: results of `evaluate`, or the beginnings of runs' ids; or a list of them.
        store: as for `evaluate`; None: that of the first result, if there is one.
        **query: fields of `reports.comparison.ComparisonQuery`: metric, judge, ties, baseline,
            correction, control_length, margin, growing.

    Raises:
        MipoEvalError: a run is not there, or the runs have nothing in common.
    """
    every: list[Any] = []
    for one in runs:
        every += one if isinstance(one, list | tuple) else [one]
    names = [one.run.run_id if isinstance(one, EvaluationResult) else str(one) for one in every]
    wanted = _query(ComparisonQuery, query)
    with opened(_where(store, every), mode="read") as here:
        return ComparisonResult(tasks=tuple(compare_runs(here, names, wanted)))


def leaderboard(*, store: AnyStore = None, **query: Any) -> LeaderboardResult:
    """Return all methods of a store on all tasks, as `mipo-eval leaderboard` does.

    Args:
        store: as for `evaluate`.
        **query: fields of `reports.leaderboard.LeaderboardQuery`: suite, judge, ties, metric,
            variants_apart, tasks, ranked, seed.

    Raises:
        MipoEvalError: there is no such store, suite or judge.
    """
    asked = _query(LeaderboardQuery, query)
    with opened(store, mode="read") as here:
        return LeaderboardResult(sections=tuple(build_leaderboard(here, asked)))


def open_store(url: str | Path | None = None, *, mode: Literal["write", "read"] = "write") -> Store:
    """Open a store, to be used by several calls; close it, or use it in a `with` block.

    Args:
        url: a file or a PostgreSQL URL; None: MIPO_EVAL_STORE or ./mipo-eval.db.
        mode: "read" changes nothing.

    Raises:
        MipoEvalError: it cannot be opened.
    """
    return Store.open(str(url or settings.store_url()), mode=mode)


def _where(store: AnyStore, asked: Iterable[Any]) -> AnyStore:
    """Return the store that was named, else that of the first result."""
    first = next((one for one in asked if isinstance(one, EvaluationResult)), None)
    return first.store if store is None and first else store


def _query(kind: type[_Query], fields: Mapping[str, Any]) -> _Query:
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    if unknown := sorted(fields.keys() - set(known)):
        raise ConfigError(f"unknown {', '.join(unknown)}; known: {', '.join(known)}")
    return kind(**fields)
