"""What every test lives in: no network, no keys, its own folder for all state."""

import os
import sys
from pathlib import Path

# Before torch is imported, and for every process that a test starts: models of some thousand
# numbers gain nothing from a second thread, and two that wait for each other lose much beside a
# busy process.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from mipo_eval import settings

pytest_plugins = [
    "tests.small_models",
    "tests.reports.stores",
    "tests.awkward",
    "tests.postgres",
    "tests.vllm.server",
]

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
_SECRETS = ("KEY", "TOKEN", "SECRET", "PASSWORD")


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--moments 30` tries each fault at so many moments; `make soak` does."""
    parser.addoption("--moments", type=int, default=3)


@pytest.fixture(scope="session")
def moments(pytestconfig: pytest.Config) -> int:
    """At how many moments a fault is tried."""
    return int(pytestconfig.getoption("moments"))


@pytest.fixture(autouse=True)
def isolation(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Run each test in an empty folder, with state there and without anyone's keys."""
    for name in list(os.environ):
        if any(word in name.upper() for word in _SECRETS) or name.startswith("MIPO_EVAL_"):
            monkeypatch.delenv(name)
    # Streamlit's AppTest puts its script there, and spawned processes would run that.
    monkeypatch.setitem(sys.modules, "__main__", sys.modules["__main__"])
    monkeypatch.setenv(settings.STORE, str(tmp_path / "store.db"))
    # One cache per test session: what is made for several tests is made once.
    monkeypatch.setenv(settings.CACHE, str(tmp_path_factory.getbasetemp() / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data beside the checkout; tests that need it skip without it."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"real data not found at {SHARED_DATA}")
    return SHARED_DATA
