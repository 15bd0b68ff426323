"""Map, links, guards and folders say the same, and everything that is needed ships.

The four folders at the top are packages of `mipo_eval` twice over: setuptools' map decides what a
wheel holds, four links let every other tool see the same files. Either can go wrong alone.
"""

import ast
import importlib
import importlib.metadata
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mipo_eval import __version__

ROOT = Path(__file__).parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
FOLDERS = ("tasks", "judges", "training", "dashboards")
PACKAGES: list[str] = PYPROJECT["tool"]["setuptools"]["packages"]
NOT_SOURCE = re.compile(r"__pycache__|/\.")
NOT_FROM_HERE = re.compile(r"^(nvidia|cuda|triton)")
"""What a CUDA build of torch brings along; its versions are torch's own business."""


NOT_DECLARED = {"pydantic_core", "vllm", "wandb", "trackio", "mlflow", "tensorboard"}
"""The inner half of pydantic, and extras that the tests' environment does not have."""


def source_files() -> set[str]:
    """Every file of the five source folders, by its path inside `mipo_eval`'s parent."""
    found = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "mipo_eval").rglob("*")
        if path.is_file() and path.relative_to(ROOT / "mipo_eval").parts[0] not in FOLDERS
    }
    for folder in FOLDERS:
        files = (path for path in (ROOT / folder).rglob("*") if path.is_file())
        found |= {f"mipo_eval/{path.relative_to(ROOT).as_posix()}" for path in files}
    return {path for path in found if not NOT_SOURCE.search(path)}


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    """Run `code` from the project's root, where the four folders could be imported bare."""
    command = (sys.executable, "-c", code)
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_map_names_the_four_folders() -> None:
    expected = {"mipo_eval": "mipo_eval"} | {f"mipo_eval.{name}": name for name in FOLDERS}
    assert PYPROJECT["tool"]["setuptools"]["package-dir"] == expected


@pytest.mark.parametrize("folder", FOLDERS)
def test_link_points_to_the_folder(folder: str) -> None:
    assert (ROOT / "mipo_eval" / folder).readlink() == Path("..", folder)


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_is_importable_under_its_one_name(folder: str) -> None:
    package = importlib.import_module(f"mipo_eval.{folder}")
    assert package.__file__ is not None
    assert Path(package.__file__).resolve() == ROOT / folder / "__init__.py"


@pytest.mark.parametrize("folder", FOLDERS)
def test_bare_import_is_refused_with_the_right_name(folder: str) -> None:
    done = run_python(f"import {folder}")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("ImportError: ")
    assert f"mipo_eval.{folder}" in done.stderr.strip().splitlines()[-1]


def test_every_folder_of_code_is_a_listed_package() -> None:
    with_code = {Path(path).parent for path in source_files() if path.endswith(".py")}
    assert sorted(PACKAGES) == sorted(".".join(folder.parts) for folder in with_code)
    for folder in with_code:
        assert (ROOT / folder / "__init__.py").is_file(), f"{folder} has no __init__.py"


