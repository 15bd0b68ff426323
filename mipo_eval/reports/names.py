"""What a run is called in tables: its row, by a rows file, its training or its --model."""

import glob
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from mipo_eval.models.spec import read_name
from mipo_eval.records import Run
from mipo_eval.settings import read_yaml
from mipo_eval.signature import Signature
from mipo_eval.store.engine import Store
from mipo_eval.store.trainings import Training, list_trainings

_SEED = re.compile(r"[-_./]seed[-_=]?(\d+)(?=$|[-_./])")
ROW_PARTS = ("prompting", "seed", "system_role")
"""Signature parts in which rows of one column may differ: prompting is the row itself, a seed is
averaged over, and where a system prompt stands follows from the row's model."""


def column_signature(signature: Signature) -> Signature:
    """Return the parts of a signature that all rows of one column have to share."""
    return signature.less(*ROW_PARTS)


class RowRule(BaseModel):
    """One entry of a rows file: what the runs it matches are called in tables."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str | None = None
    """Beginning of a run's id."""
    name: str | None = None
    """What was given as --model; * and ? match as in file names."""
    prompting: str | None = None
    """Only runs with this prompting."""
    model: str | None = None
    """The base model, e.g. Llama-3.2-1B-Instruct."""
    method: str | None = None
    """As the paper calls it, e.g. MIPO."""
    variant: str | None = None
    """One of several candidates of the method, e.g. its negatives; the best is marked."""
    seed: int | None = None
    """Seed of training."""

    @model_validator(mode="after")
    def _matches_something(self) -> "RowRule":
        if self.run is None and self.name is None:
            raise ValueError("says which runs neither by run nor by name")
        return self

    def matches(self, run: Run) -> bool:
        """Return whether the rule is about this run."""
        return (
            (self.run is None or run.run_id.startswith(self.run))
            and (self.name is None or fnmatchcase(run.model, self.name))
            and (self.prompting is None or run.prompting == self.prompting)
        )


def read_rows(path: Path) -> list[RowRule]:
    """Return the rules of a rows file, a YAML list.

    Raises:
        ConfigError: the file cannot be read or is not of this form.
    """
    return read_yaml(path, f"--rows {path}", list[RowRule], part="entry ")


@dataclass(frozen=True, slots=True, kw_only=True)
class RowName:
    """What a run is called in tables."""

    model: str
    method: str
    variant: str | None = None

    @property
    def whole_method(self) -> str:
        """The method with its variant."""
        return f"{self.method} ({self.variant})" if self.variant else self.method

    @property
    def in_full(self) -> str:
        """Model, method and variant."""
        return f"{self.model} \u00b7 {self.whole_method}"


def row_name(run: Run, rules: Sequence[RowRule] = ()) -> tuple[RowName, tuple[int, int]]:
    """Return a run's row and its (training seed, decoding seed).

    Without a rule the model is what --model named, less a `seed` mark such as "-seed3", and the
    method is how it was prompted: whether a checkpoint was trained cannot be seen from outside.
    """
    spelt = run.model.partition("@")[0]
    marks = _SEED.findall(spelt)
    model = model_label(_SEED.sub("", spelt))
    method = f"{run.prompting.capitalize()} prompting" if run.prompting else "Base"
    trained, variant = int(marks[-1]) if marks else 0, None
    rule = next((rule for rule in rules if rule.matches(run)), None)
    if rule is not None:
        model, method, variant = rule.model or model, rule.method or method, rule.variant
        trained = trained if rule.seed is None else rule.seed
    return RowName(model=model, method=method, variant=variant), (trained, run.seed)


def model_label(name: str) -> str:
    """Return the part of a --model that names the model: no prefix, no URL, no folders."""
    return read_name(name).label


_ASKED = {"default": " (default prompting)", None: ""}
"""How a run was prompted to a mark of its row; the paper's rows are of personalized prompting."""


def run_names(chosen: Sequence[Run], rules: Sequence[RowRule]) -> list[str]:
    """Return what each run's checkpoint is called: how it was trained here, or its --model.

    The base model and the training's seed are named where there are several.
    """
    found = [(*row_name(run, rules), any(rule.matches(run) for rule in rules)) for run in chosen]
    models = len({name.model for name, _, _ in found}) > 1
    seeds = len({trained for _, (trained, _), known in found if known}) > 1
    names = []
    for run, (name, (trained, _), known) in zip(chosen, found, strict=True):
        method = name.method.removesuffix(_ASKED["default"])
        shown = f"{name.model}, " * models + method + f" ({name.variant})" * bool(name.variant)
        names.append(shown + f", seed {trained}" * seeds if known else model_label(run.model))
    return names


