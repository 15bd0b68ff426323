"""mipo-eval: evaluate, judge, train and compare personalized language models.

Built around Mutual Information Preference Optimization (MIPO, arXiv 2603.19294). The folders
`tasks/`, `judges/`, `training/` and `dashboards/` at the top of the repository are the packages
`mipo_eval.tasks`, `mipo_eval.judges`, `mipo_eval.training` and `mipo_eval.dashboards`.

In Python: `evaluate`, `judge`, `validate`, `train`, `compare`, `leaderboard` and `open_store`, of
`mipo_eval.api`, which is imported when one of them is first used.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__version__ = "0.2.0"

_API = ("compare", "evaluate", "judge", "leaderboard", "open_store", "train", "validate")
__all__ = list(_API)


def __getattr__(name: str) -> Any:
    if name in _API:  # not an import of this file: everything below imports it
        return getattr(import_module("mipo_eval.api"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class _Package(ModuleType):
    @property
    def compare(self) -> Any:
        """The function; the subpackage of that name is imported from, and not looked up here."""
        return __getattr__("compare")

    @compare.setter
    def compare(self, _: ModuleType) -> None:
        """Take no notice: importing the subpackage would put it in the function's place."""


sys.modules[__name__].__class__ = _Package
