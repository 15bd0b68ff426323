"""The PostgreSQL of the tests is a real one, and no test sees another's tables."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import sqlalchemy

from tests.postgres import Server, find_binaries, reachable_binaries, run_as, server_user


@pytest.mark.parametrize("attempt", [1, 2])
def test_each_test_gets_an_empty_database_of_a_real_server(postgres_url: str, attempt: int) -> None:
    engine = sqlalchemy.create_engine(postgres_url)
    with engine.begin() as connection:
        version = connection.execute(sqlalchemy.text("SELECT version()")).scalar_one()
        connection.execute(sqlalchemy.text("CREATE TABLE fact (id int)"))
    engine.dispose()
    assert version.startswith("PostgreSQL ")


def test_the_database_goes_away_while_a_connection_is_open(postgres_server: Server) -> None:
    import psycopg

    postgres_server.execute("CREATE DATABASE held")
    held = psycopg.connect(f"host={postgres_server.folder} user=postgres dbname=held")
    postgres_server.execute("DROP DATABASE held WITH (FORCE)")
    with pytest.raises(psycopg.OperationalError):
        held.execute("SELECT 1")
    held.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to hand the binaries on")
def test_binaries_in_a_closed_folder_are_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    user = server_user()
    assert user is not None
    with tempfile.TemporaryDirectory() as closed, tempfile.TemporaryDirectory() as opened:
        installed = Path(closed) / "site-packages"
        shutil.copytree(find_binaries().parent, installed)
        os.chown(opened, user.pw_uid, user.pw_gid)
        monkeypatch.setattr("tests.postgres.find_binaries", lambda: installed / "bin")
        binaries = reachable_binaries(user, Path(opened))
        assert binaries.is_relative_to(opened)
        run_as(user, [binaries / "postgres", "--version"], Path(opened))
