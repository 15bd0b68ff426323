"""The public list of the package, and that it costs no deep-learning import."""

import subprocess
import sys

from mipo_eval import metrics


def test_public_names_are_sorted_and_exist() -> None:
    assert list(metrics.__all__) == sorted(metrics.__all__)
    assert all(hasattr(metrics, name) for name in metrics.__all__)


def test_import_needs_no_heavy_library() -> None:
    heavy = "{'torch', 'transformers', 'pandas', 'scipy', 'nltk', 'sacrebleu'}"
    code = f"import sys, mipo_eval.metrics; print(sorted({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
