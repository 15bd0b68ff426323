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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib import metadata, resources
from itertools import islice
from pathlib import Path

from mipo_eval import settings
from mipo_eval.checkpoints import fingerprint
from mipo_eval.demo.pretraining import (
    Progress,
    Recipe,
    Render,
    batches,
    examples,
    make_model,
    make_tokenizer,
    tokenizer_texts,
    train,
)
from mipo_eval.errors import ConfigError, ModelError
from mipo_eval.keys import digest
from mipo_eval.records import Item
from mipo_eval.threads import choose_threads

FINGERPRINT = "9603f1955a6208cd26187d9b7f5c65f8"
"""Digest of the shipped files (`checkpoints.fingerprint`)."""

_LIBRARIES = ("torch", "transformers", "tokenizers")


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
    render: Render, *, recipe: Recipe | None = None, progress: Progress | None = None
) -> Path:
    """Return the folder of a base model made by the recipe, training it if the cache has none.

    A build that is killed leaves no model behind; of two processes that build at once, the second
    waits for the first and takes its result.

    Args:
        render: turns an item into the user turn, as the evaluation will (`mipo_eval.tasks.query`).
        recipe: the training recipe; the default is the demo's.
        progress: called after each training step with (steps done, steps in all).

    Raises:
        ConfigError: torch and transformers are not installed, or the cache cannot be written.
    """
    recipe = recipe or Recipe()
    folder = rebuilt_folder(render, recipe=recipe)
    if folder.is_dir():
        return folder
    with _cache_errors(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        from filelock import FileLock  # comes with torch

        with FileLock(folder.parent / f"{folder.name}.lock"):
            if not folder.is_dir():  # another process may have built it while we waited
                _build(folder, render, recipe, progress)
    return folder


def rebuilt_folder(render: Render, *, recipe: Recipe | None = None) -> Path:
    """Return where a rebuilt base model is, or will be.

    The name digests everything that decides the weights but the processor: the recipe, the sources
    of the demo world (its text and this recipe's code), the rendering of a user turn, and the
    libraries.

    Raises:
        ConfigError: a library that decides the weights is not installed.
    """
    return settings.cache_dir() / f"demo-base-{_key(render, recipe or Recipe())[:16]}"


def _key(render: Render, recipe: Recipe) -> str:
    try:
        versions = {name: metadata.version(name) for name in _LIBRARIES}
    except metadata.PackageNotFoundError as error:
        raise ConfigError(
            f"making the demo's base model needs {error.name}: pip install 'mipo-eval[hf]'"
        ) from None
    sources = {
        path.name: path.read_text(encoding="utf-8")
        for path in resources.files(__package__).iterdir()
        if path.name.endswith(".py") and path.name not in {"checker.py", "rules.py", "reading.py"}
    }
    probe = Item(item_id="probe", prompt="What is asked?", context="What is known.")
    turns = [render(probe), render(probe.model_copy(update={"context": ""}))]
    return digest([asdict(recipe), sources, turns, versions])


def _build(folder: Path, render: Render, recipe: Recipe, progress: Progress | None) -> None:
    # Under the lock nobody else builds this model: older unfinished folders are leftovers.
    for leftover in folder.parent.glob(f".{folder.name}-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as name:
        unfinished = Path(name, "model")
        _train_and_save(unfinished, render, recipe, progress)
        unfinished.rename(folder)


def _train_and_save(
    folder: Path, render: Render, recipe: Recipe, progress: Progress | None
) -> None:
    import torch

    tokenizer = make_tokenizer(tokenizer_texts(render, recipe), recipe)
    found = list(islice(examples(tokenizer, render, recipe), recipe.steps * recipe.batch))
    choose_threads(recipe.batch * recipe.max_tokens, recipe.hidden)
    with _deterministic():
        torch.manual_seed(recipe.seed)
        model = make_model(tokenizer, recipe)
        train(model, batches(found, recipe), recipe, progress)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


@contextmanager
def _deterministic() -> Iterator[None]:
    """Fix what decides the weights besides the data, and put back what the caller had."""
    import torch

    precision = torch.get_float32_matmul_precision()
    strict = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.set_float32_matmul_precision("highest")
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(strict)
            torch.set_float32_matmul_precision(precision)


@contextmanager
def _cache_errors(cache: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"cannot keep the demo model in {cache}: {os.strerror(error.errno or 0)};"
            f" name a folder that can be written in {settings.CACHE}"
        ) from error
