"""What the store knows of checkpoints that were trained here, so that tables can name them."""

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mipo_eval.reports.catalog import RowRule, model_label
from mipo_eval.store.trainings import Training

METHODS = {
    "sft": "SFT",
    "sft-revision": "SFT (revision)",
    "sft-gt": "SFT (ground truth)",
    "ppo-mi": "PPO (MI)",
    "rlaif": "RLAIF",
    "rlaif-mi": "RLAIF (MI)",
    "rlaif-gt": "RLAIF (ground truth)",
    "info-nce": "InfoNCE",
    "sami": "SAMI",
    "mipo": "MIPO",
    "rlvr": "RLVR (ground truth)",
}
"""Name of a recipe to the row of the paper's tables that it makes."""

NEGATIVES = {"reshuffle": "reshuffling", "random-strings": "random strings"}
"""Negatives as commands name them to the paper's name, where it is another."""


_ASKED = {"default": " (default prompting)", None: ""}
"""How a run was prompted to a mark of its row; the paper's rows are of personalized prompting."""


def method_label(method: str) -> str:
    """Return what the paper calls a recipe; an unknown one keeps its name.

    Example:
        >>> method_label("mipo-missing"), method_label("sft-gt")
        ('MIPO', 'SFT (ground truth)')
    """
    return "MIPO" if method.startswith("mipo-") else METHODS.get(method, method)


def recipe_value(recipe: Mapping[str, Any], name: str) -> Any:
    """Return the first setting of this name, at any depth of the recipe; None without.

    Example:
        >>> recipe_value({"pairs": {"negatives": "missing"}}, "negatives")
        'missing'
    """
    if name in recipe and not isinstance(recipe[name], Mapping):
        return recipe[name]
    parts = (value for value in recipe.values() if isinstance(value, Mapping))
    found = (recipe_value(part, name) for part in parts)
    return next((value for value in found if value is not None), None)


def negatives_of(training: Training) -> tuple[str | None, int | None]:
    """Return how a training made its negatives, as the paper says it, and how many there were."""
    strategy = recipe_value(training.recipe, "negatives")
    count = recipe_value(training.recipe, "n_negatives")
    return (
        None if strategy is None else NEGATIVES.get(str(strategy), str(strategy)),
        int(count) if isinstance(count, int | float) else None,
    )


def trained_rules(trainings: Iterable[Training]) -> tuple[RowRule, ...]:
    """Return how the runs of trained checkpoints are called: base model, method, negatives, seed.

    A run belongs to a training when its --model names the training's checkpoint.
    """
    rules = []
    for training in trainings:
        if training.checkpoint is None:
            continue
        strategy, count = negatives_of(training)
        several = f" x {count}" if count is not None and count > 1 else ""
        rules += [
            RowRule(
                name=name,
                prompting=prompting,
                model=model_label(training.model),
                method=f"{method_label(training.method)}{asked}",
                variant=f"{strategy}{several}" if strategy else None,
                seed=training.seed,
            )
            for name in _names(training.checkpoint)
            for prompting, asked in _ASKED.items()
        ]
    return tuple(rules)


def _names(checkpoint: str) -> Iterator[str]:
    """Yield what --model may call a checkpoint: in full or from here, in process or by vLLM."""
    full = checkpoint.rstrip("/")
    here = os.path.relpath(full)
    for path in (full, here, f"./{here}"):
        for name in (path, f"{path}/"):
            yield glob.escape(name)
            yield f"vllm:{glob.escape(name)}"
