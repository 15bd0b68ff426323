"""One store of scripted runs for all tests of this folder."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mipo_eval.store import Store
from tests.dashboards.scripted import make_store


@pytest.fixture(scope="session")
def rich_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with something on every page; copy it to write in it."""
    return make_store(tmp_path_factory.mktemp("rich") / "rich.db")


@pytest.fixture
def rich(rich_file: Path, tmp_path: Path) -> Iterator[Store]:
    """A copy of that store."""
    with Store.open(str(shutil.copy(rich_file, tmp_path / "copy.db"))) as store:
        yield store