def run_labels(chosen: Sequence[Run], rules: Sequence[RowRule] = ()) -> dict[str, str]:
    """Return a short name for each run: what tells it from the others, and its id."""
    called = dict(zip((run.run_id for run in chosen), run_names(chosen, rules), strict=True))
    names = set(called.values())
    several_promptings = len({run.prompting for run in chosen}) > 1
    several_seeds = len({run.seed for run in chosen}) > 1
    labels = {}
    for run in chosen:
        parts = [run.run_id[:8]]
        if len(names) > 1 or len(chosen) == 1 or not (several_promptings or several_seeds):
            parts.append(called[run.run_id])
        if several_promptings:
            parts.append(run.prompting)
        if several_seeds:
            parts.append(f"seed {run.seed}")
        labels[run.run_id] = " ".join(parts)
    return labels


def told_apart(names: Sequence[RowName]) -> list[str]:
    """Return what rows are called beside each other: model and method only where they differ."""
    models = [name.model for name in names]
    methods = [name.whole_method for name in names]
    if len({*models}) == 1:
        return methods
    if len({*methods}) == 1:
        return models
    return [name.in_full for name in names]


def run_titles(runs: Sequence[Run], rules: Sequence[RowRule]) -> dict[str, str]:
    """Return what runs are called in sentences, by id: their row, and what tells equal ones apart.

    A seed stands there only where runs differ in it, an id where nothing else tells.
    """
    rows = [row_name(run, rules) for run in runs]
    titles = told_apart([name for name, _ in rows])
    seeds = [f", seed {trained or drawn}" for _, (trained, drawn) in rows]
    for marks in (seeds, [f" [{run.run_id[:8]}]" for run in runs]):
        told = len(set(marks)) > 1
        alike = [told and titles.count(title) > 1 for title in titles]
        titles = [
            f"{t}{m if same else ''}" for t, m, same in zip(titles, marks, alike, strict=True)
        ]
    return {run.run_id: title for run, title in zip(runs, titles, strict=True)}


METHODS = {
    "dpo": "DPO",
    "sft": "SFT",
    "sft-revision": "SFT (revision)",
    "sft-gt": "SFT (ground truth)",
    "sft-solutions": "SFT (solutions)",
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


def marks(training: Training) -> str:
    """Return marks of what sets a training apart from others with the same negatives.

    More of them were no more updates, as was once always so; it is a later round.
    """
    _, count = negatives_of(training)
    in_pairs = recipe_value(training.recipe, "batch_of") == "pairs"
    batches = "" if in_pairs or count is None or count == 1 else ", batches of prompts"
    return batches + (f", round {training.round}" if training.parent else "")


def stored_rules(store: Store) -> tuple[RowRule, ...]:
    """Return how the runs of all checkpoints are called that a store knows the training of."""
    return trained_rules(list_trainings(store))


def trained_rules(trainings: Iterable[Training]) -> tuple[RowRule, ...]:
    """Return how the runs of trained checkpoints are called: base model, method, negatives, seed.

    A run belongs to a training when its --model names the training's checkpoint.
    """
    rules = []
    for training in trainings:
        if training.checkpoint is None:
            continue
        variant = training_variant(training)
        rules += [
            RowRule(
                name=name,
                prompting=prompting,
                model=model_label(training.model),
                method=f"{method_label(training.method)}{asked}",
                variant=variant,
                seed=training.seed,
            )
            for name in map(glob.escape, checkpoint_names(training.checkpoint))
            for prompting, asked in _ASKED.items()
        ]
    return tuple(rules)


def training_variant(training: Training) -> str | None:
    """Return how negatives were made, how many, and what else tells it from the method's others.

    Example:
        "random x 3", "missing, round 2", "round 2"
    """
    strategy, count = negatives_of(training)
    several = f" x {count}" if strategy and count and count > 1 else ""
    return f"{strategy or ''}{several}{marks(training)}".removeprefix(", ") or None


def checkpoint_names(checkpoint: str) -> Iterator[str]:
    """Yield what --model may call a checkpoint: in full or from here, in process or by vLLM."""
    full = checkpoint.rstrip("/")
    here = os.path.relpath(full)
    for path in (full, here, f"./{here}"):
        for name in (path, f"{path}/"):
            yield name
            yield f"vllm:{name}"
