"""`mipo-eval board`: it serves, passes options on, and says what is missing."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mipo_eval import settings
from mipo_eval.cli import main
from mipo_eval.store import Store
from tests.waiting import HANG, wait_until_served


def _fails(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["board", *argv]) == 2
    return capsys.readouterr().err


def test_a_named_store_that_is_not_there_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    error = _fails(capsys, "--store", str(tmp_path / "other.db"))
    assert f"there is no store at {tmp_path / 'other.db'}: run `mipo-eval demo`" in error


def test_a_file_that_is_no_store_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.db").write_text("Not a database, but long enough to be looked at. " * 20)
    assert "is not a database" in _fails(capsys, "--store", str(tmp_path / "notes.db"))


def test_without_streamlit_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "streamlit.web", None)
    error = _fails(capsys)
    assert "the board needs streamlit: pip install 'mipo-eval[board]'" in error


def test_rows_that_are_not_there_are_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--rows" in _fails(capsys, "--rows", "nowhere.yaml")


@pytest.mark.parametrize("so_far", ["made", "empty", "missing"])
def test_it_serves_under_a_base_path_with_options_of_streamlit(tmp_path: Path, so_far: str) -> None:
    store = tmp_path / "store.db"
    if so_far == "made":
        Store.open(str(store)).close()
    elif so_far == "empty":
        store.touch()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "mipo_eval", "board", f"--server.port={port}"]
    command += ["--server.headless=true"]
    command += ["--", "--server.baseUrlPath", "eval/board"]
    environment = {**os.environ, settings.STORE: str(store)}
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, cwd=tmp_path, env=environment)
    try:
        url = f"http://127.0.0.1:{port}/eval/board/_stcore/health"
        wait_until_served(url, process, log)
    finally:
        process.terminate()
        process.wait(HANG)
    said = log.read_text()
    assert "Collecting usage statistics" not in said
    assert "external IP" not in said  # which would have been asked for elsewhere
    assert f"URL: http://localhost:{port}/eval/board" in said
    assert ("The board waits for its first run" in said) == (so_far != "made")
    assert store.exists() == (so_far != "missing")  # nothing is written, not even an empty store
    assert so_far != "empty" or not store.stat().st_size
