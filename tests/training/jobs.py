"""Small jobs for tests of training methods."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mipo_eval.records import Item
from mipo_eval.tasks.prompt import render_query
from mipo_eval.training.recipes import Optimization
from mipo_eval.training.trainer import TrainingExample, TrainingJob

QUICK: Mapping[str, Any] = {"learning_rate": 1e-2, "batch_size": 2, "micro_batch_size": 1}


class Curves:
    """Remembers what was reported; stops a training from outside, as a kill would."""

    def __init__(self, *, stop_at: int | None = None) -> None:
        self.points: list[tuple[int, dict[str, float]]] = []
        self._stop_at = stop_at

    def __call__(self, step: int, metrics: Mapping[str, float]) -> None:
        assert all(math.isfinite(value) for value in metrics.values())
        self.points.append((step, dict(metrics)))
        if self._stop_at is not None and step >= self._stop_at:
            raise KeyboardInterrupt

    def of(self, metric: str) -> list[float]:
        return [metrics[metric] for _, metrics in self.points if metric in metrics]


def example(prompt: str, context: str, chosen: str | None = None, **more: Any) -> TrainingExample:
    """An example as the recipes make it from an item."""
    name = f"{prompt}/{context}"
    item = Item(item_id=name, prompt=prompt, context=context, **more)
    return TrainingExample(
        item=item,
        prompt=({"role": "user", "content": render_query(item, "personalized")},),
        bare_prompt=({"role": "user", "content": render_query(item, "default")},),
        chosen=chosen,
    )


def examples(prompts: int = 4, contexts: int = 3) -> list[TrainingExample]:
    """Some prompts, each of several users, with responses of different lengths."""
    wants = ["Be short.", "I am nine.", "I like birds.", "Tell me why."]
    says = ["Tea is a drink.", "Birds sing to be heard", "Leaves", "A drink made of leaves"]
    return [
        example(
            f"What is tea {number}?",
            wants[user],
            f"{says[(number + user) % 4]} {number}",
            preferences=(wants[user],),
        )
        for number in range(prompts)
        for user in range(contexts)
    ]


def job(
    model: Path,
    out: Path,
    found: Sequence[TrainingExample],
    *,
    report: Curves | None = None,
    save_steps: int = 100,
    **optimization: Any,
) -> TrainingJob:
    """A job on the CPU with a learning rate that moves weights in a few steps."""
    return TrainingJob(
        model=str(model),
        out=out,
        examples=found,
        optimization=Optimization(**{**QUICK, **optimization}),
        seed=0,
        report=report or Curves(),
        save_steps=save_steps,
    )


def weights(folder: Path) -> dict[str, Any]:
    """All weights of a checkpoint."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")
