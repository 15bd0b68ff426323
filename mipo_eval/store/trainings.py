"""Trainings and their learning curves."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NamedTuple

import sqlalchemy as sa

from mipo_eval.keys import masked_values
from mipo_eval.store.engine import Store, lasting, now
from mipo_eval.store.tables import curves, trainings

Status = Literal["running", "done", "stopped", "failed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training of a method on a base model, from the command that asked for it."""

    training_id: str
    """Digest of everything that decides its result: the same command finds it again."""
    method: str
    """Name of the recipe: "mipo", "sft", "ppo-mi", ..."""
    model: str
    """The base model, as the user named it."""
    suite: str
    seed: int
    checkpoint: str | None
    """Where the trained checkpoint is; None before there is one."""
    recipe: Mapping[str, Any]
    """The full settings, hyper-parameters included."""
    pair_report: Mapping[str, Any] | None
    """What the preference pairs look like; None for methods without pairs."""
    environment: Mapping[str, Any]
    status: Status
    reason: str | None
    """Why it was stopped or failed."""
    created_at: datetime
    updated_at: datetime
    parent: str | None = None
    """The training of the round before, whose checkpoint it starts with."""

    @property
    def round(self) -> int:
        """Which round of its method it is; the first starts with the base model."""
        return int(self.recipe["rounds"]["number"]) if self.parent else 1


class CurvePoint(NamedTuple):
    """What a training measured at one step."""

    metric: str
    """"loss", "reward_chosen", "ranking_accuracy", "kl", "tokens_per_second", ..."""
    step: int
    value: float


@lasting
def put_training(store: Store, training: Training) -> None:
    """Store a training, or bring the one that is there up to date."""
    row = {name: getattr(training, name) for name in Training.__dataclass_fields__}
    row |= {name: masked_values(row[name]) for name in ("model", "recipe", "environment", "reason")}
    changing = ["checkpoint", "pair_report", "status", "reason", "updated_at"]
    with store.write() as connection:
        store.put(connection, trainings, [row], replace=changing)


@lasting
def touch_training(store: Store, training_id: str) -> None:
    """Note that a training is at work; `updated_at` tells when it last was."""
    query = sa.update(trainings).where(trainings.c.training_id == training_id)
    with store.write() as connection:
        connection.execute(query.values(updated_at=now()))


@lasting
def put_curve(store: Store, training_id: str, made: Sequence[CurvePoint]) -> None:
    """Store points of a learning curve; a step that is measured again replaces the earlier one."""
    rows = [{"training_id": training_id, **point._asdict()} for point in made]
    with store.write() as connection:
        store.put(connection, curves, rows, replace=["value"])


def list_trainings(store: Store) -> list[Training]:
    """Return every training, the latest first."""
    query = sa.select(trainings).order_by(trainings.c.updated_at.desc(), trainings.c.training_id)
    return [Training(**row._mapping) for row in store.fetch(query)]


def rounds_up_to(training: Training, known: Iterable[Training]) -> list[Training]:
    """Return the rounds that led to a training, as far as they are known, the first first."""
    by_id = {one.training_id: one for one in known}
    found = [training]
    while (parent := by_id.get(found[-1].parent or "")) and parent not in found:
        found.append(parent)
    return found[::-1]


def get_curve(store: Store, training_id: str, metric: str | None = None) -> list[CurvePoint]:
    """Return the points of a training, of one metric or of all, by metric and step."""
    columns = (curves.c.metric, curves.c.step, curves.c.value)
    query = (
        sa.select(*columns)
        .where(
            curves.c.training_id == training_id,
            *([] if metric is None else [curves.c.metric == metric]),
        )
        .order_by(curves.c.metric, curves.c.step)
    )
    return [CurvePoint(*row) for row in store.fetch(query)]


def last_values(store: Store) -> dict[str, dict[str, float]]:
    """Return, by training and metric, the value at the last step."""
    ends = (
        sa.select(
            curves.c.training_id, curves.c.metric, sa.func.max(curves.c.step).label("last_step")
        )
        .group_by(curves.c.training_id, curves.c.metric)
        .subquery()
    )
    query = sa.select(curves.c.training_id, curves.c.metric, curves.c.value).join(
        ends,
        (curves.c.training_id == ends.c.training_id)
        & (curves.c.metric == ends.c.metric)
        & (curves.c.step == ends.c.last_step),
    )
    found: dict[str, dict[str, float]] = {}
    for training_id, metric, value in store.fetch(query):
        found.setdefault(training_id, {})[metric] = value
    return found
