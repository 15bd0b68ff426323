"""A sweep: the same training with several values of a setting, of which held-out items choose one.

They are training items (`criteria.py`); the test split is never looked at. Each value is a training
of its own, in a folder below the output, and the best one's checkpoint becomes the result.
"""

import math
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

from mipo_eval.errors import ConfigError, DataError
from mipo_eval.judges.presets import load_judge
from mipo_eval.keys import digest
from mipo_eval.models.lm_eval import decoding_for
from mipo_eval.models.spec import parse_model
from mipo_eval.progress import Progress
from mipo_eval.store.engine import Store
from mipo_eval.store.trainings import Training, get_curve, list_trainings, put_training
from mipo_eval.training.criteria import (
    Figures,
    Swept,
    by_curve,
    check_criterion,
    figures_of,
    with_leads,
)
from mipo_eval.training.data import split_validation
from mipo_eval.training.folder import MARKER, SWEEP_FOLDER, claimed
from mipo_eval.training.recipes import make_recipe, merge, nested, recipe_dict
from mipo_eval.training.run import TrainingRequest, check_model, example_maker, train
from mipo_eval.training.trainer import main_process_first


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
    items = (item for one in request.data for item in one.items)
    check_criterion(request.recipe.items.choose_by, request.suite, items)
    trials = [trial(request, key, value) for value in values]
    if any(one.before for one in trials):
        raise ConfigError(
            "--sweep cannot be used with --rounds: find the value first, then train in rounds "
            "with it"
        )
    check_model(request.model, request.recipe)
    with claimed(request.out, sweep_id(request, over), f"sweep of {request.recipe.name}"):
        return _swept(store, request, progress, list(zip(values, trials, strict=True)))


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
    measured: list[Figures] = []
    for value, one in trials:
        training = known.get(one.training_id) if finished else None
        training = training or train(store, one, progress)
        if chosen_by == "loss":
            done.append(by_curve(value, training, get_curve(store, training.training_id)))
            continue
        with main_process_first():
            found = _measured(store, one, training, progress)
        measured.append(found)
        mean = fmean(value for value in found.values if not math.isnan(value))
        done.append(Swept(value=value, training=training, criterion=chosen_by, figure=mean))
    ranked = with_leads(done, measured)
    best = next(one for one in ranked if not one.behind)  # the first of equals
    return (best.training if finished else _adopt(store, request.out, best)), ranked


def _measured(
    store: Store, trial: TrainingRequest, training: Training, progress: Progress
) -> Figures:
    """Return how the greedy responses of a trained checkpoint to the held-out items do.

    Raises:
        ConfigError: there is no such judge.
        DataError: the judge rated nothing.
    """
    chosen_by, suite = trial.recipe.items.choose_by, trial.suite
    model = parse_model(str(training.checkpoint))
    length = trial.recipe.sampling.max_tokens or suite.max_tokens
    decoding = decoding_for(model, {}, seed=trial.seed, max_tokens=length)
    maker = replace(example_maker(store, trial, progress), model=model, decoding=decoding)
    named = chosen_by.partition(":")[2] or suite.judge or ""
    judge = None if suite.form == "answer" else load_judge(named, judged_model=model.kind)
    found = Figures([], [])
    for data in trial.held_out:
        responses = maker.draw(data.task, data.items, "held-out responses")
        pairs = [(item, responses[item.key].text or "") for item in data.items]
        own = figures_of(store, chosen_by, judge, data.task.lm_eval_task, pairs)
        found = Figures([*found.values, *own.values], [*found.groups, *own.groups])
    if all(math.isnan(value) for value in found.values):
        raise DataError(
            f"items.choose_by={chosen_by}: none of {len(found.values)} ratings of held-out "
            "responses could be read: check the judge"
        )
    return found


def sweep_id(request: TrainingRequest, over: tuple[str, Sequence[Any]]) -> str:
    """Return what names a sweep, as `training_id` does a training."""
    key, values = over
    return digest([request.training_id, key, list(values)])


def trial(request: TrainingRequest, key: str, value: Any) -> TrainingRequest:
    """Return the training of a sweep with one of its values."""
    recipe = make_recipe(merge(recipe_dict(request.recipe), nested(key, value)))
    share = request.recipe.items.validation
    data, held_out = split_validation(request.data, share, request.seed)
    out = request.out / SWEEP_FOLDER / f"{key.rpartition('.')[2]}={value}"
    return replace(request, recipe=recipe, data=data, held_out=held_out, out=out)


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
