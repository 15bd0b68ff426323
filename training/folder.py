"""The folder that a training writes to: whose it is, and what becomes of it when one fails."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mipo_eval.errors import ConfigError, MipoEvalError
from mipo_eval.training.start import START
from mipo_eval.training.trainer import (
    REFERENCE_FILE,
    STEPS,
    is_main_process,
    last_checkpoint,
    main_process_first,
)

MARKER = ".mipo-eval-training"
"""File in an output folder that says which training it holds."""

SWEEP_FOLDER = "sweep"
"""Folder in the output that holds the values' trainings until one is chosen."""


@contextmanager
def claimed(out: Path, training_id: str, method: str) -> Iterator[None]:
    """Make the output folder a training's; one that fails before it has a checkpoint returns it.

    Raises:
        ConfigError: there is something else in it, or it cannot be written to.
    """
    with main_process_first():
        claim(out, training_id, method)
    try:
        yield
    except MipoEvalError:
        if is_main_process():
            _give_back(out)
        raise


def _give_back(out: Path) -> None:
    """Take what a failed training left out of its folder, unless it can continue from it."""
    with_sweep = out / SWEEP_FOLDER
    tried = with_sweep.is_dir() and any(with_sweep.iterdir())
    if tried or (out / "config.json").exists() or last_checkpoint(out / STEPS):
        return
    for name in (STEPS, START, f"{START}.part", SWEEP_FOLDER):
        shutil.rmtree(out / name, ignore_errors=True)
    for name in (REFERENCE_FILE, MARKER):
        (out / name).unlink(missing_ok=True)
    with suppress(OSError):  # other files are the user's, and the folder then stays
        out.rmdir()


def tidy(out: Path, *, is_base: bool) -> None:
    """Drop what only a stopped training needs.

    The steps go first and at once: as long as they are there the training goes on, for which it
    needs the rest. `is_base`: the model that it started from is the base of the new adapter.
    """
    steps, dropped = out / STEPS, out / ".dropped"
    shutil.rmtree(dropped, ignore_errors=True)
    if steps.exists():
        steps.replace(dropped)
        shutil.rmtree(dropped, ignore_errors=True)
    (out / REFERENCE_FILE).unlink(missing_ok=True)
    if not is_base:
        shutil.rmtree(out / START, ignore_errors=True)


def claim(out: Path, training_id: str, method: str) -> None:
    """Make the output folder this training's, or find that it is.

    Raises:
        ConfigError: there is something else in it, or it cannot be written to.
    """
    try:
        if out.is_dir() and any(out.iterdir()):
            marker = out / MARKER
            found = marker.read_text(encoding="utf-8").strip() if marker.is_file() else None
            if found is None:
                raise ConfigError(
                    f"--out {out} is not empty: name another folder, or empty this one"
                )
            if found != training_id:
                raise ConfigError(
                    f"--out {out} holds another training ({found[:12]}; this {method} would be "
                    f"{training_id[:12]}): name another folder, or repeat the command with which "
                    "it began"
                )
        elif out.exists() and not out.is_dir():
            raise ConfigError(f"--out {out} is a file: name a folder")
        else:
            out.mkdir(parents=True, exist_ok=True)
            (out / MARKER).write_text(training_id, encoding="utf-8")
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ConfigError(f"--out {out} cannot be written to: {reason}") from error
