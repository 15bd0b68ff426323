"""Sweeps: one training with several values of a setting, of which held-out items choose one.

Held out are training items; the test split is never looked at. Each value is a training of its
own, in a folder below the output, and the best one's checkpoint becomes the result. What is chosen
by says `items.choose_by`:

loss             what the method measures on held-out items: its reward or, without one, its loss
satisfied:JUDGE  the share of their preferences that greedy responses satisfy: rated 4 or 5
wins:JUDGE       the share of them whose greedy response beats the reference; a tie is half a win
accuracy         the share of questions whose greedy response is right

Without JUDGE it is the suite's own.
"""

import asyncio
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mipo_eval.demo.rules import SATISFIED
from mipo_eval.errors import ConfigError, DataError
from mipo_eval.judges.presets import load_judge
from mipo_eval.judges.run import rate, with_references
from mipo_eval.keys import digest
from mipo_eval.models.lm_eval import decoding_for
from mipo_eval.models.spec import parse_model
from mipo_eval.progress import Progress
from mipo_eval.records import Item, text_key
from mipo_eval.stats.bootstrap import Crossed
from mipo_eval.stats.intervals import intervals_in
from mipo_eval.store.engine import Store
from mipo_eval.store.items import put_list
from mipo_eval.store.trainings import (
    CurvePoint,
    Training,
    get_curve,
    list_trainings,
    put_training,
)
from mipo_eval.store.verdicts import ratings_by, totals
from mipo_eval.tasks.answers import grade
from mipo_eval.training.data import split_validation
from mipo_eval.training.folder import MARKER, SWEEP_FOLDER, claimed
from mipo_eval.training.recipes import make_recipe, merge, nested, recipe_dict
from mipo_eval.training.run import TrainingRequest, check_model, example_maker, train
from mipo_eval.verdict import from_totals

