"""A sweep: the same training with several values of a setting, chosen on held-out training items.

The test split is never looked at. Each value is a training of its own, in a folder below the
output; the best one's checkpoint then becomes the result.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mipo_eval.errors import ConfigError
from mipo_eval.keys import digest
from mipo_eval.progress import Progress
from mipo_eval.store import Store
from mipo_eval.store.trainings import (
    CurvePoint,
    Training,
    get_curve,
    list_trainings,
    put_training,
)
from mipo_eval.training.data import split_validation
from mipo_eval.training.recipes import make_recipe, merge, nested, parse_override, recipe_dict
from mipo_eval.training.run import MARKER, TrainingRequest, check_model, claim, train

SWEEP_FOLDER = "sweep"
"""Folder in the output that holds the values' trainings until one is chosen."""

_CRITERIA = {"held_out_reward": max, "held_out_loss": min}
"""What is chosen by: the first that the method measures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swept:
    """One value of a sweep and how it did on what was held out."""

    value: Any
    training: Training
    criterion: str
    figure: float


def parse_sweep(text: str) -> tuple[str, list[Any]]:
    """Return key and values of `lr=1e-6,5e-7,1e-7`.

    Raises:
        ConfigError: it is not of that form, or names fewer than two different values.
    """
    key, _, listed = text.partition("=")
    pairs = [parse_override(f"{key}={value}") for value in listed.split(",") if value.strip()]
    if len({str(value) for _, value in pairs}) < 2:
        raise ConfigError(f"--sweep {text!r}: name two values or more, as in lr=1e-6,5e-7,1e-7")
    return pairs[0][0], [value for _, value in pairs]


def sweep(
    store: Store, request: TrainingRequest, progress: Progress, *, over: tuple[str, Sequence[Any]]
) -> tuple[Training, list[Swept]]:
    """Train once per value on a part of the items, and keep what does best on the others.

    Args:
        store: as for a training.
        request: the training; its output folder receives the chosen checkpoint.
        progress: told how far the work is.
        over: a dotted key of the recipe and its values.

    Raises:
        ConfigError: a value does not fit, or the method measures nothing on held-out items.
        MipoEvalError: as `train`.
    """
    key, values = over
    trials = [_trial(request, key, value) for value in values]
    check_model(request.model, request.recipe)
    name = digest([request.training_id, key, list(values)])
    claim(request.out, name, f"sweep of {request.recipe.name}")
    known = {training.training_id: training for training in list_trainings(store)}
    finished = (request.out / "config.json").is_file()
    done: list[Swept] = []
    for value, trial in zip(values, trials, strict=True):
        training = known.get(trial.training_id) if finished else None
        training = training or train(store, trial, progress)
        done.append(_judged(value, training, get_curve(store, training.training_id)))
    best = chosen(done)
    return (best.training if finished else _adopt(store, request.out, best)), done


def _trial(request: TrainingRequest, key: str, value: Any) -> TrainingRequest:
    recipe = make_recipe(merge(recipe_dict(request.recipe), nested(key, value)))
    train_items, held_out = split_validation(
        request.data, request.recipe.items.validation, request.seed
    )
    return replace(
        request,
        recipe=recipe,
        data=tuple(train_items),
        held_out=tuple(held_out),
        out=request.out / SWEEP_FOLDER / f"{key.rpartition('.')[2]}={value}",
    )


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


def chosen(done: Sequence[Swept]) -> Swept:
    """Return the value that did best on what was held out; the first of equals."""
    best = _CRITERIA[done[0].criterion](one.figure for one in done)
    return next(one for one in done if one.figure == best)


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
