"""The logs of libraries: on the terminal if asked for, and in a file with times, without keys."""

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mipo_eval import __version__
from mipo_eval.errors import ConfigError
from mipo_eval.keys import masked

_OWN_HANDLERS = ("transformers", "huggingface_hub", "datasets", "lm_eval", "lm-eval")
"""Libraries that set up their own logging when they are imported, past the root logger."""
_SWITCHES = ("TRANSFORMERS_VERBOSITY", "HF_HUB_VERBOSITY", "DATASETS_VERBOSITY")
"""How loud those libraries are, read when they are imported."""


class _Masked(logging.Formatter):
    """A line with its time, without the secrets in it."""

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


class _LogFile(logging.FileHandler):
    """A file that takes lines until its disk is full, which is no reason to stop the work."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Say once that it ends here; what else goes wrong is told as ever."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        self.setLevel(logging.CRITICAL + 1)
        with suppress(OSError):
            print(  # noqa: T201
                f"mipo-eval: --log-file {self.baseFilename}: {error.strerror}; it ends here",
                file=sys.stderr,
            )

    def close(self) -> None:
        """Close it, whatever of it could be written."""
        with suppress(OSError):
            super().close()


class _Fixed(list[Any]):
    """Handlers of a library, which cannot add its own, to the terminal, when it is imported."""

    def append(self, _: Any) -> None:
        """Leave it out."""


@contextmanager
def logging_to(level: str, path: Path | None, *, command: str) -> Iterator[None]:
    """Show logs from a level on, and write all of them to a file, until the command ends.

    Args:
        level: "quiet", or "warning", "info" or "debug": from where on stderr shows logs.
        path: a file that lines are added to.
        command: what the file's first line says is running.

    Raises:
        ConfigError: the file cannot be written.
    """
    handlers: list[logging.Handler] = []
    if level != "quiet":
        handlers.append(logging.StreamHandler(sys.stderr))
        handlers[0].setLevel(level.upper())
    if path:
        try:
            handlers.append(_LogFile(path, encoding="utf-8"))
        except OSError as error:
            raise ConfigError(f"--log-file {path} cannot be written: {error.strerror}") from None
    if not handlers:
        yield
        return
    lowest = logging.DEBUG if path else getattr(logging, level.upper())
    for handler in handlers:
        handler.setFormatter(_Masked("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    own = logging.getLogger("mipo_eval")
    try:
        with _taken_over(handlers, lowest):
            own.info("%s begins, version %s", command, __version__)
            yield
            own.info("%s ends", command)
    finally:
        for handler in handlers:
            handler.close()


@contextmanager
def _taken_over(handlers: list[logging.Handler], lowest: int) -> Iterator[None]:
    root = logging.getLogger()
    own = [logging.getLogger(name) for name in _OWN_HANDLERS]
    before = [(one, one.level, one.handlers, one.propagate) for one in (root, *own)]
    switches = {name: os.environ.get(name) for name in _SWITCHES}
    os.environ.update(dict.fromkeys(_SWITCHES, logging.getLevelName(lowest).lower()))
    for logger in own:
        logger.setLevel(lowest)
        logger.handlers, logger.propagate = _Fixed(handlers), False
    root.setLevel(lowest)
    root.handlers = [*root.handlers, *handlers]
    try:
        yield
    finally:
        for logger, level, kept, propagate in before:
            logger.setLevel(level)
            logger.handlers, logger.propagate = kept, propagate
        for name, value in switches.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
