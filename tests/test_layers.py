"""Imports go downwards only, and the rule that says so sees the four linked folders."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("mipo_eval", "tasks", "judges", "training", "dashboards")


def lint_imports(project: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter on the checkout in `project`."""
    command = (Path(sys.executable).with_name("lint-imports"), "--no-cache")
    return subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)


def test_contracts_are_kept() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "line", "broken"),
    [
        ("mipo_eval/errors.py", "import mipo_eval.cli", "imports go downwards only"),
        ("judges/__init__.py", "import mipo_eval.tasks", "imports go downwards only"),
        ("dashboards/__init__.py", "import torch", "the board never reaches a deep-learning"),
        ("dashboards/__init__.py", "import sqlalchemy", "the board asks the store by its readers"),
        ("mipo_eval/newcomer.py", "", "imports go downwards only"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(
    tmp_path: Path, module: str, line: str, broken: str
) -> None:
    for folder in FOLDERS:
        hidden = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, tmp_path / folder, symlinks=True, ignore=hidden)
    shutil.copyfile(ROOT / "pyproject.toml", tmp_path / "pyproject.toml")
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert any(broken in row and row.endswith("BROKEN") for row in done.stdout.splitlines())
