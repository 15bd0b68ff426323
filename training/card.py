"""The model card: README.md of a trained checkpoint, with everything needed to repeat it."""

import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from mipo_eval.evaluation.generate import environment
from mipo_eval.models.spec import ModelSpec
from mipo_eval.store.trainings import CurvePoint, Training

_LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "lm_eval", "vllm")


def training_environment() -> dict[str, str]:
    """Return what a training is made with: versions, machine, command; nothing is imported."""
    return environment(_LIBRARIES, command=shlex.join(sys.argv[1:]))


def model_card(training: Training, curve: Sequence[CurvePoint], *, base: ModelSpec) -> str:
    """Return the README.md of a trained checkpoint.

    Args:
        training: as it is stored.
        curve: all its points.
        base: the model it began with.
    """
    return "\n".join(_card(training, curve, base)) + "\n"


def _card(training: Training, curve: Sequence[CurvePoint], base: ModelSpec) -> Iterator[str]:
    head = {
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        **({"base_model": base.name} if base.name.count("/") == 1 else {}),
        "tags": ["mipo-eval", training.method],
    }
    yield "---"
    yield yaml.safe_dump(head, sort_keys=False).strip()
    yield "---"
    yield f"\n# {training.method} of {training.model} on {training.suite}, seed {training.seed}\n"
    yield str(training.recipe.get("about", "")) + "\n"
    yield "```"
    yield f"mipo-eval {training.environment.get('command', '')}"
    yield "```"
    yield f"\nTraining `{training.training_id}`, finished {training.updated_at:%Y-%m-%d %H:%M} UTC."
    yield f"Base model `{base.name}`: {dict(base.identity)}."
    yield "\n## Recipe\n\n```yaml"
    yield yaml.safe_dump(dict(training.recipe), sort_keys=False, allow_unicode=True).strip()
    yield "```"
    if training.pair_report:
        yield from _table("Training data", _figures(training.pair_report))
    last = {point.metric: point.value for point in sorted(curve, key=lambda point: point.step)}
    if last:
        yield from _table("Last values of the learning curve", last)
    yield from _table("Made with", training.environment)


def _figures(report: Mapping[str, Any]) -> dict[str, Any]:
    """Return the figures of a pair report that fit in a table."""
    figures: dict[str, Any] = {}
    for name, value in report.items():
        if isinstance(value, Mapping):
            figures |= {f"{name}: {key}": found for key, found in value.items()}
        elif not isinstance(value, list | tuple):
            figures[name] = value
    return figures


def _table(title: str, rows: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n## {title}\n\n| what | value |\n|---|---|"
    for name, value in rows.items():
        shown = f"{value:.6g}" if isinstance(value, float) else str(value)
        yield "| {} | {} |".format(*(cell.replace("|", "\\|") for cell in (name, shown)))
