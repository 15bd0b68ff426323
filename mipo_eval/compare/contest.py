"""What `mipo-eval judge A B` asks for in words, turned into a contest: entrants that answered."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from string import ascii_uppercase

from mipo_eval import settings
from mipo_eval.compare.entrants import Field, find_entrant, is_stored_run, same_family
from mipo_eval.compare.head_to_head import Contest
from mipo_eval.errors import ConfigError
from mipo_eval.evaluation.asked import (
    EvaluationOptions,
    build_evaluation,
    judge_loader,
    own_judge,
    purse_of,
)
from mipo_eval.evaluation.generate import Evaluation, respond
from mipo_eval.evaluation.run import Result, evaluate
from mipo_eval.judges.judge import Judge, Protocol
from mipo_eval.judges.presets import duel_protocol, family_of, is_family
from mipo_eval.models.base import Purse
from mipo_eval.progress import Progress
from mipo_eval.records import Item, Run
from mipo_eval.store.engine import Store
from mipo_eval.store.items import get_items, put_list
from mipo_eval.store.runs import find_run
from mipo_eval.tasks.sources import suite_items
from mipo_eval.tasks.suites import find_suite, with_query

Tell = Callable[[Store, Evaluation, Result], None]
"""Told what came of an entrant that was asked now."""


def build_contest(
    store: Store,
    asked: EvaluationOptions,
    names: Sequence[str],
    protocol: Protocol | None,
    progress: Progress,
    tell: Tell,
) -> Contest:
    """Find items, judges and entrants; generate what entrants have not answered.

    Raises:
        MipoEvalError: whatever the user must change.
    """
    if not 2 <= len(names) <= len(ascii_uppercase):
        raise ConfigError(
            "name two entrants or more: mipo-eval judge A B --suite SUITE --judge JUDGE"
        )
    field = _field(store, asked, names)
    specs = tuple(dict.fromkeys(asked.judges)) or (own_judge(field.suite),)
    purse = purse_of(asked)
    make = judge_loader(purse, batch=asked.batch)

    def load(spec: str, kind: str | None = None) -> Judge:
        return make(spec, kind, duel_protocol(spec, protocol))

    # What can be wrong is found before a model is looked at, which may take minutes.
    known = {spec: load(spec) for spec in specs if not is_family(spec)}
    responding = _Responding(
        store=store,
        asked=asked,
        progress=progress,
        tell=tell,
        judges=list(known.values()),
        purse=purse,
    )
    entrants = [
        find_entrant(store, label, name, field, respond=responding)
        for label, name in zip(ascii_uppercase, names, strict=False)
    ]
    if any(is_family(spec) for spec in specs):
        kind = same_family(entrants, family_of)
        known |= {spec: load(spec, kind) for spec in specs if is_family(spec)}
    judges = [known[spec] for spec in specs]
    return Contest(field=field, entrants=entrants, judges=judges, seed=asked.seed)


def _field(store: Store, asked: EvaluationOptions, names: Sequence[str]) -> Field:
    """Return the items: the suite's, or without one those of the first run that is named."""
    if asked.suite:
        suite = with_query(find_suite(asked.suite), asked.query)
        if suite.form != "query":
            raise ConfigError(
                f"the answers of suite {suite.name} are right or wrong, so no judge is needed: "
                "compare the runs with mipo-eval compare"
            )
        tasks = suite_items(suite, asked.data_dir or settings.data_dir(), asked.limit)
        name, (list_key, _) = suite.name, put_list(store, tasks)
    else:
        run = next((find_run(store, name) for name in names if is_stored_run(name)), None)
        if run is None:
            raise ConfigError(
                "no entrant is a stored run, so the items are not known: name them with --suite"
            )
        name, list_key = run.suite, run.list_key
        if asked.limit:
            items: dict[str, list[Item]] = {}
            for task, item in get_items(store, list_key):
                items.setdefault(task, []).append(item)
            firsts = [(task, of_task[: asked.limit]) for task, of_task in items.items()]
            list_key, _ = put_list(store, firsts)
    return Field(suite=name, list_key=list_key, entries=list(get_items(store, list_key)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Responding:
    """Makes the responses of a model that are not there yet."""

    store: Store
    asked: EvaluationOptions
    progress: Progress
    tell: Tell
    judges: Sequence[Judge]
    """Who will judge: they are asked whether they can, before hours of generation."""
    purse: Purse | None

    def __call__(self, name: str) -> tuple[Run, str]:
        """Return the run of a model, complete, and what tells its family."""
        if not self.asked.suite:
            raise ConfigError(
                f"{name} is not a stored run: name the suite that it has to answer with --suite"
            )
        made: list[str] = []

        def check_judges(_run: Run, _missing: int) -> None:
            made.append(name)
            for judge in self.judges:
                asyncio.run(judge.backend.check())

        evaluation = build_evaluation(replace(self.asked, model=name, judges=()), self.purse)
        run = respond(self.store, evaluation, self.progress, before=check_judges)
        if made:  # a run of the main job like any other, with the scores that the suite has itself
            self.tell(self.store, evaluation, evaluate(self.store, evaluation, self.progress))
        return run, evaluation.model.kind