def ignored_by_copy(folder: str, names: list[str]) -> set[str]:
    """Leave out what is not source, so that nothing stale reaches the wheel."""
    return {
        name
        for name in names
        if name.startswith(".") or name.endswith(".egg-info")
        if Path(folder) == ROOT
    } | ({"__pycache__", "build", "dist"} & set(names))


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from a source archive, which is built from a clean copy of this checkout."""
    copy = tmp_path_factory.mktemp("wheel") / "source"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=ignored_by_copy)
    # No isolation: the environment's own setuptools, since tests have no network.
    command = (sys.executable, "-m", "build", "--no-isolation", "--outdir", copy.parent, copy)
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=copy.parent)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (built,) = copy.parent.glob("*.whl")
    return built


def test_wheel_holds_exactly_the_source_files(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {name for name in names if ".dist-info/" not in name}
    assert sorted(shipped) == sorted(source_files())


def test_wheel_declares_command_licence_and_types(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (entry_points,) = (n for n in archive.namelist() if n.endswith("entry_points.txt"))
        assert "mipo-eval = mipo_eval.cli:main" in archive.read(entry_points).decode()
        assert any(name.endswith("licenses/LICENSE") for name in archive.namelist())
        assert "mipo_eval/py.typed" in archive.namelist()


@pytest.mark.parametrize("name", PACKAGES)
def test_public_names_exist_and_are_all_listed(name: str) -> None:
    """Their order is checked by ruff (RUF022)."""
    package = importlib.import_module(name)
    listed: list[str] = getattr(package, "__all__", [])
    assert len(listed) == len(set(listed))
    assert [public for public in listed if not hasattr(package, public)] == []
    ours = {
        public
        for public, value in vars(package).items()
        if not public.startswith("_")
        if (str(getattr(value, "__module__", "")) + ".").startswith(f"{name}.")
    }
    assert sorted(ours - set(listed)) == []


def pins() -> dict[str, str]:
    """The versions of constraints.txt, by normalised name."""
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    found: dict[str, str] = {canonicalize_name(name): version for name, version in pairs}
    assert len(found) == len(pairs), "a name is pinned twice"
    return found


def declared_requirements() -> Iterator[Requirement]:
    """What pyproject.toml asks for, core and extras, without our own name."""
    project = PYPROJECT["project"]
    lines = [*project["dependencies"], *PYPROJECT["build-system"]["requires"]]
    for extra, wanted in project["optional-dependencies"].items():
        lines += wanted if extra not in {"vllm", "all"} else []
    for requirement in map(Requirement, lines):
        if requirement.name != project["name"]:
            yield requirement


def imported_libraries() -> set[str]:
    """Top-level names of every import in the five folders, ours and Python's own aside."""
    names: set[str] = set()
    for file in source_files():
        if file.endswith(".py"):
            for node in ast.walk(ast.parse((ROOT / file).read_text())):
                if isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    names.add(node.module)
    return {name.partition(".")[0] for name in names} - sys.stdlib_module_names - {"mipo_eval"}


def test_every_imported_library_is_declared() -> None:
    """An import that works because another package brings the library breaks some day."""
    distributions = importlib.metadata.packages_distributions()
    declared = {canonicalize_name(requirement.name) for requirement in declared_requirements()}
    undeclared = {
        name
        for name in imported_libraries() - NOT_DECLARED
        if not declared & {canonicalize_name(dist) for dist in distributions.get(name, [])}
    }
    assert sorted(undeclared) == []


def test_every_declared_requirement_is_pinned_within_its_bounds() -> None:
    pinned = pins()
    for requirement in declared_requirements():
        version = pinned.get(canonicalize_name(requirement.name))
        assert version is not None, f"constraints.txt has no {requirement.name}"
        assert requirement.specifier.contains(version), f"{requirement} against {version}"


def test_what_the_requirements_bring_along_is_pinned_too() -> None:
    """Walk the installed distributions; an unpinned one may change under us any day."""
    seen: set[tuple[str, str]] = set()
    queue = [(req.name, extra) for req in declared_requirements() for extra in ["", *req.extras]]
    while queue:
        name, extra = queue.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            wanted = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # for another platform or Python
        for requirement in map(Requirement, wanted):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                queue += [(requirement.name, more) for more in ["", *requirement.extras]]
    installed = {canonicalize_name(d.name) for d in importlib.metadata.distributions()}
    reached = {canonicalize_name(name) for name, _ in seen} & installed
    missing = sorted(name for name in reached - pins().keys() if not NOT_FROM_HERE.match(name))
    assert missing == [], "constraints.txt does not pin these"


def test_the_version_is_the_same_wherever_it_is_said() -> None:
    """pyproject.toml reads it from the package; a changelog may have nothing released yet."""
    assert PYPROJECT["tool"]["setuptools"]["dynamic"]["version"]["attr"] == "mipo_eval.__version__"
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## \[(\d[^]]*)\]", changelog, re.MULTILINE)[:1] in ([], [__version__])
