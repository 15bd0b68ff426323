"""What a sweep chooses by, on training items that were held out; `items.choose_by` says it.

loss             what the method measures there: its reward or, without one, its loss
satisfied:JUDGE  the share of their preferences that greedy responses satisfy: rated 4 or 5
wins:JUDGE       the share of them whose greedy response beats the reference; a tie is half a win
accuracy         the share of questions whose greedy response is right

Without JUDGE it is the suite's own.
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from mipo_eval.errors import ConfigError
from mipo_eval.judges.judge import Judge
from mipo_eval.judges.run import rate, with_references
from mipo_eval.records import Item, text_key
from mipo_eval.stats.bootstrap import Crossed
from mipo_eval.stats.intervals import intervals_in
from mipo_eval.store.engine import Store
from mipo_eval.store.items import put_list
from mipo_eval.store.trainings import CurvePoint, Training
from mipo_eval.store.verdicts import ratings_by, totals
from mipo_eval.tasks.answers import grade
from mipo_eval.tasks.suites import Suite
from mipo_eval.verdict import SATISFIED, from_totals

_CRITERIA = {"held_out_reward": 1, "held_out_loss": -1}
"""What is chosen by where nothing else is said, the first that the method measures; and whether
more or less of it is better."""

Pair = tuple[Item, str]
"""An item and the response to it; "" where there is none."""


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
class Figures:
    """What was measured, one value for each preference or item; NaN where there is none."""

    values: list[float]
    groups: list[Crossed]


def check_criterion(chosen_by: str, suite: Suite, items: Iterable[Item]) -> None:
    """Refuse what cannot be chosen by, before anything is trained.

    Raises:
        ConfigError: there is no such criterion, or it does not fit the suite or its items.
    """
    kind, _, judge = chosen_by.partition(":")
    if kind in {"satisfied", "wins"} and suite.form == "query":
        if not (judge or suite.judge):
            raise ConfigError(
                f"items.choose_by={chosen_by}: suite {suite.name} has no judge of its own: name "
                f"one, such as {kind}:gpt-4.1"
            )
        lacking = [item for item in items if not _judgeable(item, kind)]
        if lacking:
            what = "preferences" if kind == "satisfied" else "preferences with a reference"
            raise ConfigError(
                f"items.choose_by={chosen_by}: item {lacking[0].item_id} has no {what}, so it "
                "cannot be judged"
            )
    elif chosen_by != "loss" and (chosen_by != "accuracy" or suite.form != "answer"):
        fitting = "satisfied:JUDGE, wins:JUDGE" if suite.form == "query" else "accuracy"
        raise ConfigError(
            f"items.choose_by is {chosen_by!r}: a sweep on {suite.name} can choose by loss, "
            f"{fitting}"
        )


def _judgeable(item: Item, kind: str) -> bool:
    return bool(item.preferences) and (kind == "satisfied" or bool(item.reference))


def figures_of(
    store: Store, chosen_by: str, judge: Judge | None, task: str, pairs: Sequence[Pair]
) -> Figures:
    """Return how responses to the items of a task do; those that are judged are judged now.

    Raises:
        BackendError: the judge cannot be asked.
    """
    kind = chosen_by.partition(":")[0]
    if judge is None:
        values = [[100.0 * (grade(item, text) == "right")] for item, text in pairs]
    else:
        satisfied = kind == "satisfied"
        texts = (one for one in pairs if one[1].strip()) if satisfied else with_references(pairs)
        asyncio.run(rate(store, judge, texts))
        values = (
            _satisfied(store, judge.key, pairs)
            if satisfied
            else _won(store, judge.key, task, pairs)
        )
    groups = [
        Crossed(item.group, item.user_id)
        for (item, _), own in zip(pairs, values, strict=True)
        for _ in own
    ]
    return Figures([value for own in values for value in own], groups)


def _satisfied(store: Store, judge: str, pairs: Sequence[Pair]) -> list[list[float]]:
    """Return, per item, 100 or 0 for each of its preferences."""
    known = ratings_by(store, judge, [item.key for item, _ in pairs])

    def one(item: Item, text: str, aspect: int) -> float:
        rating = known.get((item.key, text_key(text), aspect))
        return float("nan") if rating is None else 100.0 * (rating >= SATISFIED)

    return [[one(item, text, n) for n in range(len(item.preferences))] for item, text in pairs]


def _won(store: Store, judge: str, task: str, pairs: Sequence[Pair]) -> list[list[float]]:
    """Return, per item, 100 for a win against the reference, 50 for a tie, 0 for a loss."""
    list_key, _ = put_list(store, [(task, [item for item, _ in pairs])])
    known = totals(store, judge, list_key)

    def credit(item: Item, text: str) -> float:
        own = known.get((item.key, text_key(text)))
        other = known.get((item.key, text_key(item.reference or "")))
        found = from_totals(own, other, len(item.preferences)).credit
        return float("nan") if found is None else 100.0 * found

    return [[credit(item, text)] for item, text in pairs]


def by_curve(value: Any, training: Training, curve: Sequence[CurvePoint]) -> Swept:
    """Return how a value did by what its training last measured on held-out items.

    Raises:
        ConfigError: its method measures nothing there.
    """
    for criterion in _CRITERIA:
        points = [point for point in curve if point.metric == criterion]
        if points:
            last = max(points, key=lambda point: point.step)
            return Swept(value=value, training=training, criterion=criterion, figure=last.value)
    raise ConfigError(
        f"{training.method} measures nothing on held-out items, so --sweep cannot choose: train "
        "each value with --set and compare the checkpoints"
    )


def with_leads(done: Sequence[Swept], measured: Sequence[Figures]) -> list[Swept]:
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
