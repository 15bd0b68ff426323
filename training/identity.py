"""What names a training: of its recipe, what decides the weights that come out."""

from collections.abc import Mapping
from typing import Any

from mipo_eval.plugins import Plugin, plugin_of
from mipo_eval.training.recipes import LOSSES, NEGATIVES, REWARDS, Recipe, recipe_dict

_BESIDE = {"about", "save_steps", "report_to", "query", "rounds"}
"""Keys that do not decide what comes out; a wording is named by its text, not by its file, and a
round by the one before it."""

_FORMERLY: Mapping[str, Any] = {
    "items.choose_by": "loss",
    "optimization.final_share": 0.0,
    "optimization.betas": [0.9, 0.999],
    "optimization.lora_alpha": None,
    "settings.loss": "dpo",
    "settings.batch_of": "prompts",
    "settings.rates": "preferences",
    "settings.reward_clip": None,
}
"""Keys that once did not exist, with what was done then."""


def deciding(recipe: Recipe) -> dict[str, Any]:
    """Return what of a recipe decides what comes out; its digest names a training.

    Keys that say nothing here, or what was done before they existed, are left out: a training
    keeps its name.
    """
    shown = {key: value for key, value in recipe_dict(recipe).items() if key not in _BESIDE}
    idle = {"items.choose_by"}
    if recipe.pairs is not None and recipe.pairs.n_negatives == 1:
        idle.add("settings.batch_of")
    if getattr(recipe.settings, "reward", None) not in {"judge", "judge+mi"}:
        idle.add("settings.rates")
    for key, former in _FORMERLY.items():
        part, _, name = key.rpartition(".")
        if name in shown[part] and (key in idle or shown[part][name] == former):
            del shown[part][name]
    used = {f"{plugin.kind}.{plugin.name}": plugin.key for plugin in plugins_of(recipe)}
    return shown | ({"plugins": used} if used else {})


def plugins_of(recipe: Recipe) -> list[Plugin]:
    """Return the plug-ins that a recipe names, whose code decides too."""
    named = [
        ("negatives", recipe.pairs.negatives if recipe.pairs else None, NEGATIVES),
        ("rewards", getattr(recipe.settings, "reward", None), REWARDS),
    ]
    if recipe.algorithm == "dpo":
        named.append(("losses", recipe.settings.loss, LOSSES))
    found = (plugin_of(kind, name, ours, kind) for kind, name, ours in named if name)
    return [plugin for plugin in found if plugin]


def prompts_read(template: str, told: Mapping[str, Any]) -> dict[str, str]:
    """Return what names a training whose prompts were once read otherwise than they were drawn.

    Whatever a chat template was `told` of thinking where responses were drawn, training told it
    that there is none.
    """
    once = {"enable_thinking": False}
    other = any(name in template and told.get(name) != once.get(name) for name in {*told, *once})
    return {"prompts": "as drawn"} if other else {}
