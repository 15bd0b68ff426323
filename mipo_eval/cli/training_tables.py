"""Trainings as rich tables and as JSON."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from mipo_eval.cli.render import inert
from mipo_eval.store.trainings import CurvePoint, Training

if TYPE_CHECKING:
    from mipo_eval.training.sweep import Swept

_FIGURES = {
    "examples": "examples",
    "pairs": "pairs",
    "chosen_characters": "characters of a chosen response",
    "rejected_characters": "characters of a rejected response",
    "ranked_correctly": "pairs the base model ranks correctly",
    "pmi_chosen": "what the context adds to chosen (nats)",
    "pmi_rejected": "what the context adds to rejected (nats)",
}
"""Figures of the pair report that are shown."""

_CURVE = (
    "loss",
    "ranking_accuracy",
    "mi_lower_bound",
    "retrieval",
    "reward_chosen",
    "reward_rejected",
    "reward",
    "unrewarded",
    "kl",
    "held_out_loss",
    "held_out_reward",
    "tokens_per_second",
)
"""Metrics of a learning curve that are shown, in this order."""


def training_tables(
    training: Training, curve: Sequence[CurvePoint], swept: Sequence["Swept"]
) -> list[RenderableType]:
    """Return what was learned from, how it went, and what a sweep chose by."""
    title = inert(
        f"{training.method} of {training.model} on {training.suite}, seed {training.seed} "
        f"(training {training.training_id[:12]})"
    )
    title.stylize("bold")
    parts: list[RenderableType] = [title]
    if training.pair_report:
        parts += [_figures(training.pair_report), *_left_out(training.pair_report)]
    if rows := _ends(curve):
        table = Table("learning curve", header_style="bold", box=SIMPLE_HEAD)
        for column in ("first tenth", "last tenth"):
            table.add_column(column, justify="right")
        for metric, first, last in rows:
            table.add_row(metric, f"{first:.4g}", f"{last:.4g}")
        parts.append(table)
    if swept:
        parts.append(_sweep(swept))
    return parts


def _figures(report: Mapping[str, Any]) -> Table:
    table = Table("training data", header_style="bold", box=SIMPLE_HEAD)
    table.add_column("", justify="right")
    for key, label in _FIGURES.items():
        value = report.get(key)
        if value:
            share = key == "ranked_correctly"
            shown = f"{100 * value:.1f} %" if share else f"{value:.4g}"
            table.add_row(label, shown)
    return table


def _left_out(report: Mapping[str, Any]) -> list[Text]:
    trained: Mapping[str, Any] = report.get("trained") or {}
    left_out = {
        "items left out": report.get("dropped"),
        "negatives left out": report.get("dropped_negatives"),
        "left out of the training": trained.get("dropped"),
    }
    lines = []
    for what, counts in left_out.items():
        if counts:
            reasons = ", ".join(f"{n} x {why}" for why, n in counts.items())
            line = inert(f"{what}: {reasons}")
            line.stylize("yellow")
            lines.append(line)
    return [*lines, *(inert(note) for note in trained.get("notes", ()))]


def _ends(curve: Sequence[CurvePoint]) -> list[tuple[str, float, float]]:
    """Return each shown metric with its means over the first and the last tenth of its points."""
    rows = []
    for metric in _CURVE:
        points = sorted((p.step, p.value) for p in curve if p.metric == metric)
        if points:
            tenth = -(-len(points) // 10)
            values = [value for _, value in points]
            rows.append((metric, sum(values[:tenth]) / tenth, sum(values[-tenth:]) / tenth))
    return rows


def _sweep(swept: Sequence["Swept"]) -> Table:
    table = Table("sweep", header_style="bold", box=SIMPLE_HEAD)
    table.add_column(swept[0].criterion, justify="right")
    for one in swept:
        table.add_row(str(one.value), f"{one.figure:.4g}")
    return table


def training_json(training: Training, swept: Sequence["Swept"]) -> dict[str, object]:
    """Return a training as `--json` shows it."""
    return {
        "training_id": training.training_id,
        "method": training.method,
        "model": training.model,
        "suite": training.suite,
        "seed": training.seed,
        "checkpoint": training.checkpoint,
        "status": training.status,
        "recipe": dict(training.recipe),
        "pair_report": dict(training.pair_report) if training.pair_report else None,
        "sweep": [
            {"value": one.value, "criterion": one.criterion, "figure": one.figure} for one in swept
        ],
    }
