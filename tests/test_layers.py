"""Imports go downwards only, and the rule that says so sees the four linked folders."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

import grimp
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


MAX_DEPTH = 14
"""Modules between a command and what it stands on: a reader has to go through all of them."""


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph("mipo_eval", include_external_packages=True, cache_dir=None)


def own_imports(graph: grimp.ImportGraph, module: str) -> set[str]:
    return {
        name
        for name in graph.find_modules_directly_imported_by(module)
        if name.startswith("mipo_eval")
    }


def test_no_chain_of_imports_is_long(graph: grimp.ImportGraph) -> None:
    known: dict[str, tuple[str, ...]] = {}

    def chain(module: str) -> tuple[str, ...]:
        """The longest chain of imports that begins with a module; there are no circles."""
        if module not in known:
            below = [chain(name) for name in own_imports(graph, module)]
            known[module] = (module, *max(below, key=len, default=()))
        return known[module]

    own = sorted(name for name in graph.modules if name.startswith("mipo_eval"))
    longest = max((chain(name) for name in own), key=len)
    assert 5 < len(longest) <= MAX_DEPTH, " > ".join(longest)


def test_only_the_store_speaks_sql(graph: grimp.ImportGraph) -> None:
    speakers = graph.find_modules_that_directly_import("sqlalchemy")
    assert "mipo_eval.store.engine" in speakers
    assert {name for name in speakers if not name.startswith("mipo_eval.store.")} == set()


def test_no_public_type_name_stands_in_two_modules() -> None:
    places: dict[str, list[str]] = {}
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            for node in ast.parse(path.read_text()).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    places.setdefault(node.name, []).append(str(path.relative_to(ROOT)))
    assert len(places) > 100
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