_CRITERIA = {"held_out_reward": 1, "held_out_loss": -1}
"""What is chosen by where nothing else is said, the first that the method measures; and whether
more or less of it is better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """One value of a sweep and how it did on what was held out."""

    value: Any
    training: Training
    criterion: str
    figure: float
    behind: float = 0.0
    """How far the best one leads, in units of the criterion; 0 for the best itself."""
    behind_ci95: tuple[float, float] | None = None
    """Paired by what was held out; None where the criterion has no value for each."""


@dataclass(frozen=True, slots=True)
class _Figures:
    """What was measured, one value for each preference or item; NaN where there is none."""

    values: list[float]
    groups: list[Crossed]


def sweep(
    store: Store, request: TrainingRequest, progress: Progress, *, over: tuple[str, Sequence[Any]]
) -> tuple[Training, list[Swept]]:
    """Train once per value on a part of the items, and keep what does best on the others.

    The request's output folder receives the chosen checkpoint; `over` is a dotted key of the
    recipe with its values.

    Raises:
        ConfigError: a value does not fit, or the method measures nothing on held-out items.
        MipoEvalError: as `train`.
    """
    key, values = over
    _check_criterion(request)
    trials = [_trial(request, key, value) for value in values]
    check_model(request.model, request.recipe)
    name = digest([request.training_id, key, list(values)])
    with claimed(request.out, name, f"sweep of {request.recipe.name}"):
        return _swept(store, request, progress, list(zip(values, trials, strict=True)))


def _check_criterion(request: TrainingRequest) -> None:
    chosen_by, suite = request.recipe.items.choose_by, request.suite
    kind, _, judge = chosen_by.partition(":")
    if kind in {"satisfied", "wins"} and suite.form == "query":
        if not (judge or suite.judge):
            raise ConfigError(
                f"items.choose_by={chosen_by}: suite {suite.name} has no judge of its own: name "
                f"one, as in {kind}:gpt-4.1"
            )
        lacking = [i for one in request.data for i in one.items if not _judgeable(i, kind)]
        if lacking:
            what = "preferences" if kind == "satisfied" else "preferences with a reference"
            raise ConfigError(
                f"items.choose_by={chosen_by}: item {lacking[0].item_id} has no {what} to judge by"
            )
    elif chosen_by != "loss" and (chosen_by != "accuracy" or suite.form != "answer"):
        fitting = "satisfied:JUDGE, wins:JUDGE" if suite.form == "query" else "accuracy"
        raise ConfigError(
            f"items.choose_by is {chosen_by!r}: a sweep on {suite.name} chooses by loss, {fitting}"
        )


def _judgeable(item: Item, kind: str) -> bool:
    return bool(item.preferences) and (kind == "satisfied" or bool(item.reference))


def _swept(
    store: Store,
    request: TrainingRequest,
    progress: Progress,
    trials: Sequence[tuple[Any, TrainingRequest]],
) -> tuple[Training, list[Swept]]:
    known = {training.training_id: training for training in list_trainings(store)}
    finished = (request.out / "config.json").is_file()
    chosen_by = request.recipe.items.choose_by
    done: list[Swept] = []
    measured: list[_Figures] = []
    for value, trial in trials:
        training = known.get(trial.training_id) if finished else None
        training = training or train(store, trial, progress)
        if chosen_by == "loss":
            done.append(_judged(value, training, get_curve(store, training.training_id)))
            continue
        found = _measured(store, trial, training, progress)
        measured.append(found)
        mean = float(np.nanmean(found.values))
        done.append(Swept(value=value, training=training, criterion=chosen_by, figure=mean))
    ranked = _with_leads(done, measured)
    best = next(one for one in ranked if not one.behind)  # the first of equals
    return (best.training if finished else _adopt(store, request.out, best)), ranked


def _with_leads(done: Sequence[Swept], measured: Sequence[_Figures]) -> list[Swept]:
    """Return the values, each with how far it is behind the best."""
    better = _CRITERIA.get(done[0].criterion, 1)
    first = max(range(len(done)), key=lambda place: better * done[place].figure)
    ranked = []
    for place, one in enumerate(done):
        behind = better * (done[first].figure - one.figure)
        interval = None
        if measured and place != first:
            apart = np.array(measured[first].values) - np.array(measured[place].values)
            (interval,) = intervals_in(apart[:, None], measured[first].groups, None)
        ranked.append(replace(one, behind=behind, behind_ci95=interval))
    return ranked


def _measured(
    store: Store, trial: TrainingRequest, training: Training, progress: Progress
) -> _Figures:
    """Return how the greedy responses of a trained checkpoint to the held-out items do.

    Raises:
        ConfigError: there is no such criterion or judge, or it does not fit the suite.
        DataError: the judge rated nothing.
    """
    kind, _, named = trial.recipe.items.choose_by.partition(":")
    model = parse_model(str(training.checkpoint))
    decoding = decoding_for(model, {}, seed=trial.seed, max_tokens=trial.suite.max_tokens)
    base = example_maker(store, trial, progress)
    maker = replace(base, model=model, decoding=decoding)
    found = _Figures([], [])
    for data in trial.held_out:
        responses = maker.draw(data.task, data.items, "held-out responses")
        texts = [(responses[item.key].text or "") for item in data.items]
        pairs = list(zip(data.items, texts, strict=True))
        if kind == "accuracy":
            values = [[100.0 * (grade(item, text) == "right")] for item, text in pairs]
        else:
            judge = load_judge(named or trial.suite.judge or "", judged_model=model.kind)
            asyncio.run(rate(store, judge, with_references(pairs)))
            look = _satisfied if kind == "satisfied" else _won
            values = look(store, judge.key, data.task.lm_eval_task, pairs)
        for item, own in zip(data.items, values, strict=True):
            found.values.extend(own)
            found.groups.extend([Crossed(item.group, item.user_id)] * len(own))
    if np.isnan(found.values).all():
        raise DataError(
            f"--sweep by items.choose_by={trial.recipe.items.choose_by}: not one of "
            f"{len(found.values)} held-out responses could be judged; look at the judge"
        )
    return found


def _satisfied(
    store: Store, judge: str, _task: str, pairs: Sequence[tuple[Item, str]]
) -> list[list[float]]:
    """Return, per item, 100 or 0 for each of its preferences."""
    known = ratings_by(store, judge, [item.key for item, _ in pairs])

    def one(item: Item, text: str, aspect: int) -> float:
        rating = known.get((item.key, text_key(text), aspect))
        return float("nan") if rating is None else 100.0 * (rating >= SATISFIED)

    return [[one(item, text, n) for n in range(len(item.preferences))] for item, text in pairs]


def _won(
    store: Store, judge: str, task: str, pairs: Sequence[tuple[Item, str]]
) -> list[list[float]]:
    """Return, per item, 100 for a win against the reference, 50 for a tie, 0 for a loss."""
    list_key, _ = put_list(store, [(task, [item for item, _ in pairs])])
    known = totals(store, judge, list_key)

    def credit(item: Item, text: str) -> float:
        own = known.get((item.key, text_key(text)))
        other = known.get((item.key, text_key(item.reference or "")))
        found = from_totals(own, other, len(item.preferences)).credit
        return float("nan") if found is None else 100.0 * found

    return [[credit(item, text)] for item, text in pairs]


def _trial(request: TrainingRequest, key: str, value: Any) -> TrainingRequest:
    recipe = make_recipe(merge(recipe_dict(request.recipe), nested(key, value)))
    share = request.recipe.items.validation
    data, held_out = split_validation(request.data, share, request.seed)
    out = request.out / SWEEP_FOLDER / f"{key.rpartition('.')[2]}={value}"
    return replace(request, recipe=recipe, data=data, held_out=held_out, out=out)


def _judged(value: Any, training: Training, curve: Sequence[CurvePoint]) -> Swept:
    for criterion in _CRITERIA:
        points = [point for point in curve if point.metric == criterion]
        if points:
            last = max(points, key=lambda point: point.step)
            return Swept(value=value, training=training, criterion=criterion, figure=last.value)
    raise ConfigError(
        f"{training.method} measures nothing on held-out items, so a sweep cannot choose: train "
        "each value with --set and compare the checkpoints"
    )


def _adopt(store: Store, out: Path, best: Swept) -> Training:
    """Move the chosen checkpoint into the output folder, and drop the others' weights."""
    folder = Path(best.training.checkpoint or "")
    # The configuration last: with it the result is complete.
    for path in sorted(folder.iterdir(), key=lambda path: path.name == "config.json"):
        if path.name != MARKER:
            path.replace(out / path.name)
    shutil.rmtree(out / SWEEP_FOLDER, ignore_errors=True)
    training = replace(best.training, checkpoint=str(out))
    put_training(store, training)
    return training
