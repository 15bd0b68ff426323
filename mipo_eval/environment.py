"""What numbers are made with: versions, machine and command, kept with every run and training.

What is kept is published sooner or later, and a command may hold a password: `masked` takes it out.
"""

import platform
import sys
from collections.abc import Iterable
from importlib import metadata

from mipo_eval import __version__
from mipo_eval.keys import masked

_LIBRARIES = ("lm_eval", "torch", "transformers", "vllm", "openai", "sacrebleu", "numpy")
KIND = "model_type"
"""In a run's environment: what tells the family of its model."""


def environment(
    libraries: Iterable[str] = _LIBRARIES, *, command: str | None = None
) -> dict[str, str]:
    """Return what numbers are made with: versions, machine, command; nothing is imported.

    Args:
        libraries: whose versions are told, of those that are installed.
        command: what was asked for; None: this process's arguments.
    """
    return {
        "mipo_eval": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "command": masked(" ".join(sys.argv[1:]) if command is None else command),
        **{name: found for name in libraries if (found := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
