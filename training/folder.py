"""The folder that a training writes to: whose it is, and what becomes of it when one fails."""

import fcntl
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

ROUNDS_FOLDER = "rounds"
"""Folder in the output with the checkpoints of earlier rounds, each in a folder of its number."""


@contextmanager
def claimed(out: Path, training_id: str, method: str) -> Iterator[None]:
    """Make the output folder a training's; one that fails before it has a checkpoint returns it.

    Raises:
        ConfigError: there is something else in it, it cannot be written to, or another process is
            training in it.
    """
    with main_process_first():
        claim(out, training_id, method)
    with _alone(out):
        try:
            yield
        except MipoEvalError:
            if is_main_process():
                _give_back(out)
            raise


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Keep other processes out of a folder; what a dead one held is free."""
    if not is_main_process():
        yield
        return
    with (out / MARKER).open(encoding="utf-8") as marker:
        try:
            fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigError(
                f"--out {out}: another process is training there: wait until it ends, or name "
                "another folder"
            ) from error
        except OSError:  # a file system without locks
            pass
        yield


def _give_back(out: Path) -> None:
    """Take what a failed training left out of its folder, unless it can continue from it."""
    within = (out / SWEEP_FOLDER, out / ROUNDS_FOLDER)
    tried = any(folder.is_dir() and any(folder.iterdir()) for folder in within)
    if tried or (out / "config.json").exists() or last_checkpoint(out / STEPS):
        return
    for name in (STEPS, START, f"{START}.part", SWEEP_FOLDER, ROUNDS_FOLDER):
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
    with _written(out):
        if out.is_dir() and any(out.iterdir()):
            found = holder(out)
            if found is None:
                raise ConfigError(
                    f"--out {out} is not empty: name another folder, or empty this one"
                )
            if found != training_id:
                raise ConfigError(
                    f"--out {out} contains another training ({found[:12]}; this {method} would be "
                    f"{training_id[:12]}): name another folder, or repeat the command that began "
                    "it"
                )
        elif out.exists() and not out.is_dir():
            raise ConfigError(f"--out {out} is a file: name a folder")
        else:
            out.mkdir(parents=True, exist_ok=True)
            (out / MARKER).write_text(training_id, encoding="utf-8")


def holder(out: Path) -> str | None:
    """Return the id of the training that a folder is claimed by, if there is one."""
    try:
        return (out / MARKER).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError):
        return None


def is_complete(out: Path) -> bool:
    """Whether a folder holds what a training ends with."""
    return (out / "config.json").is_file() and not (out / STEPS).exists()


def hand_over(out: Path, aside: Path, training_id: str) -> None:
    """Move what a training has written to another folder; the first is another training's then.

    A move that is broken off is made to its end by the next call: who holds a folder changes last.

    Raises:
        ConfigError: one of the two cannot be written to.
    """
    with _written(out):
        aside.mkdir(parents=True, exist_ok=True)
        for path in sorted(out.iterdir()):
            if path.name not in {MARKER, ROUNDS_FOLDER}:
                path.replace(aside / path.name)
        shutil.copyfile(out / MARKER, aside / MARKER)
        (out / MARKER).write_text(training_id, encoding="utf-8")


@contextmanager
def _written(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ConfigError(f"--out {out} cannot be written to: {reason}") from error
