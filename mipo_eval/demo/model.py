"""The base model of the demo world: it ships with the package, and can be made again.

    base_model() -> mipo_eval/demo/base_model/        (a folder that any tool for checkpoints reads)
    rebuild_base_model(render) -> <cache>/demo-base-1f0c.../

About 1M parameters (Qwen2 architecture). It answers the demo world's questions in plain English and
follows a stated wish somewhat less than half of the time: the "instruct model" of this world, which
the training methods then improve. It ships so that everybody's demo begins with the same weights:
made again, on another processor or by other versions of the libraries, they come out different.
"""

import os
import shutil
import tempfile
from dataclasses import asdict
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING

from mipo_eval import settings
from mipo_eval.checkpoints import fingerprint
from mipo_eval.errors import ConfigError, ModelError
from mipo_eval.keys import digest
from mipo_eval.records import Item

if TYPE_CHECKING:
    from mipo_eval.demo.pretraining import OnStep, PretrainingRecipe, Render

FINGERPRINT = "9603f1955a6208cd26187d9b7f5c65f8"
"""Digest of the shipped files (`checkpoints.fingerprint`)."""


def base_model() -> Path:
    """Return the folder of the base model that ships. Its weights are bf16, to be read as float32.

    Raises:
        ModelError: its files are not those that ship.
    """
    folder = Path(str(resources.files(__package__))) / "base_model"
    if not folder.is_dir() or fingerprint(folder) != FINGERPRINT:
        raise ModelError(
            f"the demo's base model in {folder} is not the one that ships: install mipo-eval again"
        )
    return folder


def rebuild_base_model(
    render: "Render",
    *,
    recipe: "PretrainingRecipe | None" = None,
    on_step: "OnStep | None" = None,
) -> Path:
    """Return the folder of a base model made by the recipe, training it if the cache has none.

    A build that is killed leaves no model behind; of two processes that build at once, the second
    waits for the first and takes its result.

    Args:
        render: turns an item into the user turn, as the evaluation will (`mipo_eval.tasks.prompt`).
        recipe: the training recipe; the default is the demo's.
        on_step: called after each training step with (steps done, steps in all).

    Raises:
        ConfigError: torch and transformers are not installed, or the cache cannot be written.
    """
    folder = rebuilt_folder(render, recipe=recipe)
    if folder.is_dir():
        return folder
    from filelock import FileLock  # comes with torch

    from mipo_eval.demo.pretraining import PretrainingRecipe, pretrain

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(folder.parent / f"{folder.name}.lock"):
            if folder.is_dir():  # another process built it while we waited
                return folder
            # Nobody else builds this model now: older unfinished folders are leftovers.
            for leftover in folder.parent.glob(f".{folder.name}-*"):
                shutil.rmtree(leftover, ignore_errors=True)
            with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
                unfinished = Path(name, "model")
                pretrain(unfinished, render, recipe or PretrainingRecipe(), on_step)
                unfinished.rename(folder)
    except OSError as error:
        raise ConfigError(
            f"the demo model cannot be written to {folder.parent}: "
            f"{os.strerror(error.errno or 0)}; set {settings.CACHE} to a folder that can be "
            "written"
        ) from error
    return folder


def rebuilt_folder(render: "Render", *, recipe: "PretrainingRecipe | None" = None) -> Path:
    """Return where a rebuilt base model is, or will be.

    The name digests everything that decides the weights but the processor: the recipe, the sources
    of the demo world (its text and this recipe's code), the rendering of a user turn, and the
    libraries.

    Raises:
        ConfigError: a library that decides the weights is not installed.
    """
    libraries = ("torch", "transformers", "tokenizers")
    try:
        versions = {name: metadata.version(name) for name in libraries}
    except metadata.PackageNotFoundError as error:
        raise ConfigError(
            f"training the demo's base model needs {error.name}: pip install 'mipo-eval[hf]'"
        ) from None
    from mipo_eval.demo.pretraining import PretrainingRecipe

    sources = {
        file.name: file.read_text(encoding="utf-8")
        for file in resources.files(__package__).iterdir()
        if file.name.endswith((".py", ".yaml")) and file.name != "rules.py"
    }
    probe = Item(item_id="probe", prompt="What is asked?", context="What is known.")
    turns = [render(probe), render(probe.model_copy(update={"context": ""}))]
    key = digest([asdict(recipe or PretrainingRecipe()), sources, turns, versions])
    return settings.cache_dir() / f"demo-base-{key[:16]}"
