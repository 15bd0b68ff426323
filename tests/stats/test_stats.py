"""The public list of the package, and that importing it stays light."""

import subprocess
import sys
from types import ModuleType

from mipo_eval import stats


def test_public_names_are_sorted_and_exist() -> None:
    assert list(stats.__all__) == sorted(stats.__all__)
    assert all(hasattr(stats, name) for name in stats.__all__)
    # A function named like its module would hide the module.
    assert not any(isinstance(getattr(stats, name), ModuleType) for name in stats.__all__)


def test_import_needs_no_heavy_library() -> None:
    heavy = "{'torch', 'pandas', 'scipy'}"
    code = f"import sys, mipo_eval.stats; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
